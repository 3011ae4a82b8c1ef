"""Which gateway an attempt goes to: by the plan that its claim pinned, or to the payment's own gateway.

Called by admission for the first attempt and by `retry` for the next ones. A plan lists the gateways attempt by attempt
(`gateway_adapters/policy.py` repeats them up to the policy's number of attempts).
"""

from schemas.identifiers import GatewayName
from schemas.records.claims import RoutePlan
from schemas.records.orders import OperationRow, PaymentRow
from streams.domain.limits import FOLLOW_UP_ATTEMPTS, MAX_ATTEMPTS
from streams.domain.sums import OPENING


def gateway_for(
    operation: OperationRow, plan: RoutePlan, payment: PaymentRow | None, *, attempt: int
) -> GatewayName | None:
    """Return the gateway of this attempt, counted from 1; None when there is no such attempt.

    A capture, void or refund goes to its payment's gateway whatever the plan says: nobody else knows the payment.
    """
    if attempt > MAX_ATTEMPTS:
        return None
    if operation.kind in OPENING:
        return plan.gateways[attempt - 1] if attempt <= len(plan.gateways) else None
    allowed = len(plan.gateways) or FOLLOW_UP_ATTEMPTS
    return payment.gateway if payment is not None and attempt <= allowed else None
