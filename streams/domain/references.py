"""The references index, as rules: which references an order is known by, and what becomes of a notice that names one.

Called by the orders agent on both sides. `known_by` and what follows from it are of the order's partition; `arrive`,
`register` and `drop` are of the reference's, which is another one as a rule. Between the two stands the log, so that
each of them is a step of its own that may be replayed.

What comes before its reference is parked. When the reference becomes known, what is parked is said once more under the
same key, and only that second record is forwarded: so it is on the log before it leaves the row, and a crash anywhere
loses none. It also keeps the gateway's order: while something is parked, what comes later joins the queue behind it.
A notice may be forwarded twice; an order that hears it twice is none the wiser.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from gateway_adapters.contract import Capabilities
from gateway_adapters.notices import MAX_REFERENCE_CHARS
from schemas.identifiers import AccountName, GatewayName, OrderId, OriginId
from schemas.quick_init import quick_init
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.references import KnownReference, ParkedWebhook, ReferenceDropped, ReferenceKept, ReferenceRow
from schemas.vocabulary import CallKind, OperationKind

MAX_PARKED: Final = 32
"""Webhooks that wait for one reference. A payment has a handful before its first answer."""

MAX_PARKED_BYTES: Final = 256 * 1024
"""Of what waits for one reference: half of what a row may have, and four of the largest webhooks."""

PARKED_FOR_MS: Final = 24 * 3_600_000
"""How long a webhook waits for its reference. The answer to a call comes in seconds; what an inquiry brings to light,
and with it the reference, within hours."""

WEBHOOK_OVERHEAD_BYTES: Final = 256
"""Counted for each parked webhook beside its body and headers."""

_CALLS: Final = {kind: CallKind(kind.value) for kind in OperationKind}

Indexed = Mapping[GatewayName, Capabilities]
"""The gateways by name; their capabilities say what is indexed."""


# The order's side


def known_by(row: OrderRow, indexed: Indexed) -> dict[KnownReference, OperationRow]:
    """Return the references that notices may find this order by, each with the operation that it is of."""
    return known_of(row.operations, indexed)


def known_of(operations: Iterable[OperationRow], indexed: Indexed) -> dict[KnownReference, OperationRow]:
    """Return the references that notices may find these operations by, each with the operation that it is of."""
    found: dict[KnownReference, OperationRow] = {}
    for operation in operations:
        if operation.gateway is None:
            continue  # never sent
        _find(operation, operation.gateway, operation.account, operation.gateway_reference, indexed, found)
        for each in operation.earlier_attempts:
            _find(operation, each.gateway, each.account, each.gateway_reference, indexed, found)
    return found


def _find(
    operation: OperationRow,
    gateway: GatewayName,
    account: AccountName,
    named: str | None,
    indexed: Indexed,
    found: dict[KnownReference, OperationRow],
) -> None:
    """Add what one attempt of the operation is known by, which its gateway `named` so."""
    capabilities = indexed.get(gateway)
    if capabilities is None:
        return  # a gateway that is no longer set up here
    kind = _CALLS[operation.kind]
    if named and kind in capabilities.references_indexed and len(named) <= MAX_REFERENCE_CHARS:
        found.setdefault(KnownReference(gateway=gateway, account=account, reference=named), operation)
    if kind in capabilities.own_references_indexed:
        found.setdefault(KnownReference(gateway=gateway, account=account, reference=operation.op_id), operation)


def to_register(
    before: OrderRow | None,
    row: OrderRow | None,
    indexed: Indexed,
    *,
    named_anyway: AbstractSet[tuple[GatewayName, AccountName]] = frozenset(),
    again: bool,
) -> tuple[ReferenceKept, ...]:
    """Return what the order has to say of its references after a decision.

    Args:
        before: The order before it.
        row: The order now.
        indexed: What is indexed, by gateway.
        named_anyway: Accounts whose notices all name their orders: of those only our own references are said.
        again: The decision may be a replay, and what it said may be lost. Then all is said, since the row does not know
            which of it was.
    """
    if row is None or (row is before and not again):
        return ()
    known_now = known_by(row, indexed)
    if named_anyway:
        known_now = {
            known: operation
            for known, operation in known_now.items()
            if known.reference == operation.op_id or (known.gateway, known.account) not in named_anyway
        }
    if not known_now:
        return ()
    told = known_by(before, indexed) if before is not None and not again else {}
    return tuple(
        ReferenceKept(
            gateway=known.gateway,
            account=known.account,
            reference=known.reference,
            origin_id=row.origin_id,
            order_id=row.order_id,
            op_id=operation.op_id,
            kind=operation.kind,
        )
        for known, operation in known_now.items()
        if known not in told
    )


def to_drop(
    listed: tuple[KnownReference, ...], origin: OriginId, order: OrderId, row: OrderRow | None, indexed: Indexed
) -> tuple[ReferenceDropped, ...]:
    """Return what leaves the index with the order: those of the listed references that no row of it has any more.

    The list comes with the request to end the order. So a replay of that request, which finds no row, knows them too.
    """
    kept = {} if row is None else known_by(row, indexed)
    return tuple(
        ReferenceDropped(
            gateway=known.gateway,
            account=known.account,
            reference=known.reference,
            origin_id=origin,
            order_id=order,
        )
        for known in listed
        if known not in kept
    )


# The reference's side


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What becomes of a webhook that names a reference: one of the three, or (if it waits already) none."""

    parked: tuple[ParkedWebhook, ...]  # what waits afterwards
    forward: bool = False  # to the order that the reference is known to be of
    again: bool = False  # to the end of the queue: append it once more under the same key
    unknown: str | None = None  # a dead letter, for this reason


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What became of a ReferenceKept."""

    row: ReferenceRow
    contested: bool  # it is another order's already, and stays so
    release: bool  # append what is parked once more under its key, in its order


def arrive(
    known: ReferenceRow | None,
    parked: tuple[ParkedWebhook, ...],
    webhook: ParkedWebhook,
    *,
    now_ms: int,
    room: bool,
) -> Arrival:
    """Decide about a webhook that stands under a reference's key.

    Args:
        known: Whose the reference is, if anybody's.
        parked: What waits for it, oldest first.
        webhook: The one that has come; its id tells whether it is one of those.
        now_ms: When the log took it.
        room: Whether the partition may hold one more.
    """
    others = tuple(each for each in parked if each.webhook_id != webhook.webhook_id)
    waits = len(others) < len(parked)
    fits = room and _fits(parked, webhook)
    if known is not None:
        if waits or not parked or not fits:
            return Arrival(parked=others, forward=True)
        return Arrival(parked=(*parked, webhook), again=True)
    if now_ms - webhook.received_at_ms >= PARKED_FOR_MS:
        return Arrival(parked=others, unknown="no order came to be known by this reference in its time")
    if waits or any(_same(each, webhook) for each in parked):
        return Arrival(parked=parked)  # a replay, or the gateway has sent it once more
    if not fits:
        return Arrival(parked=parked, unknown="no order is known by this reference, and too many wait for theirs")
    return Arrival(parked=(*parked, webhook))


def register(known: ReferenceRow | None, kept: ReferenceKept, *, possible_replay: bool) -> Registration:
    """Decide whose the reference is: the first order's. The same order may say it again, of whichever operation.

    `possible_replay`: what was released may be lost, if this is the registration that released it.
    """
    if known is None:
        row = ReferenceRow(
            origin_id=kept.origin_id,
            order_id=kept.order_id,
            op_id=kept.op_id,
            kind=kept.kind,
        )
        return Registration(row=row, contested=False, release=True)
    other = (known.origin_id, known.order_id) != (kept.origin_id, kept.order_id)
    return Registration(row=known, contested=other, release=possible_replay)


def drop(known: ReferenceRow | None, dropped: ReferenceDropped) -> ReferenceRow | None:
    """Return whose the reference is once this order has let it go: nobody's, or still another order's."""
    if known is None or (known.origin_id, known.order_id) == (dropped.origin_id, dropped.order_id):
        return None
    return known


def overdue(parked: tuple[ParkedWebhook, ...], *, now_ms: int) -> tuple[ParkedWebhook, ...]:
    """Return those whose time is over: appended once more, they find their reference or become dead letters."""
    return tuple(each for each in parked if now_ms - each.received_at_ms >= PARKED_FOR_MS)


def size_of(parked: tuple[ParkedWebhook, ...]) -> int:
    """Return how many bytes these are counted as."""
    return sum(
        WEBHOOK_OVERHEAD_BYTES + len(each.body) + sum(len(header.name) + len(header.value) for header in each.headers)
        for each in parked
    )


def _fits(parked: tuple[ParkedWebhook, ...], webhook: ParkedWebhook) -> bool:
    return len(parked) < MAX_PARKED and size_of((*parked, webhook)) <= MAX_PARKED_BYTES


def _same(one: ParkedWebhook, other: ParkedWebhook) -> bool:
    return one.body == other.body
