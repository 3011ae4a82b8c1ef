"""In doubt: a gateway that says when to come again is looked at then, within limits, beside the schedule."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import OpId
from schemas.vocabulary import CallKind, OperationState, Outcome, RetryAdvice
from streams.domain.limits import (
    ASKED_LOOKS_A_PAUSE,
    MAX_ASKED_PAUSE_MS,
    MIN_ASKED_PAUSE_MS,
    RECONCILE_AFTER_MS,
)
from tests.support.doubtful_orders import RESEND_ADVISED, WINDOWS, looked
from tests.support.order_desk import NOT_FOUND, SUCCESS, Desk, Said, error, refund, refusal, sale

TEN_MINUTES: Final = 3
"""The schedule's first pause of ten minutes."""
SECOND_MS: Final = 1_000


def asked_to_wait(retry_after_ms: int | None, outcome: Outcome = Outcome.NOT_EXECUTED) -> Said:
    """A 429: of a sending it says that nothing was done, of an inquiry nothing at all."""
    return Said(outcome=outcome, error=error(RetryAdvice.NEW_KEY_LATER, retry_after_ms=retry_after_ms), reference=None)


def in_doubt() -> tuple[Desk, OpId]:
    """A refund in doubt, of which the gateway knows nothing and which it may be asked for again for ever."""
    desk = Desk(rules=WINDOWS)
    desk.do(sale())
    return desk, desk.do(refund(desk.payment.payment_id), RESEND_ADVISED)


def pause_ms(desk: Desk, op_id: OpId) -> int:
    return desk.timers[op_id].due_at_ms - desk.now_ms


def at_ten_minutes(said: Said) -> tuple[Desk, OpId]:
    """The same, when the call was just made again and answered so, and the schedule would wait for ten minutes."""
    desk, op_id = in_doubt()
    for _ in range(TEN_MINUTES):
        looked(desk, op_id, NOT_FOUND)
        desk.call(said)
    assert desk.state(op_id) is OperationState.UNKNOWN
    return desk, op_id


@pytest.mark.parametrize("outcome", [Outcome.NOT_EXECUTED, Outcome.UNKNOWN], ids=["refused", "refused-twice-sent"])
def test_next_look_comes_when_the_gateway_asks_for_it_and_not_ten_minutes_later(outcome: Outcome) -> None:
    desk, op_id = at_ten_minutes(refusal(RetryAdvice.OTHER_GATEWAY))
    assert pause_ms(desk, op_id) == RECONCILE_AFTER_MS[TEN_MINUTES] == 600 * SECOND_MS
    looked(desk, op_id, NOT_FOUND)
    desk.call(asked_to_wait(SECOND_MS, outcome))
    assert MIN_ASKED_PAUSE_MS <= pause_ms(desk, op_id) == 10 * SECOND_MS
    desk.script.append(SUCCESS)
    assert looked(desk, op_id, NOT_FOUND).kind is CallKind.INQUIRE
    assert desk.requests[0].kind is CallKind.REFUND
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


def test_gateway_that_asks_for_longer_than_the_schedule_is_left_alone_so_long() -> None:
    desk, op_id = in_doubt()
    looked(desk, op_id, NOT_FOUND)
    desk.call(asked_to_wait(90 * SECOND_MS))
    assert pause_ms(desk, op_id) == 90 * SECOND_MS > RECONCILE_AFTER_MS[1]


def test_gateway_that_asks_for_a_day_is_looked_at_after_the_longest_pause() -> None:
    desk, op_id = in_doubt()
    looked(desk, op_id, NOT_FOUND)
    desk.call(asked_to_wait(86_400 * SECOND_MS))
    assert pause_ms(desk, op_id) == MAX_ASKED_PAUSE_MS


def test_look_that_was_asked_for_replaces_a_later_one_of_the_schedule() -> None:
    """Another operation wants to know at once; the call that this makes again is told to wait for a second."""
    desk, op_id = at_ten_minutes(refusal(RetryAdvice.OTHER_GATEWAY))
    first = desk.timers[op_id]
    desk.do(refund(desk.payment.payment_id, key="another"), NOT_FOUND, asked_to_wait(SECOND_MS))
    assert pause_ms(desk, op_id) == 10 * SECOND_MS
    assert desk.timers[op_id].number == first.number + 1
    desk.fire_timer(first)  # late, by another worker: it means nothing now
    assert len(desk.requests) == 0


def test_look_of_the_schedule_stays_when_the_gateway_asks_for_a_later_one_out_of_turn() -> None:
    desk, op_id = at_ten_minutes(refusal(RetryAdvice.OTHER_GATEWAY))
    first = desk.timers[op_id]
    desk.do(refund(desk.payment.payment_id, key="another"), NOT_FOUND, asked_to_wait(899 * SECOND_MS))
    assert desk.timers[op_id] == first


def test_looks_that_were_asked_for_do_not_use_up_the_schedule() -> None:
    """Throttled for a minute, an operation would else be a person's after thirteen looks."""
    desk, op_id = in_doubt()
    began_ms = desk.now_ms
    looks = 0
    while desk.now_ms < began_ms + 60 * SECOND_MS:
        looked(desk, op_id, asked_to_wait(SECOND_MS, Outcome.UNKNOWN))
        looks += 1
    assert looks > len(RECONCILE_AFTER_MS)
    assert desk.state(op_id) is OperationState.UNKNOWN
    assert desk.operation(op_id).inquiries <= 3


def test_person_decides_at_last_when_the_gateway_asks_for_another_look_for_ever() -> None:
    desk, op_id = in_doubt()
    looks = 0
    while op_id in desk.timers:
        looked(desk, op_id, asked_to_wait(0, Outcome.UNKNOWN))
        looks += 1
        assert looks <= ASKED_LOOKS_A_PAUSE * len(RECONCILE_AFTER_MS)
    assert desk.state(op_id) is OperationState.MANUAL_REVIEW


@given(
    answers=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(0, 10_000), st.integers(0, 10**9)),
            st.sampled_from([Outcome.NOT_EXECUTED, Outcome.UNKNOWN]),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_pause_is_the_schedules_unless_the_gateway_asks_and_then_within_the_limits(
    answers: list[tuple[int | None, Outcome, bool]],
) -> None:
    desk, op_id = in_doubt()
    for retry_after_ms, outcome, finds_nothing in answers:
        if op_id not in desk.timers:
            break
        looked(desk, op_id, NOT_FOUND if finds_nothing else asked_to_wait(retry_after_ms, Outcome.UNKNOWN))
        if desk.requests:
            desk.call(asked_to_wait(retry_after_ms, outcome))
        if op_id not in desk.timers:
            break
        planned_ms = RECONCILE_AFTER_MS[desk.operation(op_id).inquiries]
        floor_ms = max(MIN_ASKED_PAUSE_MS, planned_ms // ASKED_LOOKS_A_PAUSE)
        if retry_after_ms is None:
            assert pause_ms(desk, op_id) == planned_ms
        elif retry_after_ms <= planned_ms:
            assert pause_ms(desk, op_id) == max(floor_ms, retry_after_ms)
        else:
            assert planned_ms <= pause_ms(desk, op_id) <= max(planned_ms, MAX_ASKED_PAUSE_MS)
            assert pause_ms(desk, op_id) <= retry_after_ms
