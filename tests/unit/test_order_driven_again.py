"""What died inside is driven again: a claim, a verdict, a request or a result that never came to where it was owed."""

from collections.abc import Callable

import pytest

from schemas.identifiers import OpId
from schemas.records.gateway import GatewayCallRequested
from schemas.records.timers import OpenTimer
from schemas.vocabulary import CallKind, OperationState, RetryAdvice, TimerKind
from streams.domain.limits import DEFAULT_RULES
from streams.domain.order import Decision, longest_owed
from streams.domain.outputs import CallGateway, Output, SendClaim
from tests.support.order_desk import ORDER, ORIGIN, UNKNOWN, Desk, capture, refusal, sale

LONG_MS = DEFAULT_RULES.drive_again_ms


def swept(desk: Desk, op_id: OpId) -> Decision:
    """Let the sweep ask about this operation."""
    return desk.fire_timer(
        OpenTimer(
            origin_id=ORIGIN,
            order_id=ORDER,
            op_id=op_id,
            kind=TimerKind.DRIVE_AGAIN,
            number=0,
            due_at_ms=desk.now_ms,
        )
    )


def sent_again(desk: Desk, op_id: OpId) -> Decision:
    """Let the client send its command once more."""
    before = len(desk.said)
    desk.send(sale(), command_id="again")
    return Decision(row=desk.row, outputs=tuple(desk.said[before:]))


Ask = Callable[[Desk, OpId], Decision]
ASKS = pytest.mark.parametrize("ask", [swept, sent_again])


def calls_in(outputs: tuple[Output, ...]) -> list[GatewayCallRequested]:
    return [each.request for each in outputs if isinstance(each, CallGateway)]


@ASKS
def test_claim_is_said_again_as_it_was_when_no_verdict_has_come_for_long(ask: Ask) -> None:
    desk = Desk()
    op_id = desk.send(sale())
    claim = desk.claims.popleft()  # it died
    desk.now_ms += LONG_MS
    assert SendClaim(claim=claim) in ask(desk, op_id).outputs
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


@ASKS
def test_call_is_said_again_as_a_second_copy_when_no_result_has_come_for_long(ask: Ask) -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    request = desk.requests.popleft()
    desk.now_ms += LONG_MS
    (again,) = calls_in(ask(desk, op_id).outputs)
    assert again.repeated
    assert (again.call_number, again.gateway_key, again.requested_at_ms) == (
        request.call_number,
        request.gateway_key,
        request.requested_at_ms,
    )
    desk.settle()
    assert desk.state(op_id) is OperationState.SUCCEEDED


@ASKS
def test_nothing_is_said_again_before_its_time(ask: Ask) -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    desk.now_ms += LONG_MS - 1
    assert calls_in(ask(desk, op_id).outputs) == []


def test_inquiry_is_said_again_when_its_answer_died() -> None:
    desk = Desk()
    op_id = desk.do(sale(), UNKNOWN)
    desk.fire(op_id)
    desk.requests.clear()
    desk.now_ms += LONG_MS
    (again,) = calls_in(swept(desk, op_id).outputs)
    assert again.kind is CallKind.INQUIRE


def test_active_operation_is_driven_when_the_client_asks_for_one_that_waits_behind_it() -> None:
    desk = Desk()
    first = desk.send(sale())
    desk.claims.clear()
    waits = capture(desk.operation(first).payment_id, 1)
    desk.send(waits)
    desk.now_ms += LONG_MS
    before = len(desk.said)
    desk.send(waits, command_id="again")
    assert any(isinstance(each, SendClaim) and each.claim.op_id == first for each in desk.said[before:])


def test_pause_before_an_attempt_is_nothing_that_is_owed() -> None:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    desk.call(refusal(RetryAdvice.SAME_KEY_NOW))
    assert desk.state(op_id) is OperationState.DISPATCHED
    assert desk.row is not None
    assert longest_owed(desk.row) is None
    desk.now_ms += LONG_MS
    assert swept(desk, op_id).outputs == ()


def test_sweep_of_an_order_or_operation_that_is_gone_says_nothing() -> None:
    desk = Desk()
    assert swept(desk, OpId("op_1")) == Decision(row=None, outputs=())
    op_id = desk.do(sale())
    desk.now_ms += LONG_MS
    for each in (op_id, OpId("op_1")):
        assert swept(desk, each) == Decision(row=desk.row, outputs=())


def test_longest_owed_is_the_one_that_has_waited_longest() -> None:
    desk = Desk()
    doubtful = desk.do(sale(), UNKNOWN)
    assert desk.row is not None
    assert longest_owed(desk.row) is None
    desk.fire(doubtful)
    asked_at_ms = desk.now_ms
    desk.now_ms += 1
    desk.send(sale(1, key="other"))
    assert longest_owed(desk.row) == (doubtful, asked_at_ms)
