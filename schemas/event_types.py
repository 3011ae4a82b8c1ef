"""The CloudEvents types: which record stands behind each, and which name a transition of an operation has.

Called by the message codec (both directions) and by the orders agent (to name an event). The names are public: they are
never reused for another meaning; a breaking change of a record is a new `.v2` type.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from schemas.record_shapes import Record
from schemas.records.claims import ClaimDecided, ClaimExpiryRequested, ClaimRequested
from schemas.records.commands import (
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, PaymentWaiting
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.payments import OperationReplied, PaymentEvent, PaymentQueried
from schemas.records.policies import OriginPolicy
from schemas.records.references import ReferenceDropped, ReferenceKept
from schemas.records.timers import OrderExpiryRequested, TimerFired
from schemas.records.upgrades import UpgradeFinished
from schemas.vocabulary import OperationKind

TYPES: Mapping[type[Record], str] = MappingProxyType(
    {
        PaymentRequested: "payments.payment.requested.v1",
        CaptureRequested: "payments.capture.requested.v1",
        VoidRequested: "payments.void.requested.v1",
        RefundRequested: "payments.refund.requested.v1",
        CompletionRequested: "payments.completion.requested.v1",
        PaymentQueried: "payments.query.requested.v1",
        ClaimRequested: "payments.claim.requested.v1",
        ClaimExpiryRequested: "payments.claim_expiry.requested.v1",
        ClaimDecided: "payments.claim.decided.v1",
        GatewayCallRequested: "payments.gateway_call.requested.v1",
        GatewayCallCompleted: "payments.gateway_call.completed.v1",
        WebhookReceived: "payments.webhook.received.v1",
        ReferenceKept: "payments.reference.kept.v1",
        ReferenceDropped: "payments.reference.dropped.v1",
        OperationReplied: "payments.operation.replied.v1",
        TimerFired: "payments.timer.fired.v1",
        OrderExpiryRequested: "payments.order_expiry.requested.v1",
        DeadLetter: "payments.dead_letter.recorded.v1",
        DeadLetterHandled: "payments.dead_letter.handled.v1",
        OriginPolicy: "payments.policy.changed.v1",
        DecisionProposed: "payments.decision.proposed.v1",
        DecisionMade: "payments.decision.made.v1",
        DecisionTried: "payments.decision.tried.v1",
        PaymentWaiting: "payments.waiting.recorded.v1",
        UpgradeFinished: "payments.upgrade.finished.v1",
    }
)
"""The type of each record that has only one; a PaymentEvent's type depends on its transition."""


class Transition(StrEnum):
    """What happened to an operation, as the last part of its event's type says it."""

    ACCEPTED = "accepted"  # its idempotency claim was granted
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"  # not executed, and no attempts are left
    PENDED = "pended"
    ACTION_REQUIRED = "action_required"
    DOUBTED = "doubted"
    REVIEWED = "reviewed"  # given to a person
    REVERSED = "reversed"  # some or all of a success was taken back
    RESTORED = "restored"  # some or all of what was taken back counts again
    RECORDED = "recorded"  # made at the gateway's own desk, without a command
    DISPUTED = "disputed"  # the payer's bank asks for some or all of a payment back
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    NOTED = "noted"  # what a person found out, for whoever looks next
    DECIDED = "decided"  # a person has looked, and closed the review
    DECISION_REFUSED = "decision_refused"  # a person's decision that the order does not take
    REJECTED = "rejected"  # by the order's rules, or its idempotency key belongs to another operation
    EXPIRED = "expired"  # the payment: its authorization ran out


_NOUNS: Mapping[OperationKind, str] = MappingProxyType(
    {
        OperationKind.AUTHORIZE: "authorization",
        OperationKind.SALE: "sale",
        OperationKind.CAPTURE: "capture",
        OperationKind.VOID: "void",
        OperationKind.REFUND: "refund",
        OperationKind.COMPLETE: "completion",
    }
)
# These mean the same whatever the operation was, so a consumer subscribes to one type.
_WITHOUT_KIND: Mapping[Transition, str] = MappingProxyType(
    {
        Transition.REJECTED: "payments.operation.rejected.v1",
        Transition.EXPIRED: "payments.payment.expired.v1",
        Transition.DECISION_REFUSED: "payments.decision.refused.v1",
        Transition.DISPUTED: "payments.dispute.opened.v1",
        Transition.DISPUTE_WON: "payments.dispute.won.v1",
        Transition.DISPUTE_LOST: "payments.dispute.lost.v1",
    }
)


def event_type(kind: OperationKind, transition: Transition) -> str:
    """Return the CloudEvents type of the event that this transition of such an operation emits."""
    return _WITHOUT_KIND.get(transition) or f"payments.{_NOUNS[kind]}.{transition.value}.v1"


EVENT_TYPES: frozenset[str] = frozenset(event_type(kind, step) for kind in OperationKind for step in Transition)
"""Every type that a PaymentEvent may have."""

CLASSES: Mapping[str, type[Record]] = MappingProxyType(
    {name: cls for cls, name in TYPES.items()} | dict.fromkeys(EVENT_TYPES, PaymentEvent)
)
"""The record behind each type."""
