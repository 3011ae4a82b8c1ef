"""Which items of a webhook are whose: from a record of `gateway.webhooks.v1` to the notices of one order.

Called by the orders agent. A webhook stands on the log once for each order that its items are about, and each record
brings its order those items alone (`gateway_adapters.notices`). One whose items name a reference, and no order, goes
through the index (`references`) to the order, as a record of its own. One that could not be read when it came, and is
redriven since it can be now, is split here as the ingress would have split it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway_adapters import notices
from gateway_adapters.contract import GatewayNotice
from gateway_adapters.errors import UntranslatableError
from gateway_adapters.notices import Address, TooManyNoticesError
from gateway_adapters.spec import GatewaySpec
from schemas import identifiers
from schemas.identifiers import GatewayName, OrderId, OriginId
from schemas.messages import Envelope, MessageCodec
from schemas.quick_init import quick_init
from schemas.records.gateway import WebhookReceived
from schemas.vocabulary import DeadLetterReason
from streams.agents.intake import Intake, RefusedError, Taken
from streams.agents.references import References, webhook_message
from streams.kafka.step import InputEvent, Outgoing, RowReader, Step


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Notices for one order; each names it, whatever the gateway gave back."""

    origin_id: OriginId
    order_id: OrderId
    notices: tuple[GatewayNotice, ...]


class Webhooks:
    """Takes the records of `gateway.webhooks.v1`."""

    __slots__ = ("_codec", "_gateways", "_intake", "_references")

    def __init__(
        self,
        codec: MessageCodec,
        intake: Intake,
        gateways: Mapping[GatewayName, GatewaySpec],
        references: References,
    ) -> None:
        """`gateways`: those whose webhooks can be translated. `references`: where those go that name no order."""
        self._codec = codec
        self._intake = intake
        self._gateways = gateways
        self._references = references

    def take(self, event: InputEvent, taken: Taken, webhook: WebhookReceived, read: RowReader) -> Delivered | Step:
        """Return the notices for the order of this partition, or what else the record leads to.

        Raises:
            RefusedError: its gateway is unknown, it cannot be read, says too much, stands under a wrong key, or nobody
                came to be known by its reference.
        """
        if webhook.gateway_reference is not None and webhook.order_id is None:
            return self._by_reference(event, taken.envelope, webhook, read)
        if webhook.origin_id is None or webhook.order_id is None:
            return self._split(taken.envelope, webhook)
        items = self._items(webhook)
        self._intake.require_key(event, webhook.order_id.encode())
        return _delivered(webhook.origin_id, webhook.order_id, items)

    def _by_reference(self, event: InputEvent, envelope: Envelope, webhook: WebhookReceived, read: RowReader) -> Step:
        try:
            self._items(webhook)
        except RefusedError as refusal:
            # It may have been parked when it could be read. Left there, each sweep would find it again.
            rows = self._references.unpark(event, envelope, webhook, read)
            raise RefusedError(refusal.reason, refusal.detail, rows=rows) from refusal
        return self._references.route(event, envelope, webhook, read)

    def _items(self, webhook: WebhookReceived) -> tuple[GatewayNotice, ...]:
        gateway, said = self._read(webhook)
        items = notices.items_for(said, notices.address_of_record(webhook), gateway.capabilities)
        if not items:
            detail = "holds no item of what it was appended for"
            raise RefusedError(DeadLetterReason.UNTRANSLATABLE_WEBHOOK, detail)
        return items

    def _read(self, webhook: WebhookReceived) -> tuple[GatewaySpec, tuple[GatewayNotice, ...]]:
        gateway = self._gateways.get(webhook.gateway)
        if gateway is None:
            raise RefusedError(DeadLetterReason.UNKNOWN_GATEWAY, "no such gateway here")
        headers = {header.name: header.value for header in webhook.headers}
        try:
            return gateway, gateway.translator.parse_webhook(headers, webhook.body)
        except UntranslatableError as error:
            raise RefusedError(DeadLetterReason.UNTRANSLATABLE_WEBHOOK, str(error)) from error

    def _split(self, envelope: Envelope, webhook: WebhookReceived) -> Step:
        gateway, said = self._read(webhook)
        try:
            addresses = notices.split(said, gateway.capabilities).addresses
        except TooManyNoticesError as error:
            raise RefusedError(DeadLetterReason.TOO_LARGE, str(error)) from error
        return Step(rows=(), speak=[self._appended(envelope, webhook, each) for each in addresses])

    def _appended(self, envelope: Envelope, webhook: WebhookReceived, address: Address) -> Outgoing:
        """Return the webhook as a record for this address; said again, it has the same id."""
        name = f"{address.origin_id}|{address.order_id}|{address.reference}"
        addressed = replace(
            webhook,
            origin_id=address.origin_id,
            order_id=address.order_id,
            gateway_reference=address.reference,
        )
        return webhook_message(
            self._codec,
            addressed,
            webhook_id=identifiers.event_id(envelope.id, name),
            traceparent=envelope.traceparent,
            tracestate=envelope.tracestate,
        )


def _delivered(origin: OriginId, order: OrderId, items: Sequence[GatewayNotice]) -> Delivered:
    named = tuple(replace(item, origin_id=origin, order_id=order) for item in items)
    return Delivered(origin_id=origin, order_id=order, notices=named)
