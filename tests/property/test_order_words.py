"""What an operation counts for follows from its words and the gateway's times, not from how they came."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from schemas.records.orders import WordRow
from schemas.vocabulary import Outcome
from streams.domain.limits import MAX_WORDS
from streams.domain.words import counted, disputed, ran_out, with_word

KINDS = [Outcome.SUCCEEDED, Outcome.REVERSED, Outcome.DISPUTE_OPENED, Outcome.DISPUTE_WON, Outcome.DISPUTE_LOST]


@st.composite
def lives(draw: st.DrawFn) -> list[WordRow]:
    """A success, then words of distinct times."""
    later = draw(
        st.lists(
            st.builds(
                WordRow,
                outcome=st.sampled_from(KINDS),
                amount_minor=st.integers(1, 10_000),
                case=st.sampled_from(["a", "b", "c"]),
                occurred_at_ms=st.integers(1, 10_000),
                by_desk=st.booleans(),
            ),
            max_size=MAX_WORDS - 1,
            unique_by=lambda word: word.occurred_at_ms,
        )
    )
    # What a person decides says what the operation counts for, as a success does.
    plain = [
        replace(each, case=None) if each.outcome is Outcome.SUCCEEDED else replace(each, by_desk=False)
        for each in later
    ]
    return [WordRow(outcome=Outcome.SUCCEEDED, amount_minor=10_000, case=None, occurred_at_ms=0), *plain]


def expected(words: Sequence[WordRow]) -> int:
    """By definition: the last success, less the cases whose last word since then is that they took something."""
    in_time = sorted(words, key=lambda each: each.occurred_at_ms)
    last = max(index for index, each in enumerate(in_time) if each.outcome is Outcome.SUCCEEDED)
    since = in_time[last + 1 :]
    taken = 0
    for case in {each.case for each in since}:
        said = [each for each in since if each.case == case and each.outcome is not Outcome.DISPUTE_OPENED]
        if said and said[-1].outcome is not Outcome.DISPUTE_WON:
            taken += said[-1].amount_minor
    return max(0, in_time[last].amount_minor - taken)


def heard(words: Sequence[WordRow]) -> tuple[WordRow, ...]:
    kept: tuple[WordRow, ...] = ()
    for word in words:
        kept = with_word(kept, word)
    return kept


@given(st.data(), lives())
def test_any_order_of_arrival_counts_the_same(data: st.DataObject, life: list[WordRow]) -> None:
    first, later = life[0], data.draw(st.permutations(life[1:]))
    kept = heard([first, *later])
    assert counted(kept) == expected(life)
    assert disputed(kept) == disputed(life)


@given(st.data(), lives(), st.integers(1, 3))
def test_any_order_of_arrival_counts_the_same_when_many_words_are_of_one_time(
    data: st.DataObject, life: list[WordRow], times: int
) -> None:
    """Gateways tell seconds: of one time what presupposes another comes after it, whoever was quicker."""
    said = [life[0], *(replace(each, occurred_at_ms=1 + each.occurred_at_ms % times) for each in life[1:])]
    one, other = (heard([said[0], *data.draw(st.permutations(said[1:]))]) for _ in range(2))
    assert (counted(one), disputed(one), ran_out(one)) == (counted(other), disputed(other), ran_out(other))
    assert counted(one) == expected(sorted(said, key=_rank))


def _rank(word: WordRow) -> tuple[int, bool, int]:
    """The rule for words of one time, told once more."""
    order = ("succeeded", "expired", "dispute_opened", "reversed dispute_lost", "dispute_won")
    place = next(number for number, names in enumerate(order) if word.outcome.value in names.split())
    return place, word.by_desk, word.amount_minor


@given(st.data(), lives())
def test_word_that_comes_again_changes_nothing(data: st.DataObject, life: list[WordRow]) -> None:
    kept = heard(life)
    again = data.draw(st.lists(st.sampled_from(life)))
    assert counted(heard([*life, *again])) == counted(kept)


@given(lives(), lives())
def test_words_beyond_the_limit_count_as_all_of_them_when_they_come_in_order(
    one: list[WordRow], two: list[WordRow]
) -> None:
    shifted = [
        WordRow(
            outcome=each.outcome,
            amount_minor=each.amount_minor,
            case=each.case,
            occurred_at_ms=each.occurred_at_ms + 20_000,
            by_desk=each.by_desk,
        )
        for each in two
    ]
    life = [*sorted(one, key=lambda each: each.occurred_at_ms), *sorted(shifted, key=lambda each: each.occurred_at_ms)]
    assert counted(heard(life)) == expected(life)
    assert len(heard(life)) <= MAX_WORDS
