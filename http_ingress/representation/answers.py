"""From what the engine replied to what the client is told: status, headers and body. Pure.

Called by the handlers with a reply, or with none when the time was over: the command is durable then, so the answer
is a 202 and never an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway_adapters.contract import Acknowledgement
from http_ingress.limits import RETRY_AFTER_IN_DOUBT_S
from http_ingress.representation import payloads, problems
from http_ingress.representation.problems import (
    PROBLEMS,
    REJECTION_PROBLEMS,
    STATE_PROBLEMS,
    SUCCESS_STATUS,
    ProblemCode,
)
from schemas import identifiers
from schemas.records.commands import Command, PaymentRequested, RefundRequested, op_id_of
from schemas.records.payments import OperationReplied, OperationView
from schemas.vocabulary import OperationKind, OperationState, Overlay, Rejection

JSON_TYPE: Final = "application/json"
UNDER_WAY: Final = frozenset({OperationState.QUEUED, OperationState.CLAIMING, OperationState.DISPATCHED})
_REFUSED: Final = frozenset({OperationState.CONFLICT, OperationState.REJECTED})
_MS_PER_S = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer, not yet tied to a server."""

    status: int
    body: payloads.View | Acknowledgement  # an acknowledgement is a gateway's own words
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        if isinstance(self.body, Acknowledgement):
            return self.body.content_type
        return problems.CONTENT_TYPE if isinstance(self.body, payloads.Problem) else JSON_TYPE

    def encoded(self) -> bytes:
        """Return the body's bytes. Members of a problem that say nothing are left out."""
        if isinstance(self.body, Acknowledgement):
            return self.body.body
        silent = {name for name, said in self.body if said is None} if isinstance(self.body, payloads.Problem) else None
        return self.body.model_dump_json(exclude=silent).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a POST asked for: its command, and where its outcome can be read."""

    command: Command
    target_id: str  # of the payment or refund
    location: str

    @property
    def makes_refund(self) -> bool:
        """Whether the outcome is a refund rather than a payment."""
        return isinstance(self.command, RefundRequested)


def wish_of(command: Command) -> Wish:
    """Return the wish: ids are derived from the command, so they are known before anything is written."""
    match command:
        case PaymentRequested():
            target: str = identifiers.payment_id(command.order_id, op_id_of(command))
        case RefundRequested():
            target = identifiers.refund_id(command.order_id, op_id_of(command))
        case _:
            target = command.payment_id
    collection = "refunds" if isinstance(command, RefundRequested) else "payments"
    return Wish(command=command, target_id=target, location=f"/{collection}/{target}")


def settled(reply: OperationReplied) -> bool:
    """Whether a sync request has its answer: the operation's last word for now, in doubt and pending included."""
    return reply.final or (reply.operation is not None and reply.operation.state not in UNDER_WAY)


def to_sync(wish: Wish, reply: OperationReplied | None) -> Answer:
    """Return the answer to a sync request."""
    if reply is None or reply.operation is None:
        return accepted(wish, reply)
    code = problem_of(reply.operation)
    if code is not None:
        return _refusal(code, reply, reply.operation)
    if reply.operation.state is not OperationState.SUCCEEDED or reply.payment is None:
        return accepted(wish, reply)
    return _success(wish, reply, reply.operation)


def to_async(wish: Wish, reply: OperationReplied | None) -> Answer:
    """Return the answer to an async request: refused, or 202.

    What was taken is a 202 whatever became of it meanwhile, so that the same request gets the same status again.
    """
    if reply is not None and reply.operation is not None and reply.operation.state in _REFUSED:
        return to_sync(wish, reply)
    return accepted(wish, reply)


def problem_of(operation: OperationView) -> ProblemCode | None:
    """Return the problem that the operation's state is, if it is one."""
    if operation.state is OperationState.REJECTED and operation.rejection is not None:
        return REJECTION_PROBLEMS[operation.rejection]
    return STATE_PROBLEMS.get(operation.state)


def accepted(wish: Wish, reply: OperationReplied | None) -> Answer:
    """Return the 202: durable, and under way, pending, in doubt or in review."""
    operation = reply.operation if reply is not None else None
    payment = reply.payment if reply is not None else None
    body = payloads.Accepted(
        id=wish.target_id,
        origin_id=wish.command.origin_id,
        order_id=wish.command.order_id,
        state=operation.state if operation is not None else "accepted",
        in_doubt=(operation is not None and operation.state is OperationState.UNKNOWN)
        or (payment is not None and Overlay.IN_DOUBT in payment.overlays),
        action_url=operation.action_url if operation is not None else None,
        operation=payloads.operation(operation) if operation is not None else None,
        payment=payloads.payment(payment) if payment is not None else None,
    )
    return Answer(status=202, body=body, headers={"Location": wish.location, **_replayed(reply)})


def _success(wish: Wish, reply: OperationReplied, operation: OperationView) -> Answer:
    assert reply.payment is not None
    headers = _replayed(reply)
    status = SUCCESS_STATUS[operation.kind]
    body: payloads.View | Acknowledgement  # an acknowledgement is a gateway's own words
    if wish.makes_refund and operation.refund_id is not None:
        body = payloads.refund(reply.payment, operation)
        headers["Location"] = f"/refunds/{operation.refund_id}"
    else:
        body = payloads.payment_answer(reply.payment, operation)
        if operation.kind in (OperationKind.AUTHORIZE, OperationKind.SALE):
            headers["Location"] = f"/payments/{reply.payment.payment_id}"
    return Answer(status=status, body=body, headers=headers)


def _refusal(code: ProblemCode, reply: OperationReplied, operation: OperationView) -> Answer:
    headers = _replayed(reply)
    retry_after_s = _retry_after_s(operation)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    # Of a reused key the operation shown would be one that never was, and the payment may be another order's.
    known = code is not ProblemCode.IDEMPOTENCY_KEY_REUSED
    body = problem(
        code,
        detail=operation.error.message if operation.error is not None else None,
        operation=payloads.operation(operation) if known else None,
        payment=payloads.payment(reply.payment) if known and reply.payment is not None else None,
    )
    return Answer(status=body.status, body=body, headers=headers)


def _retry_after_s(operation: OperationView) -> int | None:
    if operation.rejection is Rejection.PAYMENT_IN_DOUBT:
        return RETRY_AFTER_IN_DOUBT_S
    if operation.error is None or operation.error.retry_after_ms is None:
        return None
    return max(1, -(-operation.error.retry_after_ms // _MS_PER_S))  # rounded up: earlier would be too early


def _replayed(reply: OperationReplied | None) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if reply is not None and reply.replayed else {}


def problem(
    code: ProblemCode,
    *,
    detail: str | None = None,
    errors: tuple[payloads.Fault, ...] | None = None,
    operation: payloads.Operation | None = None,
    payment: payloads.Payment | None = None,
) -> payloads.Problem:
    """Return the problem's body."""
    kind = PROBLEMS[code]
    return payloads.Problem(
        type=problems.type_of(code),
        title=kind.title,
        status=kind.status,
        code=code,
        detail=detail,
        errors=errors or None,
        operation=operation,
        payment=payment,
    )


def of_error(error: problems.ProblemError) -> Answer:
    """Return the answer for a problem that a handler raised."""
    faults = tuple(payloads.Fault(pointer=each.pointer, detail=each.detail) for each in error.faults)
    body = problem(error.code, detail=error.detail, errors=faults)
    return Answer(status=error.status, body=body, headers=dict(error.headers))


def to_payment_query(reply: OperationReplied) -> Answer:
    """Return the answer to `GET /payments/{id}`."""
    if not reply.found or reply.payment is None:
        return of_error(problems.ProblemError(ProblemCode.PAYMENT_NOT_FOUND))
    return Answer(status=200, body=payloads.payment_details(reply.payment, reply.operations))


def to_refund_query(reply: OperationReplied) -> Answer:
    """Return the answer to `GET /refunds/{id}`."""
    if not reply.found or reply.payment is None or reply.operation is None or reply.operation.refund_id is None:
        return of_error(problems.ProblemError(ProblemCode.REFUND_NOT_FOUND))
    return Answer(status=200, body=payloads.refund(reply.payment, reply.operation))
