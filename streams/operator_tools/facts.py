"""What may be shown of each record on a timeline: an allow-list, field by field.

Called by `timelines`. A field that is not named here is not shown, so that a new field is hidden until somebody
decides; tokens are never shown, not even shortened: whoever holds one can charge it at some gateways.
Free text is masked as in the logs.
"""

from dataclasses import dataclass

from schemas.identifiers import OpId
from schemas.messages import Record
from schemas.records.claims import ClaimDecided, ClaimRequested
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    kind_of,
    op_id_of,
)
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionView
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, OperationError, WebhookReceived
from schemas.records.payments import OperationView, PaymentEvent, PaymentView
from schemas.records.timers import TimerFired
from streams.telemetry.logs import masked

REDACTED = "[redacted]"

Fact = tuple[str, str | int | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a timeline shows of one record."""

    kind: str  # which sort of record, for a person
    op_id: OpId | None
    facts: tuple[Fact, ...]


def shown(record: Record) -> Shown | None:
    """Return what may be shown of the record; None: it has no place on a timeline."""
    match record:
        case PaymentRequested() | CaptureRequested() | VoidRequested() | RefundRequested() | CompletionRequested():
            return Shown(kind="command", op_id=op_id_of(record), facts=_of_command(record))
        case ClaimRequested() | ClaimDecided():
            return _of_claim(record)
        case GatewayCallRequested() | GatewayCallCompleted() | PaymentEvent():
            return _of_execution(record)
        case DecisionMade() | DecisionProposed():
            return _of_decision(record)
        case DeadLetter() | DeadLetterHandled() | WebhookReceived() | TimerFired():
            return _of_notice(record)
        case _:
            return None


def _facts(**named: str | int | bool | None) -> tuple[Fact, ...]:
    return tuple((name, value) for name, value in named.items() if value is not None)


def _of_command(command: Command) -> tuple[Fact, ...]:
    common = _facts(asks=kind_of(command).value, idempotency_key=command.idempotency_key)
    match command:
        case PaymentRequested():
            return common + _facts(
                amount_minor=command.amount_minor,
                currency=command.currency,
                token=REDACTED,
                tokens_for=",".join(token.gateway for token in command.tokens) or None,
                allow_partial=command.allow_partial or None,
                merchant_initiated=command.merchant_initiated or None,
            )
        case CaptureRequested():
            return common + _facts(amount_minor=command.amount_minor, currency=command.currency, final=command.final)
        case RefundRequested():
            return common + _facts(amount_minor=command.amount_minor, currency=command.currency)
        case VoidRequested() | CompletionRequested():
            return common


def _of_claim(record: ClaimRequested | ClaimDecided) -> Shown:
    match record:
        case ClaimRequested():
            facts = _facts(
                idempotency_key=record.idempotency_key,
                gateways=",".join(record.plan.gateways),
                policy_version=record.plan.policy_version,
                refusal=record.plan.refusal,
                action_life_ms=record.plan.action_life_ms,
                fallback_classes=",".join(record.plan.fallback_classes) or None,
            )
            return Shown(kind="claim", op_id=record.op_id, facts=facts)
        case ClaimDecided():
            facts = _facts(
                granted=record.granted,
                idempotency_key=record.idempotency_key,
                gateways=",".join(record.plan.gateways),
                policy_version=record.plan.policy_version,
                holder_order_id=None if record.granted else record.holder_order_id,
                holder_op_id=None if record.granted else record.holder_op_id,
            )
            return Shown(kind="verdict", op_id=record.op_id, facts=facts)


def _of_execution(record: GatewayCallRequested | GatewayCallCompleted | PaymentEvent) -> Shown:
    if isinstance(record, PaymentEvent):
        return Shown(kind="event", op_id=record.operation.op_id, facts=_of_event(record))
    if isinstance(record, GatewayCallRequested):
        return Shown(kind="gateway request", op_id=record.op_id, facts=_of_call(record))
    return Shown(kind="gateway result", op_id=record.op_id, facts=_of_result(record))


def _of_call(call: GatewayCallRequested) -> tuple[Fact, ...]:
    return _facts(
        call=call.kind.value,
        about=call.inquired_kind,
        gateway=call.gateway,
        account=call.account,
        attempt=call.attempt,
        call_number=call.call_number,
        gateway_key=call.gateway_key,
        amount_minor=call.amount_minor,
        currency=call.currency,
        token=None if call.token is None else REDACTED,
    )


def _of_result(result: GatewayCallCompleted) -> tuple[Fact, ...]:
    return _facts(
        outcome=result.outcome.value,
        call=result.kind.value,
        gateway=result.gateway,
        account=result.account,
        attempt=result.attempt,
        call_number=result.call_number,
        gateway_reference=result.gateway_reference,
        confirmed_amount_minor=result.confirmed_amount_minor,
        confirmed_currency=result.confirmed_currency,
        case_reference=result.case_reference,
        payment_reference=result.payment_reference,
        replayed=True if result.replayed else None,
        sole=True if result.sole else None,
    ) + _of_error(result.error)


def _of_error(error: OperationError | None) -> tuple[Fact, ...]:
    if error is None:
        return ()
    return _facts(
        error=error.code,
        decline_class=error.decline_class,
        gateway_code=error.gateway_code,
        message=masked(error.message),
        retry=error.retry.value,
        retry_after_ms=error.retry_after_ms,
    )


def _of_event(event: PaymentEvent) -> tuple[Fact, ...]:
    return (
        _facts(sequence=event.sequence)
        + _of_operation(event.operation)
        + _of_payment(event.payment)
        + _of_view(event.decision)
    )


def _of_view(decision: DecisionView | None) -> tuple[Fact, ...]:
    if decision is None:
        return ()
    return _facts(
        decision_id=decision.decision_id,
        verdict=decision.verdict.value,
        decided_minor=decision.amount_minor,
        decided_by=decision.decided_by,
        approved_by=decision.approved_by,
        why=masked(decision.why),
        refusal=decision.refusal,
    )


def _of_decision(record: DecisionMade | DecisionProposed) -> Shown:
    common = _facts(
        decision_id=record.decision_id,
        verdict=record.verdict.value,
        amount_minor=record.amount_minor,
        why=masked(record.why),
    )
    if isinstance(record, DecisionProposed):
        facts = common + _facts(proposed_by=record.proposed_by, expires_at_ms=record.expires_at_ms)
        return Shown(kind="proposal", op_id=record.op_id, facts=facts)
    facts = common + _facts(decided_by=record.decided_by, approved_by=record.approved_by)
    return Shown(kind="decision", op_id=record.op_id, facts=facts)


def _of_operation(operation: OperationView) -> tuple[Fact, ...]:
    return _facts(
        operation=operation.kind.value,
        initiator=operation.initiator.value,
        state=operation.state.value,
        amount_minor=operation.amount_minor,
        counted_minor=operation.counted_minor,
        currency=operation.currency,
        refund_id=operation.refund_id,
        gateway=operation.gateway,
        gateway_reference=operation.gateway_reference,
        attempts=operation.attempts,
        rejection=operation.rejection,
    ) + _of_error(operation.error)


def _of_payment(payment: PaymentView | None) -> tuple[Fact, ...]:
    if payment is None:
        return ()
    return _facts(
        payment_id=payment.payment_id,
        status=payment.status.value,
        overlays=",".join(payment.overlays) or None,
        authorized_minor=payment.authorized_minor,
        captured_minor=payment.captured_minor,
        refunded_minor=payment.refunded_minor,
        released_minor=payment.released_minor,
        disputed_minor=payment.disputed_minor,
    )


def _of_notice(record: DeadLetter | DeadLetterHandled | WebhookReceived | TimerFired) -> Shown:
    match record:
        case DeadLetter():
            where = f"{record.topic}:{record.partition}:{record.offset}"
            facts = _facts(
                reason=record.reason.value, detail=masked(record.detail), component=record.component, original=where
            )
            return Shown(kind="dead letter", op_id=None, facts=facts)
        case DeadLetterHandled():
            letter = f"{record.partition}:{record.offset}"
            facts = _facts(action=record.action, letter=letter, operator=record.operator, note=masked(record.note))
            return Shown(kind="dead letter handled", op_id=None, facts=facts)
        case WebhookReceived():
            facts = _facts(gateway=record.gateway, account=record.account, gateway_reference=record.gateway_reference)
            return Shown(kind="webhook", op_id=None, facts=facts)
        case TimerFired():
            facts = _facts(timer=record.kind.value, number=record.number, due_at_ms=record.due_at_ms)
            return Shown(kind="timer", op_id=record.op_id, facts=facts)
