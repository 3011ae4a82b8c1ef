"""When the rows of the agents' tables want to be looked at again, and what they say of it to whoever looks.

Called by the agents, with each row that they write, and by `sweep`, which acts on what is due. What a row says in its
note is what the request about it needs: so the sweep reads an entry of an index, and no row.
"""

from typing import Final, NamedTuple

import orjson

from schemas.identifiers import AccountName, GatewayName, OpId
from schemas.records.claims import ClaimRow
from schemas.records.orders import OrderRow
from schemas.records.references import KnownReference, ParkedWebhook
from schemas.records.timers import OpenTimer
from streams.domain.claims import claim_expires_at_ms
from streams.domain.limits import Rules
from streams.domain.order import longest_owed, order_ends_at_ms
from streams.domain.references import PARKED_FOR_MS, Indexed, known_by
from streams.domain.subtotals import operations_of
from streams.kafka.step import MAX_NOTE_BYTES, NEVER, Due

LOOK_MS = 60_000
"""Orders and claims are looked at by whole minutes: while a payment is under way its due time stays the same then, and
each of its writes need not move it."""

_OWES: Final = b"owes:"
"""Before the operation that waits for an answer. A note without it tells of an order that has ended."""

_UNLISTED: Final = b"unlisted"
"""The references would make too long a note: whoever needs them reads the row."""


class Owed(NamedTuple):
    """The order waits for an answer: this operation does, for the longest time."""

    op_id: OpId


class Over(NamedTuple):
    """The order has ended, and its life is over."""

    version: int
    life_ms: int | None
    """When its row was created; None: not told."""
    operations: int | None
    """How many it has had; None: not told."""
    references: tuple[KnownReference, ...]
    """What it is known by."""


UNTOLD: Final = Over(0, None, None, ())
"""Of a row that says nothing."""


def due_of_order(row: OrderRow, rules: Rules, indexed: Indexed) -> Due:
    """Return when to look whether the order still waits for its answer, or may leave; never while it is open else."""
    owed = longest_owed(row)
    if owed is not None:
        op_id, since_ms = owed
        return Due(_whole(since_ms + rules.drive_again_ms), _OWES + op_id.encode())
    ends_at_ms = end_of_order(row, rules)
    return NEVER if ends_at_ms is None else Due(ends_at_ms, _noted(end_of(row, indexed)))


def end_of_order(row: OrderRow, rules: Rules) -> int | None:
    """Return when an order that has ended is due; None: something of it is open."""
    ends_at_ms = order_ends_at_ms(row, rules)
    return None if ends_at_ms is None else _whole(ends_at_ms)


def end_of(row: OrderRow, indexed: Indexed) -> Over:
    """Return what the request that ends this order has to tell."""
    return Over(row.version, row.created_at_ms, operations_of(row), tuple(known_by(row, indexed)))


def due_of_claim(row: ClaimRow, rules: Rules) -> Due:
    """Return when the claim may be forgotten."""
    return Due(_whole(claim_expires_at_ms(row, rules)))


def due_of_parked(webhooks: tuple[ParkedWebhook, ...]) -> Due:
    """Return when the first of these has waited for its reference for too long; there is one."""
    return Due(min(each.received_at_ms for each in webhooks) + PARKED_FOR_MS)


def due_of_timer(timer: OpenTimer) -> Due:
    """Return when the timer is to be fired."""
    return Due(timer.due_at_ms)


def meaning_of(note: bytes) -> Owed | Over | None:
    """Return what an order's row says of its due time; None: the row itself has to be read."""
    if note.startswith(_OWES):
        return Owed(OpId(note[len(_OWES) :].decode()))
    if note == _UNLISTED:
        return None
    if not note:
        return UNTOLD
    version, life_ms, operations, listed = orjson.loads(note)
    references = tuple(
        KnownReference(gateway=GatewayName(gateway), account=AccountName(account), reference=reference)
        for gateway, account, reference in listed
    )
    return Over(version, life_ms, operations, references)


def _whole(at_ms: int) -> int:
    return -(-at_ms // LOOK_MS) * LOOK_MS


def _noted(end: Over) -> bytes:
    listed = [(each.gateway, each.account, each.reference) for each in end.references]
    note = orjson.dumps((end.version, end.life_ms, end.operations, listed))
    return note if len(note) <= MAX_NOTE_BYTES else _UNLISTED
