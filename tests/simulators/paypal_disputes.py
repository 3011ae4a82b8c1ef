"""What takes money back in the simulator of PayPal without our asking: disputes, in their stages, and reversals.

A dispute has an id, which each word about it carries. A reversal is told as a refund that names its capture and no
dispute, though it may carry one out: at its opening, at its loss, or not at all. When the seller wins, what was taken
comes back, and no event of its own tells it. What is really gone of a capture stands in its `gone_minor`.
"""

from dataclasses import dataclass

from tests.simulators.paypal_events import PayPalEvents
from tests.simulators.paypal_objects import Json, Made, link, money, time_text


@dataclass
class Dispute:
    """One dispute."""

    id: str
    about: Made
    amount_minor: int
    taken_minor: int = 0  # of the capture, by this dispute
    is_open: bool = True


class PayPalDisputes:
    """The disputes of all captures."""

    def __init__(self, events: PayPalEvents) -> None:
        self.events = events
        self.all: list[Dispute] = []

    def is_disputed(self, made: Made) -> bool:
        return any(each.is_open and each.about is made for each in self.all)

    def open(self, made: Made, minor: int) -> Dispute:
        dispute = Dispute(id=self.events.new_id("PP-D-"), about=made, amount_minor=minor)
        self.all.append(dispute)
        self.events.tell("CUSTOMER.DISPUTE.CREATED", "dispute", _resource(dispute, "OPEN"))
        return dispute

    def update(self, dispute: Dispute) -> None:
        self.events.tell("CUSTOMER.DISPUTE.UPDATED", "dispute", _resource(dispute, "UNDER_REVIEW"))

    def reverse(self, made: Made, minor: int, *, by: Dispute | None = None) -> None:
        """Take money back: told as a refund that carries the capture's own references."""
        made.updated = self.events.now()
        made.gone_minor += minor
        made.order.effects.append(("reversal", minor))
        if by is not None:
            by.taken_minor += minor
        resource = {
            "id": self.events.new_id("R"),
            "status": "COMPLETED",
            "amount": money(minor, made.currency),
            "invoice_id": made.reference,
            "custom_id": made.custom,
            "note_to_payer": "Payment reversed",
            "create_time": time_text(made.updated),
            "update_time": time_text(made.updated),
            "links": [link("up", f"/v2/payments/captures/{made.id}")],
        }
        self.events.tell("PAYMENT.CAPTURE.REVERSED", "refund", resource)

    def win(self, dispute: Dispute) -> None:
        """End it for the seller: what it had taken comes back."""
        dispute.about.gone_minor -= dispute.taken_minor
        dispute.taken_minor, dispute.is_open = 0, False
        self._tell_end(dispute, "RESOLVED_SELLER_FAVOUR", None)

    def lose(self, dispute: Dispute, minor: int | None = None) -> None:
        """End it for the buyer, who keeps so much of it; all of it, if nothing else is said."""
        lost_minor = dispute.amount_minor if minor is None else minor
        dispute.about.gone_minor += lost_minor - dispute.taken_minor
        dispute.taken_minor, dispute.is_open = lost_minor, False
        self._tell_end(dispute, "RESOLVED_BUYER_FAVOUR", minor)

    def _tell_end(self, dispute: Dispute, code: str, minor: int | None) -> None:
        outcome: Json = {"outcome_code": code}
        if minor is not None:
            outcome["amount_refunded"] = money(minor, dispute.about.currency)
        ended = {**_resource(dispute, "RESOLVED"), "dispute_outcome": outcome}
        self.events.tell("CUSTOMER.DISPUTE.RESOLVED", "dispute", ended)


def _resource(dispute: Dispute, status: str) -> Json:
    about = dispute.about
    return {
        "dispute_id": dispute.id,
        "status": status,
        "dispute_amount": money(dispute.amount_minor, about.currency),
        "disputed_transactions": [
            {"seller_transaction_id": about.id, "invoice_number": about.reference, "custom": about.custom}
        ],
    }
