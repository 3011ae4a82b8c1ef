"""Orders with an operation in doubt, and the looks at it. Used by the unit tests of the domain."""

from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, OperationState, Outcome, RetryAdvice
from streams.domain.limits import DEFAULT_RULES, Rules
from tests.support.order_desk import (
    MOCK,
    UNKNOWN,
    Desk,
    Said,
    error,
    plan,
    sale,
)

RESEND_ADVISED = Said(outcome=Outcome.UNKNOWN, error=error(RetryAdvice.SAME_KEY_NOW), reference=None)
DAY_MS = 86_400_000
WINDOWS = Rules(
    order_life_ms=DEFAULT_RULES.order_life_ms,
    claim_life_ms=DEFAULT_RULES.claim_life_ms,
    key_windows_ms={MOCK: {CallKind.SALE: DAY_MS, CallKind.REFUND: None}},
)


def doubtful() -> tuple[Desk, str]:
    desk = Desk(plan=plan("mock", "other"))
    return desk, desk.do(sale(), UNKNOWN)


def looked(desk: Desk, op_id: object, answer: Said) -> GatewayCallRequested:
    """Let the timer fire and the look be answered; return what was asked."""
    desk.fire(op_id)  # type: ignore[arg-type]  # an operation id as text
    request = desk.requests[0]
    desk.call(answer)
    return request


def state(desk: Desk, op_id: str) -> OperationState:
    return desk.state(op_id)  # type: ignore[arg-type]  # an operation id as text
