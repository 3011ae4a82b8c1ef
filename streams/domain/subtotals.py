"""What the operations come to that have left an order's row, made so that the row need not hold them.

Called by `turn` when an operation leaves the row or comes back, and by the folds (`sums`, `abilities`, `room`) beside
the operations that the row has. An operation adds its share, and takes away that very share when it comes back: its own
row is what it left as (`leaving`). So a fold over row and subtotals is the fold over all operations.
"""

from collections.abc import Iterable

from schemas.quick_init import replace
from schemas.records.orders import OperationRow, OrderRow, SubtotalRow
from schemas.vocabulary import OperationKind
from streams.domain.room import kept_chars

Subtotals = tuple[SubtotalRow, ...]
"""At most one for each payment and capture that is drawn from, in the order in which the first of them left."""


def with_operation(subtotals: Subtotals, operation: OperationRow) -> Subtotals:
    """Return the subtotals once this operation has left the row."""
    share = _share(operation)
    if not any(_same(each, share) for each in subtotals):
        return (*subtotals, share)
    return tuple(_added(each, share, 1) if _same(each, share) else each for each in subtotals)


def without_operation(subtotals: Subtotals, operation: OperationRow) -> Subtotals:
    """Return the subtotals once this operation, which had left, is back in the row."""
    share = _share(operation)
    rest = (_added(each, share, -1) if _same(each, share) else each for each in subtotals)
    return tuple(each for each in rest if each.operations)


def count(subtotals: Iterable[SubtotalRow]) -> int:
    """Return how many operations stand in rows of their own."""
    return sum(each.operations for each in subtotals)


def operations_of(row: OrderRow) -> int:
    """Return how many operations the order has had in its life: their numbers are 1 to that."""
    return len(row.operations) + count(row.subtotals) if row.subtotals else len(row.operations)


def _share(operation: OperationRow) -> SubtotalRow:
    return SubtotalRow(
        payment_id=operation.payment_id,
        draws_on=operation.draws_on,
        refunded_minor=operation.counted_minor if operation.kind is OperationKind.REFUND else 0,
        operations=1,
        counting=1 if operation.counted_minor > 0 else 0,
        kept_chars=kept_chars(operation),
    )


def _same(one: SubtotalRow, other: SubtotalRow) -> bool:
    return (one.payment_id, one.draws_on) == (other.payment_id, other.draws_on)


def _added(subtotal: SubtotalRow, share: SubtotalRow, sign: int) -> SubtotalRow:
    return replace(
        subtotal,
        refunded_minor=subtotal.refunded_minor + sign * share.refunded_minor,
        operations=subtotal.operations + sign,
        counting=subtotal.counting + sign * share.counting,
        kept_chars=subtotal.kept_chars + sign * share.kept_chars,
    )
