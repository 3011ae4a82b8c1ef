"""The references index: by which references, a gateway's or ours, a notice finds its order (`gateway.references.v1`).

An order says of each reference that it is known by it, and says it again when it ends. What came before is parked.
"""

from dataclasses import dataclass

from schemas.identifiers import AccountName, GatewayName, OpId, OrderId, OriginId
from schemas.quick_init import quick_init
from schemas.records.gateway import WebhookHeader
from schemas.vocabulary import OperationKind


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceKept:
    """An order is known by this reference from now on. The first order to say so keeps it."""

    gateway: GatewayName
    account: AccountName
    reference: str  # the gateway's, or the operation's id
    origin_id: OriginId
    order_id: OrderId
    op_id: OpId  # what it is the reference of
    kind: OperationKind


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceDropped:
    """The order has ended, and its reference leaves the index; that of another order stays."""

    gateway: GatewayName
    account: AccountName
    reference: str
    origin_id: OriginId
    order_id: OrderId


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReference:
    """A reference that an order has registered."""

    gateway: GatewayName
    account: AccountName
    reference: str


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRow:
    """Whose reference it is, as the references table keeps it (key: gateway, account and reference)."""

    origin_id: OriginId
    order_id: OrderId
    op_id: OpId
    kind: OperationKind


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedWebhook:
    """A webhook that waits for its reference to become known; enough to append it again."""

    webhook_id: str  # of its envelope
    traceparent: str | None
    tracestate: str | None
    headers: tuple[WebhookHeader, ...]
    body: bytes
    received_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedRow:
    """What waits for one reference, oldest first (key: gateway, account and reference)."""

    gateway: GatewayName
    account: AccountName
    reference: str
    webhooks: tuple[ParkedWebhook, ...]
