"""What a payer must do before a payment is decided: act at the Mock's bank, and perhaps come back to the merchant.

Written by `bank` with the call that opens the payment, answered by the payer at the control endpoint, completed by the
engine (`bank.complete`) where the payer's act alone decides nothing. As with a redirect at a real gateway, what the
payer comes back with is the proof that it was this payer: without it nothing is completed.
"""

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from gateway_adapters.mock import lifecycle
from gateway_adapters.mock.courses import Word
from gateway_adapters.mock.wire import Operation, Status

RETURN_PARAMETER: Final = "mock_result"
"""The query parameter that the payer brings back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What one payer must do."""

    operation: str
    return_url: str | None
    code: str | None
    answer: Status | None

    @property
    def return_parameters(self) -> dict[str, str]:
        """What the payer brings back to the merchant."""
        return {} if self.code is None else {RETURN_PARAMETER: self.code}

    def returns_to(self) -> str | None:
        """Return where the payer goes afterwards, with what is brought back."""
        if self.return_url is None:
            return None
        parts = urlsplit(self.return_url)
        query = "&".join(part for part in (parts.query, urlencode(self.return_parameters)) if part)
        return urlunsplit(parts._replace(query=query))


def ask(db: sqlite3.Connection, operation: Operation, *, completed_by_engine: bool, return_url: str | None) -> None:
    """Write that the payer must act."""
    code = secrets.token_hex(16) if completed_by_engine else None
    db.execute(
        "INSERT INTO actions (operation_id, return_url, code) VALUES (?, ?, ?)", (operation.id, return_url, code)
    )


def find(db: sqlite3.Connection, operation: str) -> Action | None:
    """Return what the payer of this operation must do, or had to."""
    row = db.execute(
        "SELECT operation_id, return_url, code, answer FROM actions WHERE operation_id = ?", (operation,)
    ).fetchone()
    if row is None:
        return None
    return Action(operation=row[0], return_url=row[1], code=row[2], answer=None if row[3] is None else Status(row[3]))


def answer(db: sqlite3.Connection, operation: Operation, action: Action, said: Status, *, now_ms: int) -> bool:
    """Let the payer say yes (SUCCEEDED) or no (FAILED); return whether anybody still waited for it."""
    if operation.status != Status.REQUIRES_ACTION or action.answer is not None:
        return False
    db.execute("UPDATE actions SET answer = ? WHERE operation_id = ?", (said.value, operation.id))
    return action.code is not None or _decide(db, operation, said, now_ms=now_ms)


def complete(db: sqlite3.Connection, operation: Operation, parameters: Mapping[str, object], *, now_ms: int) -> bool:
    """Complete an operation whose payer has acted, if it still waits; return False when these parameters are not its.

    Before the payer has acted, and after the operation was decided, nothing happens: so it is safe twice.
    """
    action = find(db, operation.id)
    if operation.status != Status.REQUIRES_ACTION or action is None or action.code is None or action.answer is None:
        return True
    if parameters.get(RETURN_PARAMETER) != action.code:
        return False
    return _decide(db, operation, action.answer, now_ms=now_ms)


def _decide(db: sqlite3.Connection, operation: Operation, said: Status, *, now_ms: int) -> bool:
    word = Word.SUCCEEDED if said is Status.SUCCEEDED else Word.FAILED
    return lifecycle.carry_out(db, operation, lifecycle.Change(word=word), now_ms=now_ms)
