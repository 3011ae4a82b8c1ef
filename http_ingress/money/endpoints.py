"""The POST routes that move money: from a request to a command on the log, and from its reply to an answer.

Flow: authenticate, keep the rate, read and guard the body, build the command, register the wait, append, wait, answer.
Once the append is acknowledged the request can only end with what the engine says, or with a 202: the command is
durable.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from http_ingress.command_log import command_envelope
from http_ingress.door import card_guard, request_headers
from http_ingress.door.callers import Caller, limit_rate
from http_ingress.door.request_bodies import read_object
from http_ingress.door.request_headers import Mode, Waiting
from http_ingress.door.tracing import Trace
from http_ingress.ingress import Ingress
from http_ingress.limits import RETRY_AFTER_FULL_S
from http_ingress.money.bodies import Body, CaptureBody, PaymentBody, RefundBody, VoidBody, parse_body
from http_ingress.replies.waiters import TooManyWaitingError
from http_ingress.representation import answers
from http_ingress.representation.answers import Answer, Wish
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError, retry_later
from schemas import identifiers
from schemas.commands_validation import CardDataError, InvalidCommandError, validate
from schemas.identifiers import CommandId, IdempotencyKey, InvalidIdentifierError, OrderId, OriginId, PaymentId
from schemas.records.commands import CaptureRequested, Command, PaymentRequested, RefundRequested, VoidRequested


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
    asked, body = await _read(call, PaymentBody, may_be_empty=False)
    command = PaymentRequested(
        origin_id=asked.origin,
        order_id=OrderId(body.order_id),
        idempotency_key=asked.key,
        amount_minor=body.amount,
        currency=body.currency,
        token=body.token,
        capture=body.capture,
    )
    return await _submit(call, command, asked.waiting)


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


async def _read(call: Call, model: type[B], *, may_be_empty: bool) -> tuple[_Asked, B]:
    headers = call.request.headers
    waiting = request_headers.waiting(
        call.request.query, headers, default_timeout_s=call.ingress.settings.sync_timeout_s
    )
    key = request_headers.idempotency_key(headers)
    members = await read_object(call.request, may_be_empty=may_be_empty)
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
        raise card_guard.refusal(_FIELD_NAMES.get(error.field, error.field)) from None
    except InvalidCommandError as error:
        fault = FieldFault(pointer=f"#/{_FIELD_NAMES.get(error.field, error.field)}", detail=error.message)
        raise ProblemError(ProblemCode.INVALID_BODY, faults=(fault,)) from None


_FIELD_NAMES = {
    "origin_id": "originId",
    "order_id": "orderId",
    "amount_minor": "amount",
    "payment_id": "paymentId",
    "idempotency_key": "idempotencyKey",
}


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
