"""The door for gateways' notices: verified on the raw bytes, appended, answered at once.

What a notice means is decided inside the stream, so that a translation that was wrong can be repaired and the log read
again. Here a notice is only looked into for its address: whose order it is about. One that speaks of several orders is
appended once for each. An authentic notice that cannot be read is appended too: it ends in the dead letters, not at the
gateway, which would only send it again and again.

Of the headers those alone are kept that the gateway names (`WebhookTranslator.webhook_headers`). The body is kept as it
came, but for card data in it: that is masked, unless the notice then says something else. It does when what looks like
a card number is the gateway's own reference: a payment must not hang for a number that Luhn happens to like.
"""

import structlog

from gateway_adapters.contract import GatewayNotice, RawHeaders
from gateway_adapters.errors import UnauthenticError, UntranslatableError
from http_ingress.command_log import webhook_envelope
from http_ingress.door import request_headers
from http_ingress.door.request_bodies import read_raw
from http_ingress.ingress import WebhookGateway
from http_ingress.limits import MAX_ORDERS_PER_WEBHOOK, MAX_WEBHOOK_BYTES
from http_ingress.money.endpoints import Call
from http_ingress.representation.answers import Answer
from http_ingress.representation.payloads import Health
from http_ingress.representation.problems import ProblemCode, ProblemError
from schemas.card_disguises import hides_card_number
from schemas.card_masks import mask_card_data
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, GatewayName, OrderId, OriginId, gateway_route
from schemas.records.gateway import WebhookHeader, WebhookReceived

Address = tuple[OriginId | None, OrderId | None, str | None]
_NOWHERE: Address = (None, None, None)

_log = structlog.get_logger(__name__)


async def receive_webhook(call: Call) -> Answer:
    """Take a gateway's notice: 200 once it is on the log, 401 when it is not the gateway's."""
    name, account = _named(call)
    gateway = call.ingress.webhooks.get(gateway_route(name, account))
    if gateway is None:
        raise ProblemError(ProblemCode.NOT_FOUND, "no such gateway, or no such account at it")
    body = await read_raw(call.request, max_bytes=MAX_WEBHOOK_BYTES)
    headers = request_headers.named(call.request.headers, gateway.webhook_headers)
    now_ms = call.ingress.now_ms()
    try:
        gateway.verify_webhook(headers, body, now_ms=now_ms)
    except UnauthenticError:
        raise ProblemError(ProblemCode.UNAUTHENTICATED, "the signature does not hold") from None
    addresses = _addresses(_said(gateway, headers, body))
    kept_body = _without_card_data(gateway, headers, body)
    if kept_body != body:
        _log.warning("webhook_masked", gateway=name, request_id=call.request_id, code=ProblemCode.CARD_NUMBER)
    for number, (origin, order, reference) in enumerate(addresses):
        record = WebhookReceived(
            gateway=name,
            origin_id=origin,
            order_id=order,
            gateway_reference=reference,
            headers=_kept(headers),
            body=kept_body,
            received_at_ms=now_ms,
            account=account,
        )
        envelope = webhook_envelope(
            record,
            f"{call.request_id}-{number}",
            traceparent=call.trace.traceparent,
            tracestate=call.trace.tracestate,
        )
        await call.ingress.log.append(record, envelope)  # a failure is a 503: the gateway sends it again
    return Answer(status=200, body=Health(status="ok"))


def _named(call: Call) -> tuple[GatewayName, AccountName]:
    named = call.request.match_info
    return GatewayName(named["gateway"]), AccountName(named.get("account", DEFAULT_ACCOUNT))


def _said(gateway: WebhookGateway, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
    try:
        return gateway.parse_webhook(headers, body)
    except UntranslatableError:
        return ()


def _without_card_data(gateway: WebhookGateway, headers: RawHeaders, body: bytes) -> bytes:
    masked = mask_card_data(body)
    same = masked == body or _said(gateway, headers, masked) == _said(gateway, headers, body)
    return masked if same else body


def _addresses(notices: tuple[GatewayNotice, ...]) -> tuple[Address, ...]:
    found: dict[tuple[OriginId | None, OrderId | None], Address] = {}
    for notice in notices:
        reference = notice.payment_reference or notice.gateway_reference
        found.setdefault((notice.origin_id, notice.order_id), (notice.origin_id, notice.order_id, reference))
    if len(found) > MAX_ORDERS_PER_WEBHOOK:
        raise ProblemError(ProblemCode.TOO_LARGE, f"at most {MAX_ORDERS_PER_WEBHOOK} orders in one notice")
    return tuple(found.values()) or (_NOWHERE,)


def _kept(headers: RawHeaders) -> tuple[WebhookHeader, ...]:
    return tuple(
        WebhookHeader(name=name, value=value) for name, value in sorted(headers.items()) if not hides_card_number(value)
    )
