"""The door for gateways' notices: verified on the raw bytes, appended, answered at once.

What a notice means is decided inside the stream, so that a translation that was wrong can be repaired and the log read
again. Here a webhook is only looked into for its addresses: whose orders it is about, or which references of those that
name no order (`gateway_adapters.notices`). It is appended once for each. One that is about nobody of ours is counted,
and kept all the same. An authentic one that cannot be read, or that says too much, is appended too: it ends in the dead
letters, not at the gateway, which would only send it again and again, and others behind it never.

Of the headers those alone are kept that the gateway names (`WebhookTranslator.webhook_headers`). The body is kept as it
came, but for card data in it: that is masked, unless the notice then says something else. It does when what looks like
a card number is the gateway's own reference: a payment must not hang for a number that Luhn happens to like.
"""

import structlog

from gateway_adapters.contract import GatewayNotice, RawHeaders
from gateway_adapters.errors import UnauthenticError, UntranslatableError, UnverifiableError
from gateway_adapters.notices import NOBODY, Split, TooManyNoticesError, split
from http_ingress.command_log import webhook_envelope
from http_ingress.door import request_headers
from http_ingress.door.request_bodies import read_raw
from http_ingress.ingress import WebhookGateway
from http_ingress.limits import MAX_WEBHOOK_BYTES
from http_ingress.money.endpoints import Call
from http_ingress.representation.answers import Answer
from http_ingress.representation.problems import ProblemCode, ProblemError
from schemas.card_disguises import hides_card_number
from schemas.card_masks import mask_card_data
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, GatewayName, gateway_route
from schemas.records.gateway import WebhookHeader, WebhookReceived
from streams.telemetry import metrics

_UNREAD = Split(addresses=(NOBODY,), ignored=0)
"""Of what only a person can place: its dead letter holds it."""

_log = structlog.get_logger(__name__)


async def receive_webhook(call: Call) -> Answer:
    """Take a gateway's notice: acknowledged as it wants once it is on the log, 401 when it is not the gateway's."""
    name, account = _named(call)
    gateway = call.ingress.webhooks.get(gateway_route(name, account))
    if gateway is None:
        raise ProblemError(ProblemCode.NOT_FOUND, "no such gateway, or no such account at it")
    body = await read_raw(call.request, max_bytes=MAX_WEBHOOK_BYTES)
    headers = request_headers.named(call.request.headers, gateway.webhook_headers)
    now_ms = call.ingress.now_ms()
    try:
        await gateway.verify_webhook(headers, body, now_ms=now_ms, certificates=call.ingress.certificates)
    except UnauthenticError:
        raise ProblemError(ProblemCode.UNAUTHENTICATED, "the signature does not hold") from None
    except UnverifiableError as error:  # a 401 would tell some gateways to give the notice up
        raise ProblemError(ProblemCode.UNVERIFIABLE, str(error)) from None
    said = _split(gateway, headers, body)
    kept_body = _without_card_data(gateway, headers, body)
    if kept_body != body:
        _log.warning("webhook_masked", gateway=name, request_id=call.request_id, code=ProblemCode.CARD_NUMBER)
    for number, address in enumerate(said.addresses or (NOBODY,)):
        record = WebhookReceived(
            gateway=name,
            origin_id=address.origin_id,
            order_id=address.order_id,
            gateway_reference=address.reference,
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
    if said.ignored:
        metrics.count("webhooks_ignored", said.ignored, gateway=name, reason="about_nobody")
    return Answer(status=gateway.acknowledgement.status, body=gateway.acknowledgement)


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


def _split(gateway: WebhookGateway, headers: RawHeaders, body: bytes) -> Split:
    try:
        return split(gateway.parse_webhook(headers, body), gateway.capabilities)
    except (UntranslatableError, TooManyNoticesError):
        return _UNREAD


def _kept(headers: RawHeaders) -> tuple[WebhookHeader, ...]:
    return tuple(
        WebhookHeader(name=name, value=value) for name, value in sorted(headers.items()) if not hides_card_number(value)
    )
