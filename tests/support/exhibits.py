"""What the checker reads: what clients were told, the gateway's ledger, the events, the rows, the commands.

Made by `evidence` (from a running engine) or by a test (by hand); judged by `checker` and the modules of checks.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path

from schemas.identifiers import AccountName, GatewayName, PaymentId, gateway_route
from schemas.messages import Envelope
from schemas.records.decisions import DecisionMade
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.payments import PaymentEvent
from schemas.vocabulary import Initiator, OperationKind, OperationState, Verdict
from tests.support.workload import History

FINAL = frozenset(
    {
        OperationState.SUCCEEDED,
        OperationState.DECLINED,
        OperationState.NOT_EXECUTED,
        OperationState.CONFLICT,
        OperationState.REJECTED,
        OperationState.REVERSED,
        OperationState.MANUAL_REVIEW,
    }
)
"""An operation's last word. Manual review is one: the engine has done all that it may, a person decides."""

REFUSED_THEN_SUCCEEDED = "tok_mock_refused_then_succeeded"
"""The token by which the gateway contradicts itself."""

OrderKey = tuple[str, str]
"""Origin and order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One effect that really happened, or what later took it back or gave it back, as the gateway wrote it down."""

    seq: int
    kind: str
    reversed_kind: str | None
    amount_minor: int
    op_id: str  # of a refund at the gateway's desk: the gateway's id of it
    order_id: str
    origin_id: str
    gateway_key: str
    currency: str
    token: str
    """What the payment was opened with."""
    at_desk: int = 0  # 1: no call of an engine did it, a person at the gateway did
    gateway: str = "mock"
    account: str = "default"

    @property
    def route(self) -> str:
        """Where it happened, as policies and plans call it."""
        return gateway_route(GatewayName(self.gateway), AccountName(self.account))

    @property
    def is_effect(self) -> bool:
        """Return whether this is what an operation did, and not what became of it."""
        return self.kind not in {"reversal", "restoral", "expiry"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStand:
    """How an operation stands at the gateway by its own books."""

    counted_minor: int
    said_at_ms: int  # when it last said something about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A record of the decisions topic."""

    at_ms: int  # of the log
    decision: DecisionMade


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What an order's money came to."""

    authorized: int = 0
    captured: int = 0
    refunded: int = 0


def sums_of(row: OrderRow, payment_id: PaymentId | None = None, *, without: AbstractSet[str] = frozenset()) -> Sums:
    """Return what the row's operations count for, of one payment or of all: added up here, not by the engine.

    `without`: operations that are left out.
    """
    ours = [
        each
        for each in row.operations
        if payment_id in {None, each.payment_id}
        and each.initiator is not Initiator.ENGINE
        and each.op_id not in without
    ]

    def total(*kinds: OperationKind) -> int:
        return sum(each.counted_minor for each in ours if each.kind in kinds)

    return Sums(
        authorized=total(OperationKind.AUTHORIZE, OperationKind.SALE),
        captured=total(OperationKind.SALE, OperationKind.CAPTURE),
        refunded=total(OperationKind.REFUND),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything the checks read. What was found while reading (`*_faults`) stands here as sentences already.

    `events` in log order of their partitions, of identical copies the first alone; `rows` by (origin, order).
    """

    history: History
    ledger: Sequence[LedgerEntry]
    events: Sequence[tuple[Envelope, PaymentEvent]]
    rows: Mapping[OrderKey, OrderRow]
    commands: Mapping[str, Sequence[str]]  # order id -> op ids in the order of the commands topic
    command_ids: frozenset[str]  # of every record of the commands topic, read or not
    plans: Mapping[str, frozenset[str]] = field(default_factory=dict)  # op id -> routes that its pinned plan names
    decisions: Sequence[Decided] = ()  # in log order of their partitions
    stands: Mapping[str, GatewayStand] = field(default_factory=dict)  # op id -> at the gateway
    heard: frozenset[str] = frozenset()  # of those: what became of them stands on the log, by an answer or a notice
    row_faults: Sequence[str] = ()  # of `row_history`
    replay_faults: Sequence[str] = ()  # of `replay`
    lag: Mapping[str, int] = field(default_factory=dict)  # consumer group -> records not yet committed
    # For the report; no faults.
    late_rows: int = 0  # changelog records behind one of a higher stamp
    superseded_rows: int = 0  # changelog records that no later row was made from: of owners that were replaced
    operations_apart: int = 0  # that had left their orders' rows for rows of their own
    event_copies: int = 0  # further identical copies of events
    reordered: int = 0  # orders whose events only another interleaving of their topics than the timestamps' explains
    refused_inputs: int = 0  # records under a key of the run that the orders agent dead-letters

    def let_go(self) -> frozenset[str]:
        """Return the payments of which a part was approved that nobody wanted, and the engine let go of it."""
        return frozenset(
            each.payment_id for _, each in self.operations().values() if each.initiator is Initiator.ENGINE
        )

    def contradicted(self) -> frozenset[str]:
        """Return the payments' operations that the gateway refused and carried out later, as their token asked it to.

        Nobody can tell which word is true, so the engine counts nothing: `money_checks` says what it owes instead. No
        other operation is excused by it. One of which a rule of the Mock's had a part approved was never refused: the
        engine declined it, and let the part go.
        """
        operations, let_go = self.operations(), self.let_go()
        return frozenset(
            entry.op_id
            for entry in self.ledger
            if entry.kind in {"authorize", "sale"}
            and entry.token == REFUSED_THEN_SUCCEEDED
            and entry.op_id in operations
            and operations[entry.op_id][1].state is OperationState.DECLINED
            and operations[entry.op_id][1].payment_id not in let_go
        )

    def overtaken(self) -> frozenset[tuple[str, str]]:
        """Return operations with the route of a gateway that refused them and carried them out after all, too late.

        Their token asked it to, and their policy had sent the payment on to another gateway by then: nobody can have
        known better. What happened at that route counts for nothing, and a person has to be asked; as of
        `contradicted`, no other operation is excused by it.
        """
        operations = self.operations()
        return frozenset(
            (entry.op_id, entry.route)
            for entry in self.ledger
            if entry.kind in {"authorize", "sale"}
            and entry.token == REFUSED_THEN_SUCCEEDED
            and entry.op_id in operations
            and self._is_elsewhere(operations[entry.op_id][1], entry)
        )

    def _is_elsewhere(self, operation: OperationRow, entry: LedgerEntry) -> bool:
        gateway = operation.gateway
        return gateway is not None and gateway_route(gateway, operation.account) != entry.route

    def counting(self) -> list[LedgerEntry]:
        """Return the ledger without what was overtaken."""
        overtaken = self.overtaken()
        return [entry for entry in self.ledger if (entry.op_id, entry.route) not in overtaken]

    def settled_at_desk(self) -> frozenset[str]:
        """Return the operations that a person settled, by the events: `desk_checks` says what they may count for."""
        return frozenset(
            event.operation.op_id
            for _, event in self.events
            if event.decision is not None
            and event.decision.refusal is None
            and event.decision.verdict not in {Verdict.NOTE, Verdict.CLOSE_REVIEW}
        )

    def reviewed(self) -> frozenset[str]:
        """Return the payments that wait for a person to look at them, or did until one closed the review."""
        waiting = {each.payment_id for row in self.rows.values() for each in row.payments if each.review}
        closed = {
            event.payment_id
            for _, event in self.events
            if event.payment_id is not None
            and event.decision is not None
            and event.decision.refusal is None
            and event.decision.verdict is Verdict.CLOSE_REVIEW
        }
        return frozenset(waiting | closed)

    def operations(self) -> dict[str, tuple[OrderRow, OperationRow]]:
        """Return every operation of every row, by its id."""
        return {each.op_id: (row, each) for row in self.rows.values() for each in row.operations}


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Return the Mock's ledger from its file, oldest first."""
    names = [each.name for each in fields(LedgerEntry) if each.name != "gateway"]
    columns = ", ".join(f"{'payments' if name == 'token' else 'ledger'}.{name}" for name in names)
    query = f"SELECT {columns} FROM ledger JOIN payments ON payments.id = ledger.payment_id ORDER BY seq"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = database.execute(query).fetchall()
    return [LedgerEntry(**dict(zip(names, row, strict=True))) for row in found]


def read_stands(path: Path) -> dict[str, GatewayStand]:
    """Return how each operation stands in the Mock's books, by what it said last of any attempt."""
    query = "SELECT op_id, counted, last_ms FROM operations WHERE op_id IS NOT NULL ORDER BY last_ms"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = database.execute(query).fetchall()
    return {op_id: GatewayStand(counted_minor=counted, said_at_ms=last_ms) for op_id, counted, last_ms in found}


def owed_by_gateway(path: Path) -> int:
    """Return how much the Mock still owes: changes that are due later, and notices not yet delivered."""
    waiting = "SELECT (SELECT count(*) FROM transitions) + (SELECT count(*) FROM deliveries WHERE state = 'waiting')"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute(waiting).fetchone()[0])
