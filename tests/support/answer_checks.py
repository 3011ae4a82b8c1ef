"""Whether clients were told the truth: acknowledged is on the log, and every answer agrees with the row.

Checks of `checker`; each returns sentences, one a violation. The statuses are those of `representation.problems`, which
is what a client is promised.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from http_ingress.representation.problems import PROBLEMS, STATE_PROBLEMS, SUCCESS_STATUS, ProblemCode
from schemas import identifiers
from schemas.identifiers import GatewayName, IdempotencyKey, InvalidIdentifierError, OrderId, OriginId, PaymentId
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    NamedText,
    Payer,
    PaymentRequested,
    PaymentToken,
    RefundRequested,
    VoidRequested,
    op_id_of,
)
from schemas.records.orders import OperationRow
from schemas.vocabulary import OperationState, Rejection
from tests.support.exhibits import Evidence
from tests.support.workload import ACCEPTED, NOT_FINAL, Answer, Request

DEFECT = 500
_STATES: Mapping[str, OperationState] = {
    code.value: state for state, code in STATE_PROBLEMS.items() if state is not OperationState.REJECTED
}
_REJECTIONS = frozenset(rejection.value for rejection in Rejection) - set(_STATES)
_SUCCESSFUL = frozenset({OperationState.SUCCEEDED, OperationState.REVERSED})


def every_request_answered(evidence: Evidence) -> list[str]:
    """Every request has an answer that says something final, unless its client did not ask for one."""
    states = {op_id: operation.state for op_id, (_, operation) in evidence.operations().items()}
    return [
        f"request {each.number} on {each.order_id} has no final answer: {[a.status for a in each.answers]}"
        for each in evidence.history.requests
        if not each.done and not (each.answers and _as_final_as_it_gets(each, states))
    ]


def _as_final_as_it_gets(request: Request, states: Mapping[str, OperationState]) -> bool:
    """Say whether the last answer is the operation's last word, though a client may well ask again."""
    state = states.get(op_of(request) or "")
    if state is OperationState.MANUAL_REVIEW:
        return request.last.status == ACCEPTED
    return state is OperationState.NOT_EXECUTED and _code(request.last) == ProblemCode.GATEWAY_UNAVAILABLE


def one_answer_a_wish(evidence: Evidence) -> list[str]:
    """All final answers to the same wish under the same key are the same; a success may be reversed later."""
    told: dict[tuple[str, str, str, str], set[int]] = defaultdict(set)
    for request in evidence.history.requests:
        for answer in request.answers:
            if answer.status not in NOT_FINAL and _code(answer) != ProblemCode.REVERSED:
                told[_wish(request)].add(answer.status)
    return [f"{wish[:3]} was told {sorted(statuses)}" for wish, statuses in told.items() if len(statuses) > 1]


def _wish(request: Request) -> tuple[str, str, str, str]:
    path = request.path.partition("?")[0]
    return request.origin_id, request.key, request.order_id, f"{path} {sorted(request.body.items())}"


def acknowledged_is_on_the_log(evidence: Evidence) -> list[str]:
    """What a client was told was taken, or came to anything, stands on the commands topic: that very record.

    Not only the operation: a client that asks again appends its command once more, which would hide that it was lost.
    """
    logged = {op_id for ops in evidence.commands.values() for op_id in ops}
    faults = []
    for request in evidence.history.requests:
        told = {answer.request_id: str(answer.status) for answer in request.answers if _acknowledges(answer)}
        told |= dict.fromkeys(request.appended_ids, "appended")
        who = f"request {request.number} on {request.order_id}"
        lost = [f"{said} as {name or '(no id)'}" for name, said in told.items() if name not in evidence.command_ids]
        faults += [f"{who} was told {each}, and that command is lost" for each in lost]
        if told and (op_id := op_of(request)) is not None and op_id not in logged:
            faults.append(f"{who} was told {sorted(told.values())}, {op_id} is lost")
    return faults


def _acknowledges(answer: Answer) -> bool:
    return 200 <= answer.status < 300 or "operation" in answer.body or _code(answer) in _STATES


def reads_show_what_was_told(evidence: Evidence) -> list[str]:
    """Who reads a payment sees every success that it was told of before it asked."""
    faults = []
    for look in evidence.history.looks:
        shown = {each["id"]: each["state"] for each in look.body.get("operations", ())}
        missing = sorted(op_id for op_id in look.told if shown.get(op_id) not in _SUCCESSFUL)
        if missing or look.body.get("id") != look.payment_id:
            faults.append(f"a read of {look.payment_id} was answered {look.status} and lacks {missing}")
    return faults


def answers_agree_with_rows(evidence: Evidence) -> list[str]:
    """Every answer about an operation says what its row says."""
    operations = {op_id: operation for op_id, (_, operation) in evidence.operations().items()}
    settled = evidence.settled_at_desk()
    faults: list[str] = []
    for request in evidence.history.requests:
        op_id = op_of(request)
        if op_id is not None:
            for answer in request.answers:
                if op_id in settled and _code(answer) == ProblemCode.GATEWAY_UNAVAILABLE:
                    continue  # as a person had settled it, until the gateway said otherwise: `later_word_holds`
                found = _disagreement(request, answer, op_id, operations.get(op_id))
                faults += [f"request {request.number} on {request.order_id}: {fault}" for fault in found]
    return list(dict.fromkeys(faults))


def _disagreement(request: Request, answer: Answer, op_id: str, operation: OperationRow | None) -> Iterator[str]:
    told = answer.body.get("operation")
    if isinstance(told, dict) and told.get("id") != op_id:
        yield f"asked for {op_id}, was answered about {told.get('id')}"
    if answer.status in {200, 201}:
        yield from _wrong_success(answer, op_id, operation)
        if operation is not None:
            yield from _wrong_names(request, answer, operation)
        return
    code = _code(answer)
    if code in _STATES and (operation is None or operation.state is not _STATES[code]):
        yield f"was told {answer.status} {code}, {op_id} is {_state_of(operation)}"
    if code in _REJECTIONS:
        yield from _wrong_rejection(answer, code, op_id, operation)
    if code in _STATES or code in _REJECTIONS:
        if answer.status != PROBLEMS[ProblemCode(code)].status:
            yield f"was told {answer.status} for {code}"
    elif answer.final or answer.status == DEFECT:
        # Every wish of the workload is a command that the ingress takes. What else it says hides what became of it.
        yield f"was told {answer.status} {code or 'without a code'}, which says nothing of {op_id}"


def _wrong_success(answer: Answer, op_id: str, operation: OperationRow | None) -> Iterator[str]:
    if operation is None or operation.state not in _SUCCESSFUL or answer.status != SUCCESS_STATUS[operation.kind]:
        yield f"was told {answer.status}, {op_id} is {_state_of(operation)}"
        return
    told = answer.body.get("operation", answer.body)
    if told.get("amount") != operation.amount_minor:
        yield f"was told the amount {told.get('amount')}, {op_id} has {operation.amount_minor}"


def _wrong_names(request: Request, answer: Answer, operation: OperationRow) -> Iterator[str]:
    """Tell which names and which currency in a success are not those of the operation that was asked for."""
    body = answer.body
    refund = request.path.startswith("/refunds")
    detail = body if refund else body.get("operation", {})
    told = {
        "payment": body.get("paymentId" if refund else "id"),
        "origin": body.get("originId"),
        "order": body.get("orderId"),
        "currency": detail.get("currency"),
    }
    true = {
        "payment": operation.payment_id,
        "origin": request.origin_id,
        "order": request.order_id,
        "currency": operation.asked_currency,
    }
    yield from (f"was told the {name} {told[name]}, it is {true[name]}" for name in true if told[name] != true[name])


def _wrong_rejection(answer: Answer, code: str, op_id: str, operation: OperationRow | None) -> Iterator[str]:
    rejection = Rejection(code)
    if rejection is Rejection.TOO_MANY_OPERATIONS and operation is None:
        return  # a full row keeps no operation more
    if operation is None or operation.state is not OperationState.REJECTED or operation.rejection is not rejection:
        yield f"was told {answer.status} {code}, {op_id} is {_state_of(operation)}"


def _code(answer: Answer) -> str:
    return str(answer.body.get("code", ""))


def _state_of(operation: OperationRow | None) -> str:
    return "in no row" if operation is None else str(operation.rejection or operation.state)


def op_of(request: Request) -> str | None:
    """Return the operation that the request asks for; None of one that is no command at all."""
    try:
        command = command_of(request)
    except (KeyError, TypeError, InvalidIdentifierError):
        return None
    return None if command is None else op_id_of(command)


def command_of(request: Request) -> Command | None:
    """Return the command as the ingress makes it. Raises: KeyError, InvalidIdentifierError when it would refuse."""
    path, body = request.path.partition("?")[0], request.body
    origin, key = OriginId(request.origin_id), IdempotencyKey(request.key)
    if path == "/payments":
        return PaymentRequested(
            origin_id=origin,
            order_id=OrderId(body["orderId"]),
            idempotency_key=key,
            amount_minor=body["amount"],
            currency=body["currency"],
            token=body.get("token"),
            capture=body.get("capture", True),
            tokens=tuple(
                PaymentToken(
                    gateway=GatewayName(each["gateway"]),
                    kind=each["kind"],
                    value=each["value"],
                    payer_reference=each.get("payerReference"),
                )
                for each in body.get("tokens", ())
            ),
            payer=Payer(**body["payer"]) if "payer" in body else None,
            allow_partial=body.get("allowPartial", False),
            return_url=body.get("returnUrl"),
        )
    if path == "/refunds":
        payment = PaymentId(body["paymentId"])
        return RefundRequested(
            origin_id=origin,
            order_id=identifiers.order_of(payment),
            idempotency_key=key,
            payment_id=payment,
            amount_minor=body.get("amount"),
            currency=body.get("currency"),
        )
    return _follow_up(path, origin, key, request)


def _follow_up(path: str, origin: OriginId, key: IdempotencyKey, request: Request) -> Command | None:
    _, _, rest = path.partition("/payments/")
    named, _, verb = rest.partition("/")
    payment = PaymentId(named)
    if verb == "complete":
        brought = request.body.get("parameters", {})
        return CompletionRequested(
            origin_id=origin,
            order_id=identifiers.order_of(payment),
            idempotency_key=key,
            payment_id=payment,
            parameters=tuple(NamedText(name=name, value=value) for name, value in brought.items()),
        )
    if verb in {"void", "cancel"}:
        order = identifiers.order_of(payment)
        return VoidRequested(origin_id=origin, order_id=order, idempotency_key=key, payment_id=payment)
    if verb == "capture":
        return CaptureRequested(
            origin_id=origin,
            order_id=identifiers.order_of(payment),
            idempotency_key=key,
            payment_id=payment,
            amount_minor=request.body.get("amount"),
            currency=request.body.get("currency"),
            final=request.body.get("final", False),
        )
    return None
