"""Operations that stand in rows of their own, and the names that they are found by.

Called by `turn` (an input is about one of them), `views` (a query asks for all), `desk` and `leaving` (which writes
those rows). Such a row is known by the operation's number. Beside it stand names that lead to the number: of the
operation's id, of its idempotency key, and of each reference that a gateway knows it by. A name is looked up only by
orders that have such operations at all, so no other order pays for it.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from schemas import identifiers
from schemas.identifiers import SHORT_HASH_CHARS, AccountName, GatewayName, IdempotencyKey, OpId, RefundId
from schemas.quick_init import replace
from schemas.records.orders import ApartRow, OperationRow, OrderRow
from schemas.vocabulary import OperationKind
from streams.domain import subtotals
from streams.domain.errors import InvariantViolatedError

Load = Callable[[str], ApartRow | None]
"""What stands beside the order's row under a name, if anything."""

Reference = tuple[GatewayName, AccountName, str]
"""What an object is known by: the gateway, the account there, and the gateway's own reference."""

REFERENCED: Final = OperationKind.REFUND
"""The one kind that leaves the row once a gateway has carried it out."""


def nothing_apart(_name: str) -> None:
    """Return nothing: no operation of the order stands in a row of its own."""


def names_of(operation: OperationRow, *, life_ms: int) -> list[str]:
    """Return the names that lead to the operation, in the life of the order that began then."""
    names = [name_of_op(operation.op_id, life_ms=life_ms), name_of_key(operation.idempotency_key, life_ms=life_ms)]
    last = (operation.gateway, operation.account, operation.gateway_reference)
    earlier = [(each.gateway, each.account, each.gateway_reference) for each in operation.earlier_attempts]
    for gateway, account, reference in (last, *earlier):
        if gateway is not None and reference is not None:
            names.append(name_of_reference((gateway, account, reference), life_ms=life_ms))
    return list(dict.fromkeys(names))


def name_of_number(number: int, *, life_ms: int) -> str:
    """Return the name of the operation's own row."""
    return f"{life_ms}|n|{number}"


def name_of_op(op_id: OpId, *, life_ms: int) -> str:
    """Return the name that the operation's id gives it; a refund's id ends with the same hash."""
    return f"{life_ms}|o|{identifiers.short_hash(op_id)}"


def name_of_key(key: IdempotencyKey, *, life_ms: int) -> str:
    """Return the name that an idempotency key gives."""
    return f"{life_ms}|k|{identifiers.short_hash(key)}"


def name_of_reference(reference: Reference, *, life_ms: int) -> str:
    """Return the name that a gateway's reference gives."""
    return f"{life_ms}|r|{identifiers.short_hash('|'.join(reference))}"


def with_loaded(row: OrderRow | None, loaded: Collection[OperationRow]) -> OrderRow | None:
    """Return the row with these operations, which stand in rows of their own, unless it has them itself: to be read."""
    if row is None or not loaded:
        return row
    here = {each.op_id for each in row.operations}
    missing = [each for each in loaded if each.op_id not in here]
    return replace(row, operations=(*row.operations, *missing)) if missing else row


class Apart:
    """The operations of one order that stand in rows of their own, loaded one by one as they are asked for."""

    __slots__ = ("_life_ms", "_row", "load")

    def __init__(self, row: OrderRow | None, load: Load) -> None:
        self._row = row if row is not None and row.subtotals else None
        self.load = load
        self._life_ms = 0 if row is None else row.created_at_ms

    def by_op(self, op_id: OpId) -> OperationRow | None:
        """Return the operation of this id, if it stands in a row of its own."""
        return None if self._row is None else self._named(name_of_op(op_id, life_ms=self._life_ms))

    def by_refund(self, refund_id: RefundId) -> OperationRow | None:
        """Return the refund of this public id, if it stands in a row of its own."""
        return None if self._row is None else self._named(f"{self._life_ms}|o|{refund_id[-SHORT_HASH_CHARS:]}")

    def by_key(self, key: IdempotencyKey) -> OperationRow | None:
        """Return an operation that was asked for under this key, if one stands in a row of its own."""
        return None if self._row is None else self._named(name_of_key(key, life_ms=self._life_ms))

    def by_reference(self, reference: Reference) -> OperationRow | None:
        """Return the first operation that a gateway knows so, if it stands in a row of its own."""
        return None if self._row is None else self._named(name_of_reference(reference, life_ms=self._life_ms))

    def all(self) -> Iterator[OperationRow]:
        """Yield each, oldest first. Raises: InvariantViolatedError: one that has left the row is nowhere."""
        if self._row is None:
            return
        here = {each.number for each in self._row.operations}
        for number in range(1, subtotals.operations_of(self._row) + 1):
            if number not in here:
                operation = self._numbered(number)
                if operation is None:
                    raise InvariantViolatedError(f"operation {number} of {self._row.order_id} stands in no row")
                yield operation

    def _named(self, name: str) -> OperationRow | None:
        leads_to = self.load(name)
        return None if leads_to is None else self._numbered(leads_to.number)

    def _numbered(self, number: int) -> OperationRow | None:
        """Return the operation, unless the order's row has it (again): then that one is the truth."""
        assert self._row is not None
        if any(each.number == number for each in self._row.operations):
            return None
        stored = self.load(name_of_number(number, life_ms=self._life_ms))
        return None if stored is None else stored.operation
