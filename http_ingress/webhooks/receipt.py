"""The door for gateways' notices: verified on the raw bytes, appended raw, answered at once.

What a notice means is decided inside the stream, so that a translation that was wrong can be repaired and the log read
again. Here a notice is only looked into for its address: whose order it is about. One that speaks of several orders is
appended once for each. An authentic notice that cannot be read is appended too: it ends in the dead letters, not at the
gateway, which would only send it again and again.
"""

from gateway_adapters.contract import GatewayNotice
from gateway_adapters.errors import UnauthenticError, UntranslatableError
from http_ingress.command_log import webhook_envelope
from http_ingress.door.request_bodies import read_raw
from http_ingress.limits import MAX_ORDERS_PER_WEBHOOK, MAX_WEBHOOK_BYTES
from http_ingress.money.endpoints import Call
from http_ingress.representation.answers import Answer
from http_ingress.representation.payloads import Health
from http_ingress.representation.problems import ProblemCode, ProblemError
from schemas.identifiers import GatewayName, OrderId, OriginId
from schemas.records.gateway import WebhookHeader, WebhookReceived

Address = tuple[OriginId | None, OrderId | None, str | None]
_NOWHERE: Address = (None, None, None)

# Headers that are kept with the body: what a signature or a translation can need, never credentials.
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


async def receive_webhook(call: Call) -> Answer:
    """Take a gateway's notice: 200 once it is on the log, 401 when it is not the gateway's."""
    name = GatewayName(call.request.match_info["gateway"])
    gateway = call.ingress.webhooks.get(name)
    if gateway is None:
        raise ProblemError(ProblemCode.NOT_FOUND, "no such gateway")
    body = await read_raw(call.request, max_bytes=MAX_WEBHOOK_BYTES)
    headers = {key.lower(): value for key, value in call.request.headers.items()}
    now_ms = call.ingress.now_ms()
    try:
        gateway.verify_webhook(headers, body, now_ms=now_ms)
    except UnauthenticError:
        raise ProblemError(ProblemCode.UNAUTHENTICATED, "the signature does not hold") from None
    try:
        addresses = _addresses(gateway.parse_webhook(headers, body))
    except UntranslatableError:
        addresses = (_NOWHERE,)
    for number, (origin, order, reference) in enumerate(addresses):
        record = WebhookReceived(
            gateway=name,
            origin_id=origin,
            order_id=order,
            gateway_reference=reference,
            headers=_kept(headers),
            body=body,
            received_at_ms=now_ms,
        )
        envelope = webhook_envelope(
            record,
            f"{call.request_id}-{number}",
            traceparent=call.trace.traceparent,
            tracestate=call.trace.tracestate,
        )
        await call.ingress.log.append(record, envelope)  # a failure is a 503: the gateway sends it again
    return Answer(status=200, body=Health(status="ok"))


def _addresses(notices: tuple[GatewayNotice, ...]) -> tuple[Address, ...]:
    found: dict[tuple[OriginId | None, OrderId | None], Address] = {}
    for notice in notices:
        reference = notice.payment_reference or notice.gateway_reference
        found.setdefault((notice.origin_id, notice.order_id), (notice.origin_id, notice.order_id, reference))
    if len(found) > MAX_ORDERS_PER_WEBHOOK:
        raise ProblemError(ProblemCode.TOO_LARGE, f"at most {MAX_ORDERS_PER_WEBHOOK} orders in one notice")
    return tuple(found.values()) or (_NOWHERE,)


def _kept(headers: dict[str, str]) -> tuple[WebhookHeader, ...]:
    return tuple(
        WebhookHeader(name=name, value=value) for name, value in sorted(headers.items()) if name not in _CREDENTIALS
    )
