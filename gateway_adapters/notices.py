"""Whom a gateway's notices are about: one address for each, by which a webhook is split on its way to the orders.

Called by the webhook route, which appends one record for each address, and by the orders agent, which takes from the
body of such a record its own items alone. Both split by the same rule, so that no item is lost between them. Pure.

An address is an order, where the gateway gives back our metadata; else one reference of the gateway, or our own
(the operation's id), which the references index knows. A notice that names nothing of the kind is about nobody of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway_adapters.contract import Capabilities, GatewayNotice
from schemas import identifiers
from schemas.identifiers import InvalidIdentifierError, OrderId, OriginId
from schemas.records.gateway import WebhookReceived

MAX_NOTICES_PER_WEBHOOK: Final = 1_000
"""Items of one body; a gateway's batch has a handful. Each may cost a decision of its order."""

MAX_ADDRESSES_PER_WEBHOOK: Final = 100
"""Records that one body becomes; each of them holds the whole body."""

MAX_REFERENCE_CHARS: Final = 255
"""Longest reference that is looked up: Stripe's own limit for its ids, and far above those of the others."""


class TooManyNoticesError(Exception):
    """The body says more than one webhook may; the message names the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Whom items of a webhook are about: an order, or a reference, or (all None) nobody that can be told."""

    origin_id: OriginId | None = None
    order_id: OrderId | None = None  # with the origin, or neither
    reference: str | None = None  # of those that name no order


NOBODY: Final = Address()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A webhook's items, by whom they are about."""

    addresses: tuple[Address, ...]  # in the order of their first items
    ignored: int  # items about nobody of ours; 1 of a body that holds none


def split(notices: Sequence[GatewayNotice], capabilities: Capabilities) -> Split:
    """Return whom the items are about, each once.

    Raises:
        TooManyNoticesError: one of the limits above is passed.
    """
    if len(notices) > MAX_NOTICES_PER_WEBHOOK:
        raise TooManyNoticesError(f"{len(notices)} items, at most {MAX_NOTICES_PER_WEBHOOK}")
    said = [address_of(notice, capabilities) for notice in notices]
    addresses = tuple(dict.fromkeys(each for each in said if each != NOBODY))
    if len(addresses) > MAX_ADDRESSES_PER_WEBHOOK:
        raise TooManyNoticesError(f"about {len(addresses)} orders, at most {MAX_ADDRESSES_PER_WEBHOOK}")
    return Split(addresses=addresses, ignored=said.count(NOBODY) if said else 1)


def items_for(
    notices: Sequence[GatewayNotice], address: Address, capabilities: Capabilities
) -> tuple[GatewayNotice, ...]:
    """Return the items about this address, in the gateway's order."""
    return tuple(notice for notice in notices if address_of(notice, capabilities) == address)


def address_of(notice: GatewayNotice, capabilities: Capabilities) -> Address:
    """Return whom the notice is about, or NOBODY.

    Metadata that no order of ours can have is another system's, which shares the account: then the references decide.
    """
    order = _order_of(notice)
    if order is not None:
        return order
    # The gateway's id of the payment comes before that of what happened to it: the payment's is indexed for all.
    named = (notice.payment_reference, notice.gateway_reference)
    candidates = (notice.op_id, *named) if _indexed_by_ours(notice, capabilities) else (*named, notice.op_id)
    reference = next((each for each in candidates if each and len(each) <= MAX_REFERENCE_CHARS), None)
    return NOBODY if reference is None else Address(reference=reference)


def address_of_record(webhook: WebhookReceived) -> Address:
    """Return whose items the record was appended for. One that was forwarded to its order still names the reference."""
    if webhook.gateway_reference is not None:
        return Address(reference=webhook.gateway_reference)
    return Address(origin_id=webhook.origin_id, order_id=webhook.order_id)


def _order_of(notice: GatewayNotice) -> Address | None:
    if notice.origin_id is None or notice.order_id is None:
        return None
    try:
        origin, order = identifiers.origin_id(notice.origin_id), identifiers.order_id(notice.order_id)
    except InvalidIdentifierError:
        return None
    return Address(origin_id=origin, order_id=order)


def _indexed_by_ours(notice: GatewayNotice, capabilities: Capabilities) -> bool:
    kinds = capabilities.own_references_indexed
    return bool(kinds) and (notice.kind is None or notice.kind in kinds)
