"""What gateways say of an operation, in one shape, and what its words come to.

Made by `order` from results and notices, judged by `outcomes`. A word about an operation that was carried out stays in
its row. What the operation counts for follows from all of them, in the order of the gateway's own times: so a word that
comes late changes nothing that a later one has settled.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from gateway_adapters.contract import GatewayNotice
from schemas import identifiers
from schemas.identifiers import AccountName, GatewayName
from schemas.quick_init import quick_init, replace
from schemas.records.gateway import GatewayCallCompleted, OperationError
from schemas.records.orders import OperationRow, WordRow
from schemas.vocabulary import CallKind, Outcome
from streams.domain.limits import MAX_CASE_CHARS, MAX_WORDS

DISPUTES: Final = frozenset({Outcome.DISPUTE_OPENED, Outcome.DISPUTE_WON, Outcome.DISPUTE_LOST})
TAKEN: Final = frozenset({Outcome.REVERSED, Outcome.DISPUTE_LOST})
"""The words by which some or all of a success is taken back."""

LATER_WORDS: Final = DISPUTES | {Outcome.REVERSED, Outcome.EXPIRED}
"""What can be said only of an operation that was carried out."""

_OF_ONE_TIME: Final = {
    Outcome.SUCCEEDED: 0,
    Outcome.EXPIRED: 1,
    Outcome.DISPUTE_OPENED: 2,
    Outcome.REVERSED: 3,
    Outcome.DISPUTE_LOST: 3,
    Outcome.DISPUTE_WON: 4,
}
"""In which order words of one time count: each presupposes one of those before it. Many gateways tell seconds."""

FOLDED: Final = "folded"
"""The case of a success that stands for words which had no room any more: nothing older than it is listened to."""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One statement. `call_number` and `attempt` are None of a notice, which answers no call."""

    outcome: Outcome
    gateway: GatewayName
    account: AccountName
    attempt: int | None
    call_number: int | None
    inquiry: bool
    gateway_reference: str | None
    payment_reference: str | None
    confirmed_amount_minor: int | None
    confirmed_currency: str | None
    action_url: str | None
    error: OperationError | None
    sole: bool  # of a decline: the answer to the only copy of the call that was made
    replayed: bool  # stored under the attempt's key, and given again whenever the call is made again
    case: str | None
    occurred_at_ms: int | None  # by the gateway's clock; None: it does not say

    def answers(self, operation: OperationRow) -> bool:
        """Return whether this is the word on the call that the operation waits for."""
        return operation.call_kind is not None and self.call_number == operation.call_number

    def is_ahead_of(self, operation: OperationRow) -> bool:
        """Return whether this answers a later attempt than the operation knows of."""
        return self.attempt is not None and self.attempt > operation.attempt

    def concerns(self, operation: OperationRow) -> bool:
        """Return whether this is about the operation's last attempt, and not about one that was given up.

        A notice names no attempt, and an earlier one may have been made at the same gateway: its object has another
        reference. While the last one's is not known, nobody can tell them apart, and the notice counts for the last.
        """
        if (self.gateway, self.account) != (operation.gateway, operation.account):
            return False
        return self.attempt == operation.attempt or (self.attempt is None and not self.names_another(operation))

    def may_be_of_an_earlier(self, operation: OperationRow) -> bool:
        """Return whether nobody can tell this from a word on an earlier attempt at the same gateway."""
        if self.attempt is not None or operation.gateway_reference is not None:
            return False
        here = (self.gateway, self.account)
        return any((each.gateway, each.account) == here for each in operation.earlier_attempts)

    def names_another(self, operation: OperationRow) -> bool:
        """Return whether this is about another object of the gateway than the one known to be the operation's."""
        named = self.gateway_reference
        if named is None:
            return False
        if any(each.gateway_reference == named for each in operation.earlier_attempts):
            return True
        return operation.gateway_reference is not None and operation.gateway_reference != named


def of_result(result: GatewayCallCompleted) -> Evidence:
    """Return what the call's result says."""
    return Evidence(
        outcome=result.outcome,
        gateway=result.gateway,
        account=result.account,
        attempt=result.attempt,
        call_number=result.call_number,
        inquiry=result.kind is CallKind.INQUIRE,
        gateway_reference=result.gateway_reference,
        payment_reference=result.payment_reference,
        confirmed_amount_minor=result.confirmed_amount_minor,
        confirmed_currency=result.confirmed_currency,
        action_url=result.action_url,
        error=result.error,
        sole=result.sole,
        replayed=result.replayed and result.kind is not CallKind.INQUIRE,
        case=_kept_case(result.case_reference),
        occurred_at_ms=result.occurred_at_ms,
    )


def of_notice(notice: GatewayNotice, account: AccountName) -> Evidence:
    """Return what the notice says, which came to this account.

    A part that is taken back without a case of its own is one for each notice.
    """
    return Evidence(
        outcome=notice.outcome,
        gateway=notice.gateway,
        account=account,
        attempt=None,
        call_number=None,
        inquiry=False,
        gateway_reference=notice.gateway_reference,
        payment_reference=notice.payment_reference,
        confirmed_amount_minor=notice.confirmed_amount_minor,
        confirmed_currency=notice.confirmed_currency,
        action_url=None,
        error=notice.error,
        sole=False,
        replayed=False,
        case=case_of(notice),
        occurred_at_ms=notice.occurred_at_ms,
    )


def case_of(notice: GatewayNotice) -> str | None:
    """Return what tells this reversal or dispute from others; None when the notice takes back all there is."""
    partial = notice.outcome in TAKEN and notice.confirmed_amount_minor is not None
    return _kept_case(notice.case_reference or (notice.notice_id if partial else None))


def _kept_case(name: str | None) -> str | None:
    if name is None or (len(name) <= MAX_CASE_CHARS and name != FOLDED):
        return name
    return identifiers.fingerprint("case", name)


def word_of(evidence: Evidence, operation: OperationRow, *, now_ms: int) -> WordRow:
    """Return the word that the evidence adds to an operation that was carried out.

    A word without a time is the answer to a call, which all else came after; unless it takes something back, for then
    it tells how things stand now, by the log's time: an older success that comes late is no recapture.
    """
    case = evidence.case if evidence.outcome in DISPUTES | TAKEN else None
    latest_ms = max((each.occurred_at_ms for each in operation.words), default=0)
    # Said before, it is the same word: an answer may be read again after a crash.
    same = (each.occurred_at_ms for each in operation.words if (each.outcome, each.case) == (evidence.outcome, case))
    untimed_ms = next(same, max(latest_ms, now_ms)) if evidence.outcome in LATER_WORDS else 0
    said_minor = (each.amount_minor for each in operation.words if not each.by_desk)
    whole_minor = max(said_minor, default=operation.amount_minor)
    return WordRow(
        outcome=evidence.outcome,
        amount_minor=whole_minor if evidence.confirmed_amount_minor is None else evidence.confirmed_amount_minor,
        case=case,
        occurred_at_ms=untimed_ms if evidence.occurred_at_ms is None else evidence.occurred_at_ms,
    )


def with_word(words: tuple[WordRow, ...], word: WordRow) -> tuple[WordRow, ...]:
    """Return the words with this one, the same tuple when it says nothing new. Twice is safe.

    Of two successes with nothing between them the later is kept: each says what the operation counts for from then on.
    """
    if not words:
        return (word,)
    if word in words or any(_is_settled_by(each, word) for each in words):
        return words
    if word.outcome is Outcome.SUCCEEDED and not word.by_desk:
        timed = in_time((*words, word))
        at = timed.index(word)
        if at + 1 < len(timed) and _is_plain_success(timed[at + 1]):
            return words
        if at > 0 and _is_plain_success(timed[at - 1]) and timed[at - 1].case is None:
            return tuple(word if each is timed[at - 1] else each for each in words)
    words = (*words, word)
    return words if len(words) <= MAX_WORDS else _folded(words)


def _is_plain_success(word: WordRow) -> bool:
    return word.outcome is Outcome.SUCCEEDED and not word.by_desk


def are_decided(words: Iterable[WordRow]) -> bool:
    """Return whether a person has said what the operation counts for."""
    return any(each.by_desk for each in words)


def contradicts_desk(words: Collection[WordRow], word: WordRow) -> bool:
    """Return whether this word of a gateway is older than a person's, and the gateway's words come to another sum.

    The person's verdict stands. That it is contradicted is for a person to look at.
    """
    timed = in_time(words)
    if word not in timed or not any(each.by_desk for each in timed[timed.index(word) + 1 :]):
        return False
    return counted(each for each in words if not each.by_desk) != counted(words)


def is_decided_by_its_date(words: tuple[WordRow, ...], word: WordRow) -> bool:
    """Return whether this word's date alone decides what these words come to with it: a later one would say otherwise.

    Or it was said before, of another time, and more counts by its being said again.
    """
    last_ms = max((each.occurred_at_ms for each in words), default=0) + 1
    now_said = with_word(words, word)
    if counted(now_said) != counted(with_word(words, replace(word, occurred_at_ms=max(last_ms, word.occurred_at_ms)))):
        return True
    before = ((each.outcome, each.case) for each in words if not each.by_desk)
    return counted(now_said) > counted(words) and (word.outcome, word.case) in before


def _is_settled_by(earlier: WordRow, word: WordRow) -> bool:
    return earlier.case == FOLDED and word.occurred_at_ms <= earlier.occurred_at_ms


def _folded(words: Collection[WordRow]) -> tuple[WordRow, ...]:
    """Return the words with the oldest half said as one success: what came of them until then."""
    timed = in_time(words)
    until_ms = timed[len(timed) // 2].occurred_at_ms
    gone = [each for each in timed if each.occurred_at_ms <= until_ms]
    base = WordRow(outcome=Outcome.SUCCEEDED, amount_minor=counted(gone), case=FOLDED, occurred_at_ms=until_ms)
    return (base, *(each for each in words if each.occurred_at_ms > until_ms))


def in_time(words: Iterable[WordRow]) -> list[WordRow]:
    """Return the words in the order of the gateway's times; how they came does not matter.

    Of one time: what was carried out, that it ran out, disputes that began, what was taken back, and disputes that were
    won. Of these alike: a person's word after the gateway's, and the greater amount last. Answers that name no time
    stand as they came: a later one corrects an earlier.
    """
    timed = list(words)
    if len(timed) > 1:  # nearly every operation has one word, and is asked for its sums some ten times
        timed.sort(key=_place)
    return timed


def _place(word: WordRow) -> tuple[int, int, bool, int]:
    amount_minor = word.amount_minor if word.occurred_at_ms else 0
    return word.occurred_at_ms, _OF_ONE_TIME[word.outcome], word.by_desk, amount_minor


def counted(words: Iterable[WordRow]) -> int:
    """Return the minor units that these words make their operation count for now; 0 without any.

    A success is absolute. What is taken back counts once for each case, and comes back when its dispute is won.
    """
    return max(0, left(words))


def are_folded(words: Iterable[WordRow]) -> bool:
    """Return whether some words had no room: their cases cannot be told apart any more, and a person has to look."""
    return any(each.case == FOLDED for each in words)


def left(words: Iterable[WordRow]) -> int:
    """Return what these words leave of their operation, minor units; below 0 when more is taken back than there was."""
    base_minor, taken_minor = 0, dict[str | None, int]()
    for word in in_time(words):
        if word.outcome is Outcome.SUCCEEDED:
            base_minor, taken_minor = word.amount_minor, {}
        elif word.outcome in TAKEN:
            taken_minor[word.case] = word.amount_minor
        elif word.outcome is Outcome.DISPUTE_WON:
            taken_minor.pop(word.case, None)
    return base_minor - sum(taken_minor.values())


def are_taken_twice(words: Iterable[WordRow]) -> bool:
    """Return whether some of what is taken back may be the same money, where no reversal names its dispute.

    A reversal beside a dispute that has ended may have carried it out, or may have come back with it. Each is taken
    away as if it were of its own: what is left is not too much, but may be too little.
    """
    reversed_cases, ended = set[str | None](), set[str | None]()
    for word in in_time(words):
        if word.outcome is Outcome.SUCCEEDED:
            reversed_cases, ended = set(), set()
        elif word.outcome is Outcome.REVERSED:
            reversed_cases.add(word.case)
        elif word.outcome in {Outcome.DISPUTE_WON, Outcome.DISPUTE_LOST}:
            ended.add(word.case)
    return bool(ended) and bool(reversed_cases - ended)


def are_lost(words: Iterable[WordRow]) -> bool:
    """Return whether a dispute is lost by these words."""
    lost = set[str | None]()
    for word in in_time(words):
        if word.outcome is Outcome.SUCCEEDED:
            lost = set()
        elif word.outcome is Outcome.DISPUTE_LOST:
            lost.add(word.case)
        elif word.outcome is Outcome.DISPUTE_WON:
            lost.discard(word.case)
    return bool(lost)


def disputed(words: Iterable[WordRow]) -> int:
    """Return the minor units in disputes that are open by these words."""
    open_minor: dict[str | None, int] = {}
    for word in in_time(words):
        if word.outcome is Outcome.DISPUTE_OPENED:
            open_minor[word.case] = word.amount_minor
        elif word.outcome in DISPUTES:
            open_minor.pop(word.case, None)
    return sum(open_minor.values())


def ran_out(words: Iterable[WordRow]) -> bool:
    """Return whether these words say that the hold ran out, and nothing later that it stands."""
    expired = False
    for word in in_time(words):
        if word.outcome is Outcome.SUCCEEDED or word.outcome is Outcome.EXPIRED:
            expired = word.outcome is Outcome.EXPIRED
    return expired
