"""The Mock's rules of money, and what a call does to its memory. Runs in the writer's thread, inside a transaction.

`execute` is the whole life of a call that reached the gateway: the key is looked up, the rules are asked, the
operation, its ledger entry and the answer to its key are written together, and what comes later is scheduled (see
`lifecycle`). Like a real gateway, it keeps the answer of every call it carried out, refusals by its rules included, and
gives it again under the same key. Keys and payments belong to one account: another knows nothing of them.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import orjson

from gateway_adapters.mock import actions, lifecycle, notices, postings
from gateway_adapters.mock.courses import Course, Manner, Scenario, course_of
from gateway_adapters.mock.scenarios import Happening
from gateway_adapters.mock.tokens import TokenPlan
from gateway_adapters.mock.wire import (
    Call,
    Completion,
    ErrorCode,
    Failure,
    Operation,
    Status,
    encode_call,
    encode_completion,
    error_json,
    operation_json,
)
from schemas.vocabulary import CallKind

NOBODY_KNOWS: Final = "settling_elsewhere"
"""The status of the scenario `unknown_status`."""

ADVICE: Final = {"fraudulent": "do_not_try_again", "lost_card": "do_not_try_again", "stolen_card": "do_not_try_again"}
APPROVED_PERCENT: Final = 60
"""How much a partial approval is, unless a rule says how much."""

STORED_500: Final = error_json(ErrorCode.FAILED, "Something went wrong here, and this answer is kept.")
_PREFIX: Final = {
    CallKind.AUTHORIZE: "mpay",
    CallKind.SALE: "mpay",
    CallKind.CAPTURE: "mcap",
    CallKind.VOID: "mvoid",
    CallKind.REFUND: "mref",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the server adds to a call before it is carried out."""

    now_ms: int
    plan: TokenPlan  # of the token that opened the payment
    happening: Happening | None
    delay_ms: int  # until a waiting operation's last word
    action_base: str  # the URL below which payers complete actions
    announce: bool  # send a webhook about what is final at once, too
    account: str = "default"  # whose credential the call came with

    @property
    def scenario(self) -> Scenario | None:
        """What the call meets."""
        return None if self.happening is None else self.happening.scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer to a call, and whether something is due later."""

    http_status: int
    body: bytes
    replayed: bool = False
    waits: bool = False  # steps or deliveries were written
    tell_first: str | None = None  # the operation whose notice should be told before this answer is


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment's sums, minor units."""

    id: str
    amount: int
    currency: str
    authorized: int
    capturing: int
    captured: int
    refunding: int
    refunded: int
    released: bool


class RefusedError(Exception):
    """The rules say no. Nothing was written."""

    def __init__(self, http_status: int, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.message = message


def execute(db: sqlite3.Connection, call: Call, terms: Terms) -> Answered:
    """Return the answer to this call: the stored one if its key was used, else that of carrying it out."""
    request = f"{call.kind.value}|{call.payment}|".encode() + encode_call(call)
    return _once(db, call.gateway_key, request, terms, lambda: _carried_out(db, call, terms))


def complete(db: sqlite3.Connection, completion: Completion, terms: Terms) -> Answered:
    """Return the answer to this completion: the payment's opening operation, as it stands then.

    Its key is its own, and stands for it as the key of any call does.
    """
    request = f"complete|{completion.payment}|".encode() + encode_completion(completion)
    return _once(db, completion.gateway_key, request, terms, lambda: _completed(db, completion, terms))


def _once(
    db: sqlite3.Connection, key: str, request: bytes, terms: Terms, carry_out: Callable[[], Answered]
) -> Answered:
    request_hash = hashlib.sha256(request).digest()
    stored = db.execute(
        "SELECT request_hash, http_status, answer FROM keys WHERE account = ? AND gateway_key = ?",
        (terms.account, key),
    ).fetchone()
    if stored is not None:
        if stored[0] != request_hash:
            body = error_json(ErrorCode.KEY_REUSED, "This idempotency key was used with another request.")
            return Answered(http_status=409, body=body)
        return Answered(http_status=stored[1], body=stored[2], replayed=True)
    answered = _answer(carry_out, terms)
    db.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?, ?)",
        (terms.account, key, request_hash, answered.http_status, answered.body),
    )
    return answered


def _answer(carry_out: Callable[[], Answered], terms: Terms) -> Answered:
    if terms.scenario is Scenario.STORED_500_BEFORE:
        return Answered(http_status=500, body=STORED_500)
    try:
        answered = carry_out()
    except RefusedError as refusal:
        return Answered(http_status=refusal.http_status, body=error_json(refusal.code, refusal.message))
    if terms.scenario is Scenario.STORED_500_AFTER:
        return replace(answered, http_status=500, body=STORED_500)
    return answered


def _carried_out(db: sqlite3.Connection, call: Call, terms: Terms) -> Answered:
    identifier = f"{_PREFIX[call.kind]}_{secrets.token_hex(12)}"
    if call.payment is None:
        payment = _opened(db, call, identifier, terms.account)
    else:
        payment = _require_payment(db, call.payment, terms.account)
        _check(db, call, payment)
    course = course_of(terms.scenario, call.kind)
    status = _status(terms, course)
    amount = _amount(call, payment, terms)
    operation = Operation(
        id=identifier,
        kind=call.kind.value,
        status=status.value,
        payment=payment.id,
        amount=amount,
        counted=amount if status is Status.SUCCEEDED else 0,
        currency=payment.currency,
        gateway_key=call.gateway_key,
        action_url=f"{terms.action_base}/{identifier}" if status is Status.REQUIRES_ACTION else None,
        failure=_declined(terms.plan) if status is Status.DECLINED else None,
        metadata=call.metadata,
        created_ms=terms.now_ms,
        updated_ms=terms.now_ms,
    )
    postings.write_operation(db, operation, account=terms.account, final=call.final)
    if status is Status.REQUIRES_ACTION:
        actions.ask(db, operation, completed_by_engine=course.completed_by_engine, return_url=call.return_url)
    elif status is Status.SUCCEEDED:
        if call.kind is CallKind.VOID:
            lifecycle.cancel_waiting(db, operation, now_ms=terms.now_ms)
        postings.apply(db, operation, at_ms=terms.now_ms)
    elif status is Status.PENDING or (status is Status.DECLINED and course.steps):
        postings.reserve(db, operation, sign=1)
    body = operation_json(operation)
    if terms.scenario is Scenario.UNKNOWN_STATUS:
        body["status"] = NOBODY_KNOWS
    answered = Answered(http_status=402 if status is Status.DECLINED else 200, body=orjson.dumps(body))
    return _with_what_follows(db, operation, course, terms, answered)


def _completed(db: sqlite3.Connection, completion: Completion, terms: Terms) -> Answered:
    payment = _require_payment(db, completion.payment, terms.account)
    opening = postings.find_operation(db, reference=payment.id)
    assert opening is not None
    if not actions.complete(db, opening, completion.parameters, now_ms=terms.now_ms):
        raise RefusedError(400, ErrorCode.INVALID, "The payer of this payment did not come back with that.")
    standing = postings.find_operation(db, reference=payment.id)
    assert standing is not None
    status = 402 if standing.status in (Status.DECLINED, Status.FAILED) else 200
    return Answered(http_status=status, body=orjson.dumps(operation_json(standing)), waits=standing != opening)


def _status(terms: Terms, course: Course) -> Status:
    if terms.plan.decline is not None:
        return Status.DECLINED
    return Status.REQUIRES_ACTION if terms.plan.action_required else course.first


def _amount(call: Call, payment: Payment, terms: Terms) -> int:
    if call.amount is None:
        return payment.authorized - payment.captured - payment.capturing or payment.amount  # all that is held, or asked
    asked = call.amount
    if terms.scenario is Scenario.PARTIAL_APPROVAL and call.payment is None:
        approved = terms.happening.amount_minor if terms.happening is not None else None
        return min(asked, approved or max(1, asked * APPROVED_PERCENT // 100))
    if terms.scenario is not Scenario.AMOUNT_MISMATCH:
        return asked
    if asked > 1:
        return asked - 1
    return asked + 1 if call.payment is None else asked  # one more than is left would break the rules of money


def _with_what_follows(
    db: sqlite3.Connection, operation: Operation, course: Course, terms: Terms, answered: Answered
) -> Answered:
    """Write what comes later, and what is told at once; return the answer, which says so."""
    happening = terms.happening
    manners = course.manners if happening is None else course.manners | happening.manners
    # Whether a token or rule names the kind of the call or not: nothing comes later of one that was declined or waits.
    scheduled = operation.status == course.first and lifecycle.schedule(
        db,
        operation,
        course,
        manners=manners,
        amount_minor=None if happening is None else happening.amount_minor,
        now_ms=terms.now_ms,
        delay_ms=terms.delay_ms,
    )
    early = Manner.EARLY in manners
    if terms.announce or early:
        notices.announce(db, operation, manners=manners, due_ms=terms.now_ms)
    return replace(answered, waits=scheduled or terms.announce or early, tell_first=operation.id if early else None)


def _declined(plan: TokenPlan) -> Failure:
    code = plan.decline or "generic_decline"
    return Failure(code=code, advice=ADVICE.get(code))


def _check(db: sqlite3.Connection, call: Call, payment: Payment) -> None:
    if call.currency != payment.currency:
        raise RefusedError(400, ErrorCode.CURRENCY_MISMATCH, "The payment has another currency.")
    if call.kind is CallKind.VOID and _waits_for_payer(db, payment):
        return  # nothing is held yet: the payment is cancelled
    if payment.authorized == 0:
        raise RefusedError(400, ErrorCode.NOT_AUTHORIZED, "Nothing is authorized on this payment.")
    amount = call.amount or 0
    match call.kind:
        case CallKind.CAPTURE:
            if payment.released:
                raise RefusedError(400, ErrorCode.RELEASED, "The payment was released.")
            if amount > payment.authorized - payment.captured - payment.capturing:
                raise RefusedError(400, ErrorCode.AMOUNT_TOO_LARGE, "More than what is left of the authorization.")
        case CallKind.VOID:
            if payment.released:
                raise RefusedError(400, ErrorCode.RELEASED, "The payment was released.")
            if payment.captured + payment.capturing >= payment.authorized:
                raise RefusedError(400, ErrorCode.CAPTURED, "Captured payments are refunded, not voided.")
        case CallKind.REFUND:
            if amount > payment.captured - payment.refunded - payment.refunding:
                raise RefusedError(400, ErrorCode.REFUND_TOO_LARGE, "More than what is left of the captures.")
        case _:
            raise RefusedError(400, ErrorCode.INVALID, "This call opens a payment.")


def _waits_for_payer(db: sqlite3.Connection, payment: Payment) -> bool:
    opening = postings.find_operation(db, reference=payment.id)
    return opening is not None and opening.status == Status.REQUIRES_ACTION


def _opened(db: sqlite3.Connection, call: Call, identifier: str, account: str) -> Payment:
    db.execute(
        "INSERT INTO payments (id, account, token, amount_minor, currency) VALUES (?, ?, ?, ?, ?)",
        (identifier, account, call.token or "", call.amount, call.currency),
    )
    return Payment(
        id=identifier,
        amount=call.amount or 0,
        currency=call.currency,
        authorized=0,
        capturing=0,
        captured=0,
        refunding=0,
        refunded=0,
        released=False,
    )


def find_payment(db: sqlite3.Connection, identifier: str, *, account: str | None = None) -> Payment | None:
    """Return the sums of a payment of this account; None: of any account."""
    row = db.execute(
        "SELECT id, amount_minor, currency, authorized, capturing, captured, refunding, refunded, released"
        " FROM payments WHERE id = ?1 AND (?2 IS NULL OR account = ?2)",
        (identifier, account),
    ).fetchone()
    if row is None:
        return None
    return Payment(
        id=row[0],
        amount=row[1],
        currency=row[2],
        authorized=row[3],
        capturing=row[4],
        captured=row[5],
        refunding=row[6],
        refunded=row[7],
        released=bool(row[8]),
    )


def find_token(db: sqlite3.Connection, payment: str) -> str | None:
    """Return the token that opened a payment."""
    row = db.execute("SELECT token FROM payments WHERE id = ?", (payment,)).fetchone()
    return None if row is None else str(row[0])


def _require_payment(db: sqlite3.Connection, identifier: str, account: str) -> Payment:
    payment = find_payment(db, identifier, account=account)
    if payment is None:
        raise RefusedError(404, ErrorCode.NOT_FOUND, "There is no such payment.")
    return payment
