"""The routes of the desk: decide, see what waits for a second person, approve.

Flow of a decision: read and guard the body, validate its values, ask the order what would become of it (a trial, which
changes nothing), and only when it would hold append it and wait for what came of it. With four eyes a proposal is
appended instead; whoever approves it goes the same way, and the decision that is appended then names both.

A decision is known by its id, which follows from who asks and under which `Idempotency-Key`: asked for again, it is the
same one, and holds once.
"""

import dataclasses
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from aiohttp import web

from http_ingress.door import card_guard, request_headers
from http_ingress.door.request_bodies import read_object
from http_ingress.door.tracing import Trace
from http_ingress.limits import QUERY_TIMEOUT_S, RETRY_AFTER_FULL_S, RETRY_AFTER_LOG_S
from http_ingress.money.bodies import parse_body
from http_ingress.money.endpoints import known_payment
from http_ingress.operators import payloads
from http_ingress.operators.decision_log import Appendable, envelope_of
from http_ingress.operators.desk import Desk
from http_ingress.operators.payloads import DecisionAnswer, DecisionBody, Pending
from http_ingress.operators.proposals import MAX_PENDING, Proposals
from http_ingress.replies.waiters import TooManyWaitingError
from http_ingress.representation.answers import Answer
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError, retry_later
from schemas import identifiers
from schemas.decisions_validation import CardInDecisionError, InvalidDecisionError, validate
from schemas.identifiers import CommandId, DecisionId, IdempotencyKey, InvalidIdentifierError, OperatorName, OriginId
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, DecisionView
from schemas.records.payments import OperationReplied, PaymentQueried
from schemas.vocabulary import DecisionRefusal, Verdict

_FIELD_NAMES: Final = {
    "origin_id": "originId",
    "payment_id": "paymentId",
    "op_id": "operation",
    "amount_minor": "amount",
}
_NEEDS_ONE_PERSON: Final = frozenset({Verdict.NOTE})
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One authenticated request at the desk."""

    request: web.Request
    desk: Desk
    operator: OperatorName
    request_id: CommandId
    trace: Trace


async def decide(visit: Visit) -> Answer:
    """Take a decision, propose it where two people are needed, or say what would become of it."""
    request_headers.refuse_unknown_parameters(visit.request.query)
    members = await read_object(visit.request, may_be_empty=False)
    card_guard.check_body(members)
    body = parse_body(DecisionBody, members)
    wish = _wish_of(visit, body)
    if body.dry_run:
        return await _try_only(visit, wish)
    if not visit.desk.rules.four_eyes or wish.verdict in _NEEDS_ONE_PERSON:
        return await _carry_out(visit, wish)
    return await _propose(visit, wish)


async def list_pending(visit: Visit) -> Answer:
    """Return what waits for a second person."""
    request_headers.refuse_unknown_parameters(visit.request.query)
    pending = (await _proposals(visit)).pending(visit.desk.now_ms())
    return Answer(status=200, body=Pending(proposals=tuple(map(payloads.proposal, pending))))


async def approve(visit: Visit) -> Answer:
    """Let a proposal hold. Whoever approves is another person than who proposed it."""
    request_headers.refuse_unknown_parameters(visit.request.query)
    known = await _proposals(visit)
    decision_id = _decision_in_path(visit.request)
    made = known.made(decision_id)
    if made is not None:
        return await _as_it_was_made(visit, made)
    proposed = known.proposed(decision_id)
    if proposed is None or visit.desk.now_ms() >= proposed.expires_at_ms:
        raise ProblemError(ProblemCode.PROPOSAL_NOT_FOUND, "it was never made, or has expired: propose it again")
    if proposed.proposed_by == visit.operator:
        raise ProblemError(ProblemCode.SAME_PERSON, f"{visit.operator} has proposed it: another operator approves it")
    return await _carry_out(visit, _approved(visit, proposed))


def _wish_of(visit: Visit, body: DecisionBody) -> DecisionMade:
    payment_id, order = known_payment(body.payment_id)
    decision = DecisionMade(
        decision_id=identifiers.decision_of(visit.operator, _key_of(visit.request), order),
        origin_id=OriginId(body.origin_id),
        order_id=order,
        payment_id=payment_id,
        op_id=identifiers.OpId(body.operation),
        verdict=Verdict(body.outcome),
        amount_minor=body.amount,
        why=body.why,
        decided_by=visit.operator,
        approved_by=None,
        decided_at_ms=visit.desk.now_ms(),
    )
    try:
        validate(decision)
    except CardInDecisionError:
        raise card_guard.refusal() from None
    except InvalidDecisionError as error:
        fault = FieldFault(pointer=f"#/{_FIELD_NAMES.get(error.field, error.field)}", detail=error.message)
        raise ProblemError(ProblemCode.INVALID_BODY, faults=(fault,)) from None
    return decision


def _key_of(request: web.Request) -> IdempotencyKey:
    given = request_headers.IDEMPOTENCY_KEY in request.headers
    return request_headers.idempotency_key(request.headers) if given else IdempotencyKey(uuid4().hex)


def _decision_in_path(request: web.Request) -> DecisionId:
    try:
        return identifiers.decision_id(request.match_info["decisionId"])
    except InvalidIdentifierError:
        raise ProblemError(ProblemCode.PROPOSAL_NOT_FOUND) from None


def _approved(visit: Visit, proposed: DecisionProposed) -> DecisionMade:
    return DecisionMade(
        decision_id=proposed.decision_id,
        origin_id=proposed.origin_id,
        order_id=proposed.order_id,
        payment_id=proposed.payment_id,
        op_id=proposed.op_id,
        verdict=proposed.verdict,
        amount_minor=proposed.amount_minor,
        why=proposed.why,
        decided_by=proposed.proposed_by,
        approved_by=visit.operator,
        decided_at_ms=visit.desk.now_ms(),
    )


async def _try_only(visit: Visit, wish: DecisionMade) -> Answer:
    before = await _ask(visit, _query(visit, wish))
    after = await _would_hold(visit, wish)
    body = DecisionAnswer(
        state="tried",
        decision=payloads.decision(wish),
        before=payloads.standing(before, wish.op_id),
        after=payloads.standing(after, wish.op_id),
    )
    return Answer(status=200, body=body)


async def _carry_out(visit: Visit, wish: DecisionMade) -> Answer:
    await _would_hold(visit, wish)
    reply = await _reply_to(visit, wish)
    if reply is None:  # durable: it holds or is refused when the order is worked on, and its event says which
        answer = DecisionAnswer(state="accepted", decision=payloads.decision(wish), before=None, after=None)
        return Answer(status=202, body=answer)
    _refuse_what_was_refused(reply.decision)
    answer = DecisionAnswer(
        state="decided",
        decision=payloads.decision(wish),
        before=None,
        after=payloads.standing(reply, wish.op_id),
    )
    return Answer(status=200, body=answer)


async def _propose(visit: Visit, wish: DecisionMade) -> Answer:
    known = await _proposals(visit)
    made = known.made(wish.decision_id)
    if made is not None:
        return await _as_it_was_made(visit, made)
    proposed = _proposal_of(visit, wish)
    earlier = known.proposed(wish.decision_id)
    if earlier is not None:
        return _as_it_was_proposed(earlier, proposed)
    if len(known.pending(visit.desk.now_ms())) >= MAX_PENDING:
        raise ProblemError(ProblemCode.TOO_MANY_PROPOSALS, f"{MAX_PENDING} wait already: approve them, or let them go")
    await _would_hold(visit, wish)
    await _append(visit, proposed)
    return _proposal_answer(proposed)


def _proposal_of(visit: Visit, wish: DecisionMade) -> DecisionProposed:
    return DecisionProposed(
        decision_id=wish.decision_id,
        origin_id=wish.origin_id,
        order_id=wish.order_id,
        payment_id=wish.payment_id,
        op_id=wish.op_id,
        verdict=wish.verdict,
        amount_minor=wish.amount_minor,
        why=wish.why,
        proposed_by=wish.decided_by,
        proposed_at_ms=wish.decided_at_ms,
        expires_at_ms=wish.decided_at_ms + visit.desk.rules.proposal_life_ms,
    )


def _as_it_was_proposed(earlier: DecisionProposed, now: DecisionProposed) -> Answer:
    same = dataclasses.replace(now, proposed_at_ms=earlier.proposed_at_ms, expires_at_ms=earlier.expires_at_ms)
    if same != earlier:
        raise _refused(DecisionRefusal.ID_REUSED)
    return _proposal_answer(earlier)


def _proposal_answer(proposed: DecisionProposed) -> Answer:
    body = DecisionAnswer(state="proposed", decision=payloads.proposal(proposed), before=None, after=None)
    return Answer(status=202, body=body)


async def _as_it_was_made(visit: Visit, made: DecisionMade) -> Answer:
    """Return the answer to who asks for a decision that stands on the log already. What became of it: as it is now."""
    now = await _ask(visit, _query(visit, made))
    body = DecisionAnswer(
        state="decided", decision=payloads.decision(made), before=None, after=payloads.standing(now, made.op_id)
    )
    return Answer(status=200, body=body)


async def _would_hold(visit: Visit, wish: DecisionMade) -> OperationReplied:
    """Return how things would stand after the decision. Raises: ProblemError: the order would refuse it."""
    trial = DecisionTried(
        request_id=visit.request_id,
        reply_partition=visit.desk.rules.reply_partition,
        origin_id=wish.origin_id,
        order_id=wish.order_id,
        decision=wish,
        tried_at_ms=visit.desk.now_ms(),
    )
    reply = await _ask(visit, trial)
    _refuse_what_was_refused(reply.decision)
    return reply


def _refuse_what_was_refused(told: DecisionView | None) -> None:
    if told is not None and told.refusal is not None:
        raise _refused(told.refusal)


def _refused(refusal: DecisionRefusal) -> ProblemError:
    match refusal:
        case DecisionRefusal.PAYMENT_UNKNOWN:
            return ProblemError(ProblemCode.PAYMENT_NOT_FOUND)
        case DecisionRefusal.OPERATION_UNKNOWN:
            return ProblemError(ProblemCode.OPERATION_NOT_FOUND)
        case _:
            return ProblemError(ProblemCode.DECISION_REFUSED, f"{refusal}: {_IN_WORDS[refusal]}")


_IN_WORDS: Final = {
    DecisionRefusal.UNDER_WAY: "a gateway's answer is still to come",
    DecisionRefusal.NOT_OPEN: "the operation is settled, there is nothing to decide",
    DecisionRefusal.NOTHING_TO_TAKE_BACK: "the operation counts for nothing that could be taken back",
    DecisionRefusal.AMOUNT_OUT_OF_RANGE: "the amount is above what the operation is about",
    DecisionRefusal.NO_REVIEW: "the payment has no review to close",
    DecisionRefusal.ID_REUSED: "the same key was used for another decision",
    DecisionRefusal.TOO_MANY_DECISIONS: "the order has had too many decisions",
}


def _query(visit: Visit, wish: DecisionMade) -> PaymentQueried:
    return PaymentQueried(
        request_id=visit.request_id,
        reply_partition=visit.desk.rules.reply_partition,
        origin_id=wish.origin_id,
        order_id=wish.order_id,
        payment_id=wish.payment_id,
        refund_id=None,
        queried_at_ms=visit.desk.now_ms(),
    )


async def _ask(visit: Visit, question: DecisionTried | PaymentQueried) -> OperationReplied:
    reply = await _reply_to(visit, question)
    if reply is None:
        raise retry_later(ProblemCode.NO_ANSWER, after_s=RETRY_AFTER_LOG_S)
    return reply


async def _reply_to(visit: Visit, record: DecisionMade | DecisionTried | PaymentQueried) -> OperationReplied | None:
    """Append and return the answer; None when it did not come in time. Raises: ProblemError, LogUnavailableError."""
    try:
        waiter = visit.desk.waiters.expect(visit.request_id, origin=record.origin_id)
    except TooManyWaitingError:
        raise retry_later(ProblemCode.OVERLOADED, after_s=RETRY_AFTER_FULL_S) from None
    with waiter:  # registered before the append, so that no reply can come too early
        await _append(visit, record)
        return await waiter.settled(timeout_s=QUERY_TIMEOUT_S)


async def _append(visit: Visit, record: Appendable) -> None:
    desk = visit.desk
    envelope = envelope_of(
        record,
        visit.request_id,
        trace=visit.trace,
        reply_partition=desk.rules.reply_partition,
        now_ms=desk.now_ms(),
    )
    await desk.log.append(record, envelope)


async def _proposals(visit: Visit) -> Proposals:
    since_ms = visit.desk.now_ms() - visit.desk.rules.proposal_life_ms - _HOUR_MS  # the broker's clock may be behind
    return await visit.desk.log.proposals(since_ms=since_ms)
