"""What the checker reads: what clients were told, the gateway's ledger, the events, the rows, the commands.

Made by `evidence` (from a running engine) or by a test (by hand); judged by `checker` and the modules of checks.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path

from schemas.identifiers import PaymentId
from schemas.messages import Envelope
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.payments import PaymentEvent
from schemas.vocabulary import Initiator, OperationKind, OperationState
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
    account: str = "default"

    @property
    def is_effect(self) -> bool:
        """Return whether this is what an operation did, and not what became of it."""
        return self.kind not in {"reversal", "restoral", "expiry"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What an order's money came to."""

    authorized: int = 0
    captured: int = 0
    refunded: int = 0


def sums_of(row: OrderRow, payment_id: PaymentId | None = None) -> Sums:
    """Return what the row's operations count for, of one payment or of all: added up here, not by the engine."""
    ours = [
        each
        for each in row.operations
        if payment_id in {None, each.payment_id} and each.initiator is not Initiator.ENGINE
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

    def operations(self) -> dict[str, tuple[OrderRow, OperationRow]]:
        """Return every operation of every row, by its id."""
        return {each.op_id: (row, each) for row in self.rows.values() for each in row.operations}


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Return the Mock's ledger from its file, oldest first."""
    names = [each.name for each in fields(LedgerEntry)]
    columns = ", ".join(f"{'payments' if name == 'token' else 'ledger'}.{name}" for name in names)
    query = f"SELECT {columns} FROM ledger JOIN payments ON payments.id = ledger.payment_id ORDER BY seq"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found = database.execute(query).fetchall()
    return [LedgerEntry(**dict(zip(names, row, strict=True))) for row in found]


def owed_by_gateway(path: Path) -> int:
    """Return how much the Mock still owes: changes that are due later, and notices not yet delivered."""
    waiting = "SELECT (SELECT count(*) FROM transitions) + (SELECT count(*) FROM deliveries WHERE state = 'waiting')"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute(waiting).fetchone()[0])
