"""The Mock's rules of money, and what a call does to its memory. Runs in the writer's thread, inside a transaction.

`execute` is the whole life of a call that reached the gateway: the key is looked up, the rules are asked, the
operation, its ledger entry and the answer to its key are written together. `transition` is what happens later to an
operation that waits. Like a real gateway, it keeps the answer of every call it carried out, refusals by its rules
included, and gives it again under the same key.
"""

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Final

import orjson

from gateway_adapters.mock import postings
from gateway_adapters.mock.scenarios import Happening, Scenario
from gateway_adapters.mock.tokens import TokenPlan
from gateway_adapters.mock.wire import (
    Call,
    ErrorCode,
    Failure,
    Operation,
    Status,
    encode_call,
    error_json,
    operation_json,
)
from schemas.vocabulary import CallKind

NOBODY_KNOWS: Final = "settling_elsewhere"
"""The status of the scenario `unknown_status`."""

ADVICE: Final = {"fraudulent": "do_not_try_again", "lost_card": "do_not_try_again", "stolen_card": "do_not_try_again"}
_LATER: Final = {
    Scenario.PENDING_THEN_SUCCEEDED: (Status.SUCCEEDED, postings.ONCE),
    Scenario.PENDING_THEN_FAILED: (Status.FAILED, postings.ONCE),
    Scenario.DUPLICATE_WEBHOOKS: (Status.SUCCEEDED, postings.DUPLICATE),
    Scenario.OUT_OF_ORDER_WEBHOOKS: (Status.SUCCEEDED, postings.OUT_OF_ORDER),
    Scenario.LATE_FAILURE: (Status.REVERSED, postings.ONCE),
}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer to a call, and whether something is due later."""

    http_status: int
    body: bytes
    replayed: bool = False
    waits: bool = False  # transitions or deliveries were written


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
    request_hash = hashlib.sha256(f"{call.kind.value}|{call.payment}|".encode() + encode_call(call)).digest()
    stored = db.execute(
        "SELECT request_hash, http_status, answer FROM keys WHERE gateway_key = ?", (call.gateway_key,)
    ).fetchone()
    if stored is not None:
        if stored[0] != request_hash:
            body = error_json(ErrorCode.KEY_REUSED, "This idempotency key was used with another request.")
            return Answered(http_status=409, body=body)
        return Answered(http_status=stored[1], body=stored[2], replayed=True)
    try:
        answered = _carried_out(db, call, terms)
    except RefusedError as refusal:
        answered = Answered(http_status=refusal.http_status, body=error_json(refusal.code, refusal.message))
    db.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?)", (call.gateway_key, request_hash, answered.http_status, answered.body)
    )
    return answered


def _carried_out(db: sqlite3.Connection, call: Call, terms: Terms) -> Answered:
    identifier = f"{_PREFIX[call.kind]}_{secrets.token_hex(12)}"
    if call.payment is None:
        payment = _opened(db, call, identifier)
    else:
        payment = _require_payment(db, call.payment)
        _check(call, payment)
    status = _status(terms)
    operation = Operation(
        id=identifier,
        kind=call.kind.value,
        status=status.value,
        payment=payment.id,
        amount=_amount(call, payment, terms.happening),
        currency=payment.currency,
        gateway_key=call.gateway_key,
        action_url=f"{terms.action_base}/{identifier}" if status is Status.REQUIRES_ACTION else None,
        failure=_declined(terms.plan) if status is Status.DECLINED else None,
        metadata=call.metadata,
        created_ms=terms.now_ms,
        updated_ms=terms.now_ms,
    )
    postings.write_operation(db, operation, final=call.final)
    if status is Status.SUCCEEDED:
        postings.apply(db, operation, at_ms=terms.now_ms)
    elif status is Status.PENDING:
        postings.reserve(db, operation, sign=1)
    waits = _schedule(db, operation, terms)
    body = operation_json(operation)
    if terms.happening is not None and terms.happening.scenario is Scenario.UNKNOWN_STATUS:
        body["status"] = NOBODY_KNOWS
    return Answered(http_status=402 if status is Status.DECLINED else 200, body=orjson.dumps(body), waits=waits)


def _status(terms: Terms) -> Status:
    if terms.plan.decline is not None:
        return Status.DECLINED
    if terms.plan.action_required:
        return Status.REQUIRES_ACTION
    match terms.happening:
        case Happening(
            scenario=Scenario.PENDING_THEN_SUCCEEDED
            | Scenario.PENDING_THEN_FAILED
            | Scenario.DUPLICATE_WEBHOOKS
            | Scenario.OUT_OF_ORDER_WEBHOOKS
        ):
            return Status.PENDING
        case _:
            return Status.SUCCEEDED


def _amount(call: Call, payment: Payment, happening: Happening | None) -> int:
    asked = payment.authorized if call.amount is None else call.amount
    if happening is None or happening.scenario is not Scenario.AMOUNT_MISMATCH or call.kind is CallKind.VOID:
        return asked
    if asked > 1:
        return asked - 1
    return asked + 1 if call.payment is None else asked  # one more than is left would break the rules of money


def _schedule(db: sqlite3.Connection, operation: Operation, terms: Terms) -> bool:
    """Write what comes later; return whether anything does."""
    due_ms = terms.now_ms + terms.delay_ms
    scenario = None if terms.happening is None else terms.happening.scenario
    later = _LATER.get(scenario) if scenario is not None else None
    if later is not None and operation.status in (Status.PENDING, Status.SUCCEEDED):
        postings.schedule(db, operation, to=later[0], pattern=later[1], due_ms=due_ms)
    if terms.announce:
        postings.announce(db, operation, due_ms=terms.now_ms)
    return later is not None or terms.announce


def _declined(plan: TokenPlan) -> Failure:
    code = plan.decline or "generic_decline"
    return Failure(code=code, advice=ADVICE.get(code))


def _check(call: Call, payment: Payment) -> None:
    if call.currency != payment.currency:
        raise RefusedError(400, ErrorCode.CURRENCY_MISMATCH, "The payment has another currency.")
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
            if payment.captured or payment.capturing:
                raise RefusedError(400, ErrorCode.CAPTURED, "Captured payments are refunded, not voided.")
            if payment.released:
                raise RefusedError(400, ErrorCode.RELEASED, "The payment was released.")
        case CallKind.REFUND:
            if amount > payment.captured - payment.refunded - payment.refunding:
                raise RefusedError(400, ErrorCode.REFUND_TOO_LARGE, "More than what is left of the captures.")
        case _:
            raise RefusedError(400, ErrorCode.INVALID, "This call opens a payment.")


def _opened(db: sqlite3.Connection, call: Call, identifier: str) -> Payment:
    db.execute(
        "INSERT INTO payments (id, token, amount_minor, currency) VALUES (?, ?, ?, ?)",
        (identifier, call.token or "", call.amount, call.currency),
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


def find_payment(db: sqlite3.Connection, identifier: str) -> Payment | None:
    """Return a payment's sums."""
    row = db.execute(
        "SELECT id, amount_minor, currency, authorized, capturing, captured, refunding, refunded, released"
        " FROM payments WHERE id = ?",
        (identifier,),
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


def _require_payment(db: sqlite3.Connection, identifier: str) -> Payment:
    payment = find_payment(db, identifier)
    if payment is None:
        raise RefusedError(404, ErrorCode.NOT_FOUND, "There is no such payment.")
    return payment
