"""Decides whether a history was right: reads what clients were told, the Mock's own ledger, the events and the rows.

Each check returns sentences, one a violation; an empty list is a pass. `tests/unit/test_checker.py` plants each
violation and sees it caught.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from schemas.messages import Envelope
from schemas.records.orders import OrderRow
from schemas.records.payments import PaymentEvent
from schemas.vocabulary import OperationKind, OperationState
from tests.support.workload import History, Request

MAX_SHOWN = 20
FINAL = {
    OperationState.SUCCEEDED,
    OperationState.DECLINED,
    OperationState.NOT_EXECUTED,
    OperationState.CONFLICT,
    OperationState.REJECTED,
    OperationState.REVERSED,
    OperationState.MANUAL_REVIEW,
}
# What stands for "try again": says nothing of the operation.
NOT_AN_ANSWER = {0, 202, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One effect that really happened, as the gateway wrote it down."""

    seq: int
    kind: str
    reversed_kind: str | None
    amount_minor: int
    op_id: str
    order_id: str
    origin_id: str
    gateway_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What an order's money came to."""

    authorized: int = 0
    captured: int = 0
    refunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the checks read. `events` in log order of their partitions; `rows` by (origin, order)."""

    history: History
    ledger: Sequence[LedgerEntry]
    events: Sequence[tuple[Envelope, PaymentEvent]]
    rows: Mapping[tuple[str, str], OrderRow]
    commands: Mapping[str, Sequence[str]]  # order id -> op ids in the order of the commands topic


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Return the Mock's ledger from its file, oldest first."""
    columns = "seq, kind, reversed_kind, amount_minor, op_id, order_id, origin_id, gateway_key"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = database.execute(f"SELECT {columns} FROM ledger ORDER BY seq").fetchall()
    names = columns.split(", ")
    return [LedgerEntry(**dict(zip(names, row, strict=True))) for row in found]


def violations(evidence: Evidence) -> list[str]:
    """Return every violation, a sentence each."""
    return [
        *every_request_answered(evidence.history),
        *one_answer_an_operation(evidence.history),
        *one_effect_an_operation(evidence.ledger),
        *one_order_a_key(evidence.rows.values()),
        *ledger_equals_rows(evidence),
        *ledger_equals_events(evidence),
        *order_kept(evidence),
        *events_agree(evidence.events),
        *all_settled(evidence.rows.values()),
    ]


def every_request_answered(history: History) -> list[str]:
    """Every request has an answer that says something final."""
    return [
        f"request {each.number} on {each.order_id} has no final answer: {[a.status for a in each.answers]}"
        for each in history.requests
        if not each.answers or each.last.status in NOT_AN_ANSWER
    ]


def one_answer_an_operation(history: History) -> list[str]:
    """All final answers to the same wish under the same key are the same."""
    told: dict[tuple[str, str, str, str], set[int]] = defaultdict(set)
    for request in history.requests:
        for answer in request.answers:
            if answer.status not in NOT_AN_ANSWER:
                told[_wish(request)].add(answer.status)
    return [f"{wish[:3]} was told {sorted(statuses)}" for wish, statuses in told.items() if len(statuses) > 1]


def _wish(request: Request) -> tuple[str, str, str, str]:
    return request.origin_id, request.key, request.order_id, f"{request.path} {sorted(request.body.items())}"


def one_effect_an_operation(ledger: Iterable[LedgerEntry]) -> list[str]:
    """No operation had its effect twice, whatever keys and attempts it took."""
    effects: dict[str, list[str]] = defaultdict(list)
    for entry in ledger:
        if entry.kind != "reversal":
            effects[entry.op_id].append(entry.gateway_key)
    return [f"{op} had its effect {len(keys)} times: {keys}" for op, keys in effects.items() if len(keys) > 1]


def one_order_a_key(rows: Iterable[OrderRow]) -> list[str]:
    """One key of an origin stands for one operation."""
    holders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        for operation in row.operations:
            if operation.attempt > 0:  # the claim was granted and a call was asked for
                holders[row.origin_id, operation.idempotency_key].add(operation.op_id)
    return [f"key {key} stands for {sorted(ops)}" for key, ops in holders.items() if len(ops) > 1]


def ledger_sums(ledger: Iterable[LedgerEntry]) -> dict[tuple[str, str], Sums]:
    """Return the sums of each (origin, order) by the gateway's account."""
    totals: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in ledger:
        kind, sign = (entry.reversed_kind, -1) if entry.kind == "reversal" else (entry.kind, 1)
        total = totals[entry.origin_id, entry.order_id]
        if kind in ("authorize", "sale"):
            total["authorized"] += sign * entry.amount_minor
        if kind in ("capture", "sale"):
            total["captured"] += sign * entry.amount_minor
        if kind == "refund":
            total["refunded"] += sign * entry.amount_minor
    return {
        order: Sums(authorized=each["authorized"], captured=each["captured"], refunded=each["refunded"])
        for order, each in totals.items()
    }


def row_sums(row: OrderRow) -> Sums:
    """Return an order's sums by the engine's own account."""
    return Sums(
        authorized=sum(payment.authorized_minor for payment in row.payments),
        captured=sum(payment.captured_minor for payment in row.payments),
        refunded=sum(payment.refunded_minor for payment in row.payments),
    )


def ledger_equals_rows(evidence: Evidence) -> list[str]:
    """The gateway's account and the engine's rows agree to the cent, in both directions."""
    paid = ledger_sums(evidence.ledger)
    faults = []
    for order in paid.keys() | evidence.rows.keys():
        theirs = paid.get(order, Sums())
        row = evidence.rows.get(order)
        ours = Sums() if row is None else row_sums(row)
        if ours != theirs:
            faults.append(f"{order}: the row says {ours}, the ledger {theirs}")
    return faults


def ledger_equals_events(evidence: Evidence) -> list[str]:
    """Every effect was published as a success exactly once by id, and no success without an effect was."""
    published: dict[str, set[str]] = defaultdict(set)
    for envelope, event in evidence.events:
        if envelope.type.endswith((".succeeded.v1", ".reversed.v1")):
            published[event.operation.op_id].add(envelope.type.split(".")[2])
    effects: dict[str, set[str]] = defaultdict(set)
    for entry in evidence.ledger:
        effects[entry.op_id].add("reversed" if entry.kind == "reversal" else "succeeded")
    return [
        f"{op}: published {sorted(published[op])}, the ledger has {sorted(effects[op])}"
        for op in published.keys() | effects.keys()
        if published[op] != effects[op]
    ]


def order_kept(evidence: Evidence) -> list[str]:
    """The effects of an order happened in the order of its commands on the log."""
    done: dict[str, list[str]] = defaultdict(list)
    for entry in evidence.ledger:
        if entry.kind != "reversal":
            done[entry.order_id].append(entry.op_id)
    faults = []
    for order, ops in done.items():
        asked = list(dict.fromkeys(op for op in evidence.commands.get(order, ()) if op in ops))
        if asked != ops:
            faults.append(f"{order}: asked for {asked}, done {ops}")
    return faults


def events_agree(events: Iterable[tuple[Envelope, PaymentEvent]]) -> list[str]:
    """The same event id always says the same."""
    said: dict[str, tuple[str, PaymentEvent]] = {}
    faults = []
    for envelope, event in events:
        first = said.setdefault(envelope.id, (envelope.type, event))
        if first != (envelope.type, event):
            faults.append(f"event {envelope.id} says two things about {event.operation.op_id}")
    return faults


def all_settled(rows: Iterable[OrderRow]) -> list[str]:
    """Nothing is left open once the engine is idle."""
    return [
        f"{row.order_id}: {operation.op_id} ({OperationKind(operation.kind)}) is still {operation.state}"
        for row in rows
        for operation in row.operations
        if operation.state not in FINAL
    ]
