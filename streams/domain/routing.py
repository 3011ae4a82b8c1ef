"""Which account at which gateway an attempt goes to: by the plan that its claim pinned, or to the payment's own.

Called by admission for the first attempt and by `retry` for the next ones. A plan lists the gateways attempt by attempt
(`gateway_adapters/policy.py` repeats them up to the policy's number of attempts).
"""

from schemas import identifiers
from schemas.identifiers import GatewayRoute
from schemas.records.claims import RoutePlan
from schemas.records.orders import OperationRow, PaymentRow
from streams.domain.limits import FOLLOW_UP_ATTEMPTS, MAX_ATTEMPTS
from streams.domain.sums import OPENING


def gateway_for(
    operation: OperationRow, plan: RoutePlan, payment: PaymentRow | None, *, attempt: int
) -> GatewayRoute | None:
    """Return the gateway and account of this attempt, counted from 1; None when there is no such attempt.

    A capture, void or refund goes where its payment is, whatever the plan says: nobody else knows the payment.
    """
    if attempt > MAX_ATTEMPTS:
        return None
    if operation.kind in OPENING:
        return plan.gateways[attempt - 1] if attempt <= len(plan.gateways) else None
    allowed = len(plan.gateways) or FOLLOW_UP_ATTEMPTS
    if payment is None or payment.gateway is None or attempt > allowed:
        return None
    return identifiers.gateway_route(payment.gateway, payment.account)
