"""What an event about a dispute says of the money. Pure. Called by `webhooks`.

A status alone does not tell where the money is. `prevented` says that no chargeback will follow: a resolution gave the
payer the money back before, a block kept the payer's bank from asking for it. Of a lost dispute Stripe may give back
what had been refunded before. So the balance transactions decide where they are told, which show what was withdrawn
from the account and what came back to it. That a won dispute's money is not back yet says nothing: it follows.

Balance transactions are in the currency of the account's balance. In another than the payment's they tell that money
was withdrawn or came back, and not how much of the payment that was.

Sources: `dispute` in Stripe's OpenAPI document; https://docs.stripe.com/changelog/basil/2025-08-27/add-preventions-to-dispute
"""

from typing import Final

from gateway_adapters.stripe.wire import Dispute, WireError
from schemas.vocabulary import Outcome

Said = tuple[Outcome, int]
"""What is told, and of how much, as Stripe counts it."""

CREATED: Final = "charge.dispute.created"
WITHDRAWN: Final = "charge.dispute.funds_withdrawn"
REINSTATED: Final = "charge.dispute.funds_reinstated"
CLOSED: Final = "charge.dispute.closed"

PREVENTED: Final = "prevented"
RESOLVED: Final = "resolution"
BLOCKED: Final = "block"
_WON: Final = frozenset({"won", "warning_closed"})
"""Of a warning: the payer's bank asked, and let it be."""


def meaning_of(event_type: str, dispute: Dispute) -> Said | None:
    """Return what the event says; None: nothing that counts.

    Raises: WireError: it says that the dispute was prevented, and not what became of the money.
    """
    if event_type == WITHDRAWN:
        return Outcome.REVERSED, dispute.amount
    if event_type == CREATED:  # one that was prevented begins with its end
        return _end_of(dispute) or (Outcome.DISPUTE_OPENED, dispute.amount)
    if event_type == REINSTATED and dispute.status in _WON:
        return None  # the verdict has said it
    return _end_of(dispute)


def _end_of(dispute: Dispute) -> Said | None:
    if dispute.status in _WON:
        return Outcome.DISPUTE_WON, dispute.amount
    if dispute.status not in {"lost", PREVENTED}:
        return None
    taken = _taken_of(dispute)
    return (Outcome.DISPUTE_LOST, taken) if taken > 0 else (Outcome.DISPUTE_WON, dispute.amount)


def _taken_of(dispute: Dispute) -> int:
    """Return how much of the payment is gone, once the dispute has ended otherwise than by being won."""
    movements = dispute.movements
    lost = dispute.status != PREVENTED
    if not movements:
        return dispute.amount if lost or _took_by_its_type(dispute) else 0
    if all(each.currency == dispute.currency for each in movements):
        return max(0, -sum(each.amount for each in movements))
    came_back = any(each.amount > 0 for each in movements)
    return dispute.amount if lost or not came_back else 0


def _took_by_its_type(dispute: Dispute) -> bool:
    if dispute.movements is None and dispute.case_type not in {RESOLVED, BLOCKED}:
        raise WireError("balance_transactions must tell what became of the money of a dispute that was prevented")
    return dispute.case_type == RESOLVED
