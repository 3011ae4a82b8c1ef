"""What the simulators of Stripe, Adyen and PayPal wrote down, as the checker reads it: one `LedgerEntry` an effect.

Read past the processes, from their files (`tests.simulators.book`). A gateway that is not told of orders (Adyen,
PayPal) knows our operation alone; whose it is says the command that stands on the log. What follows from a command that
the engine itself made (a part that is let go) belongs to the payment that it was made for.
"""

import pickle
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.identifiers import DEFAULT_ACCOUNT
from tests.simulators.book import UNTOLD
from tests.support.exhibits import GatewayStand, LedgerEntry, OrderKey

NOBODYS: Final[OrderKey] = ("nobody", "nobody's order")
"""Whose an effect is that no command on the log asked for: the checker finds no such order."""


KEEPS_FAILURES: Final = "stripe"
FIRST_SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerBook:
    """The file of one simulator, which is one account at its gateway."""

    gateway: str
    account: str = DEFAULT_ACCOUNT
    path: Path

    def entries(self, orders: Mapping[str, OrderKey]) -> list[LedgerEntry]:
        """Return what really happened, oldest first. `orders`: whose each operation of the log's commands is."""
        columns = "seq, kind, reversed_kind, amount_minor, op_id, gateway_key, currency, token, at_desk, opening_op_id"
        found = []
        for row in self._rows(f"SELECT {columns} FROM ledger ORDER BY seq"):
            seq, kind, reversed_kind, amount, op_id, key, currency, token, at_desk, opening = row
            origin_id, order_id = orders.get(opening) or orders.get(op_id) or NOBODYS
            found.append(
                LedgerEntry(
                    seq=seq,
                    kind=kind,
                    reversed_kind=reversed_kind,
                    amount_minor=amount,
                    op_id=op_id,
                    order_id=order_id,
                    origin_id=origin_id,
                    gateway_key=key,
                    currency=currency,
                    token=token,
                    at_desk=at_desk,
                    gateway=self.gateway,
                    account=self.account,
                )
            )
        return found

    def owed(self) -> int:
        """Return how many webhooks nobody has taken yet."""
        return int(next(iter(self._rows(f"SELECT count(*) FROM deliveries WHERE {UNTOLD}")))[0])

    def stands(self) -> dict[str, GatewayStand]:
        """Return how each operation stands that this gateway has told of later than by its answer."""
        rows = self._rows("SELECT op_id, counted, at_ms FROM words")
        return {op_id: GatewayStand(counted_minor=counted, said_at_ms=at_ms) for op_id, counted, at_ms in rows}

    def kept_failures(self) -> dict[str, bool]:
        """Return the operations whose key stands for a failure, and whether they had their effect all the same.

        The gateway gives that failure again for ever, so nobody finds out by asking it for the same once more.
        """
        if self.gateway != KEEPS_FAILURES:
            return {}
        done = {op_id for (op_id,) in self._rows("SELECT op_id FROM ledger")}
        kept = {key: pickle.loads(each)[1] for key, each in self._rows("SELECT gateway_key, kept FROM keys")}
        failed = {key.rpartition("-")[0] for key, status in kept.items() if status >= FIRST_SERVER_ERROR}
        return {op_id: op_id in done for op_id in failed}

    def faults(self) -> list[str]:
        """Return what no adapter may send, and no ingress may refuse: a sentence each."""
        name = f"{self.gateway}/{self.account}"
        refused = "SELECT status, count(*) FROM deliveries WHERE status BETWEEN 400 AND 499 GROUP BY status"
        return [
            *(f"{name} would not take a request: {said}" for (said,) in self._rows("SELECT said FROM complaints")),
            *(f"{name}: {count} webhooks are answered {status}" for status, count in self._rows(refused)),
        ]

    def _rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()
