"""The POST routes that move money: from a request to a command on the log, and from its reply to an answer.

Flow: authenticate, keep the rate, read and guard the body, build the command, register the wait, append, wait, answer.
Once the append is acknowledged the request can only end with what the engine says, or with a 202: the command is
durable.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import web
from pydantic.alias_generators import to_camel

from http_ingress.command_log import command_envelope
from http_ingress.door import card_guard, request_headers
from http_ingress.door.callers import Caller, limit_rate
from http_ingress.door.request_bodies import read_object
from http_ingress.door.request_headers import Mode, Waiting
from http_ingress.door.tracing import Trace
from http_ingress.ingress import Ingress
from http_ingress.limits import MAX_BODY_BYTES, MAX_LARGE_BODY_BYTES, RETRY_AFTER_FULL_S
from http_ingress.money.bodies import (
    Body,
    CaptureBody,
    CompleteBody,
    PayerBody,
    PaymentBody,
    RefundBody,
    VoidBody,
    parse_body,
)
from http_ingress.replies.waiters import TooManyWaitingError
from http_ingress.representation import answers
from http_ingress.representation.answers import Answer, Wish
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError, retry_later
from schemas import identifiers
from schemas.commands_validation import CardDataError, InvalidCommandError, validate
from schemas.identifiers import (
    CommandId,
    GatewayName,
    IdempotencyKey,
    InvalidIdentifierError,
    OrderId,
    OriginId,
    PaymentId,
)
from schemas.records.commands import (
    BrowserFacts,
    CaptureRequested,
    Command,
    CompletionRequested,
    NamedText,
    Payer,
    PaymentRequested,
    PaymentToken,
    RefundRequested,
    VoidRequested,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request, with what every handler needs."""

    request: web.Request
    ingress: Ingress
    caller: Caller
    request_id: CommandId
    trace: Trace


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a POST asks for, besides its body."""

    origin: OriginId
    key: IdempotencyKey
    waiting: Waiting


B = TypeVar("B", bound=Body)


async def create_payment(call: Call) -> Answer:
    """Open the payment of an order."""
    asked, body = await _read(call, PaymentBody, may_be_empty=False, max_bytes=MAX_LARGE_BODY_BYTES)
    command = PaymentRequested(
        origin_id=asked.origin,
        order_id=OrderId(body.order_id),
        idempotency_key=asked.key,
        amount_minor=body.amount,
        currency=body.currency,
        token=body.token,
        capture=body.capture,
        tokens=tuple(
            PaymentToken(
                gateway=GatewayName(token.gateway),
                kind=token.kind,
                value=token.value,
                payer_reference=token.payer_reference,
            )
            for token in body.tokens or ()
        ),
        allow_partial=body.allow_partial,
        merchant_initiated=body.merchant_initiated,
        return_url=body.return_url,
        payer=None if body.payer is None else _payer_of(body.payer),
        statement_descriptor=body.statement_descriptor,
        metadata=_entries_of(body.metadata),
    )
    return await _submit(call, command, asked.waiting)


def _payer_of(payer: PayerBody) -> Payer:
    browser = payer.browser
    return Payer(
        email=payer.email,
        reference=payer.reference,
        ip=payer.ip,
        country=payer.country,
        browser=None
        if browser is None
        else BrowserFacts(
            accept_header=browser.accept_header,
            color_depth_bits=browser.color_depth,
            java_enabled=browser.java_enabled,
            language=browser.language,
            screen_height_px=browser.screen_height,
            screen_width_px=browser.screen_width,
            time_zone_offset_min=browser.time_zone_offset,
            user_agent=browser.user_agent,
        ),
    )


def _entries_of(said: Mapping[str, str] | None) -> tuple[NamedText, ...]:
    return tuple(NamedText(name=name, value=value) for name, value in (said or {}).items())


async def capture_payment(call: Call) -> Answer:
    """Capture some or all of an authorized payment."""
    payment_id, order = payment_in_path(call.request)
    asked, body = await _read(call, CaptureBody, may_be_empty=True)
    command = CaptureRequested(
        origin_id=asked.origin,
        order_id=order,
        idempotency_key=asked.key,
        payment_id=payment_id,
        amount_minor=body.amount,
        currency=body.currency,
        final=body.final,
    )
    return await _submit(call, command, asked.waiting)


async def void_payment(call: Call) -> Answer:
    """Release a payment of which nothing was captured; also what `cancel` asks for."""
    payment_id, order = payment_in_path(call.request)
    asked, _ = await _read(call, VoidBody, may_be_empty=True)
    command = VoidRequested(origin_id=asked.origin, order_id=order, idempotency_key=asked.key, payment_id=payment_id)
    return await _submit(call, command, asked.waiting)


async def complete_payment(call: Call) -> Answer:
    """Go on with a payment whose payer has acted."""
    payment_id, order = payment_in_path(call.request)
    asked, body = await _read(call, CompleteBody, may_be_empty=True, max_bytes=MAX_LARGE_BODY_BYTES)
    command = CompletionRequested(
        origin_id=asked.origin,
        order_id=order,
        idempotency_key=asked.key,
        payment_id=payment_id,
        parameters=_entries_of(body.parameters),
    )
    return await _submit(call, command, asked.waiting)


async def create_refund(call: Call) -> Answer:
    """Give back some or all of what was captured."""
    asked, body = await _read(call, RefundBody, may_be_empty=False)
    payment_id, order = known_payment(body.payment_id)
    command = RefundRequested(
        origin_id=asked.origin,
        order_id=order,
        idempotency_key=asked.key,
        payment_id=payment_id,
        amount_minor=body.amount,
        currency=body.currency,
    )
    return await _submit(call, command, asked.waiting)


def payment_in_path(request: web.Request) -> tuple[PaymentId, OrderId]:
    """Return the payment id of the path, and the order that it carries. Raises: ProblemError (404)."""
    return known_payment(request.match_info["paymentId"])


def known_payment(value: str) -> tuple[PaymentId, OrderId]:
    """Return the payment id, and the order that it carries.

    Raises:
        ProblemError: 404, no such id was ever given; 422, it holds a card number.
    """
    try:
        order = identifiers.order_of_payment(value)
    except InvalidIdentifierError:
        raise ProblemError(ProblemCode.PAYMENT_NOT_FOUND) from None
    card_guard.check_given_id(value, order)
    return PaymentId(value), order


async def _read(call: Call, model: type[B], *, may_be_empty: bool, max_bytes: int = MAX_BODY_BYTES) -> tuple[_Asked, B]:
    headers = call.request.headers
    waiting = request_headers.waiting(
        call.request.query, headers, default_timeout_s=call.ingress.settings.sync_timeout_s
    )
    key = request_headers.idempotency_key(headers)
    members = await read_object(call.request, may_be_empty=may_be_empty, max_bytes=max_bytes)
    if call.caller.named_origin is None and isinstance(said := members.get("originId"), str):
        limit_rate(call.caller.origin(said), call.ingress)  # dev mode: only the body names the origin
    card_guard.check_body(members)
    body = parse_body(model, members)
    return _Asked(origin=call.caller.origin(body.origin_id), key=key, waiting=waiting), body


async def _submit(call: Call, command: Command, waiting: Waiting) -> Answer:
    _validate(command)
    wish = answers.wish_of(command)
    answer = await _ask_engine(call, wish, waiting)
    if waiting.applied is None:
        return answer
    return Answer(
        status=answer.status, body=answer.body, headers={**answer.headers, "Preference-Applied": waiting.applied}
    )


def _validate(command: Command) -> None:
    try:
        validate(command)
    except CardDataError as error:
        raise card_guard.refusal(_member(error.field.rpartition(".")[2])) from None
    except InvalidCommandError as error:
        pointer = "#/" + "/".join(map(_member, error.field.split(".")))
        raise ProblemError(
            ProblemCode.INVALID_BODY, faults=(FieldFault(pointer=pointer, detail=error.message),)
        ) from None


def _member(field: str) -> str:
    """Return what the member of a body is called that becomes this field: bodies name units in prose."""
    words = field.split("_")
    return to_camel("_".join(words[:-1] if len(words) > 1 and words[-1] in _UNITS else words))


_UNITS: Final = frozenset({"minor", "bits", "px", "min"})


async def _ask_engine(call: Call, wish: Wish, waiting: Waiting) -> Answer:
    ingress = call.ingress
    envelope = command_envelope(
        wish.command,
        call.request_id,
        reply_partition=ingress.settings.reply_partition,
        final_only=waiting.mode is not Mode.ASYNC,
        now_ms=ingress.now_ms(),
        traceparent=call.trace.traceparent,
        tracestate=call.trace.tracestate,
    )
    try:
        waiter = ingress.waiters.expect(call.request_id, origin=wish.command.origin_id)
    except TooManyWaitingError:
        raise retry_later(ProblemCode.OVERLOADED, after_s=RETRY_AFTER_FULL_S) from None
    with waiter:  # registered before the append, so that no reply can come too early
        await ingress.log.append(wish.command, envelope)
        if waiting.mode is Mode.ASYNC:
            return answers.to_async(wish, await waiter.first(timeout_s=waiting.timeout_s))
        return answers.to_sync(wish, await waiter.settled(timeout_s=waiting.timeout_s))
