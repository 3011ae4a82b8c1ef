"""Whether rows only ever went forward: the whole changelog of each order, along its stamps.

The log's order is not the rows' order: a frozen owner that wakes up writes behind its successor, under a lower stamp,
and must simply never win. So the life of a row is the chain of records that its newest one was made from: each record's
parent has the version before, and the highest generation up to its own. Along this chain nothing may regress. A
record beside it was written by an owner that had been replaced; it is counted, and may still not contradict the end.

An operation may leave its order's row for a row of its own. It is lost unless it stands there, and what the row keeps
of those that left must be what they come to.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.records.orders import ApartRow, OperationRow, OrderRow
from schemas.vocabulary import OperationKind, OperationState
from streams.kafka.stamps import Stamp
from tests.support.exhibits import FINAL, sums_of

_AUTHORIZING = frozenset({OperationKind.AUTHORIZE, OperationKind.SALE})
_CAPTURING = frozenset({OperationKind.CAPTURE, OperationKind.SALE})
_REFUNDING = frozenset({OperationKind.REFUND})
_CARRIED_OUT = frozenset({OperationState.SUCCEEDED, OperationState.REVERSED})
_SUMS = (("authorized", _AUTHORIZING), ("captured", _CAPTURING), ("refunded", _REFUNDING))
"""Each sum of a payment, in the order of a digest, and the kinds of operations of which a later word may lower it."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What of a row may not regress; small, since a long run has a million of them."""

    version: int
    sequence: int
    operations: tuple[tuple[str, OperationKind], ...]  # shared by the digests of a row as long as none is added
    states: tuple[OperationState, ...]
    sums: tuple[tuple[str, int, int, int], ...]  # payment id, authorized, captured, refunded
    words: tuple[int, ...]  # how many each operation was judged by
    decided: frozenset[str]  # operations that a person has settled; of most rows nothing
    apart: int = 0  # how many operations stood in rows of their own


def digest_of(row: OrderRow) -> Digest:
    """Return what of this row may not regress."""
    return Digest(
        row.version,
        row.sequence,
        tuple((each.op_id, each.kind) for each in row.operations),
        tuple(each.state for each in row.operations),
        tuple(
            (each.payment_id, sums.authorized, sums.captured, sums.refunded + _refunded_apart(row, each.payment_id))
            for each in row.payments
            for sums in (sums_of(row, each.payment_id),)
        ),
        tuple(len(each.words) for each in row.operations),
        frozenset(each.op_id for each in row.operations if any(word.by_desk for word in each.words)),
        sum(each.operations for each in row.subtotals),
    )


def _refunded_apart(row: OrderRow, payment_id: str) -> int:
    return sum(each.refunded_minor for each in row.subtotals if each.payment_id == payment_id)


class RowHistory:
    """Takes the records of the orders changelog in log order; tells what regressed. Bounded by the changelog."""

    def __init__(self) -> None:
        self._lives: dict[bytes, dict[Stamp, Digest | None]] = {}
        self._newest: dict[bytes, tuple[Stamp, OrderRow | None]] = {}
        self._open: set[bytes] = set()
        self._apart: dict[bytes, dict[bytes, tuple[Stamp, ApartRow | None]]] = {}
        self._twice: list[str] = []
        self.late = 0
        self.superseded = 0

    def add(self, key: bytes, stamp: Stamp, row: OrderRow | None) -> None:
        """Take one record; `row` None is a tombstone."""
        life = self._lives.setdefault(key, {})
        newest = self._newest.get(key)
        digest = None if row is None else self._shared(digest_of(row), life)
        if stamp in life and life[stamp] != digest:
            self._twice.append(f"row {key.decode()}: two rows under the stamp {tuple(stamp)}")
        life[stamp] = digest
        if newest is not None and stamp < newest[0]:
            self.late += 1
            return
        self._newest[key] = (stamp, row)
        if row is None or all(each.state in FINAL for each in row.operations):
            self._open.discard(key)
        else:
            self._open.add(key)

    def add_apart(self, key: bytes, stamp: Stamp, row: ApartRow | None) -> None:
        """Take one record of the changelog of rows beside orders'; the highest stamp of a key wins."""
        order = b"|".join(key.split(b"|")[:2])
        beside = self._apart.setdefault(order, {})
        if key not in beside or stamp > beside[key][0]:
            beside[key] = stamp, row

    def _beside(self, key: bytes, row: OrderRow) -> dict[int, OperationRow]:
        """Return the operations of this life of the order that stand in rows of their own, by number."""
        life = key + f"|{row.created_at_ms}|".encode()
        found = (own for name, (_, own) in self._apart.get(key, {}).items() if name.startswith(life))
        return {own.number: own.operation for own in found if own is not None and own.operation is not None}

    def _whole(self, key: bytes, row: OrderRow) -> OrderRow:
        """Return the row with all its operations: those that it has itself are the truth."""
        known = self._beside(key, row) | {each.number: each for each in row.operations} if row.subtotals else {}
        if not known:
            return row
        return replace(row, operations=tuple(known[number] for number in sorted(known)), subtotals=())

    def _shared(self, digest: Digest, life: dict[Stamp, Digest | None]) -> Digest:
        before = next(reversed(life.values()), None)
        if before is None or before.operations != digest.operations:
            return digest
        return replace(digest, operations=before.operations)

    @property
    def open_rows(self) -> int:
        """How many rows have an operation without its last word."""
        return len(self._open)

    @property
    def apart(self) -> int:
        """How many operations have left their orders' rows."""
        return sum(each.operations for _, row in self._newest.values() if row is not None for each in row.subtotals)

    def rows(self) -> list[OrderRow]:
        """Return each row as a recovery would: the highest stamp wins, not the last record.

        With all its operations, those included that stand in rows of their own.
        """
        return [self._whole(key, row) for key, (_, row) in self._newest.items() if row is not None]

    def faults(self) -> list[str]:
        """Return what regressed, a sentence each; sets `superseded`."""
        self.superseded = 0
        found = list(self._twice)
        for key, life in self._lives.items():
            found += self._faults_of(key, life)
        return found

    def _faults_of(self, key: bytes, life: dict[Stamp, Digest | None]) -> Iterator[str]:
        name, newest = key.decode(), self._newest[key][1]
        own = [] if newest is None else list(self._beside(key, newest).values())
        beside: dict[str, OperationState] = {each.op_id: each.state for each in own}
        if newest is not None:
            yield from (f"row {name}: {fault}" for fault in self._faults_of_subtotals(key, newest))
        chain = chain_of(life)
        self.superseded += len(life) - len(chain)
        if chain[0].version != 1:
            yield f"row {name}: the record that {tuple(chain[0])} was made from is not on the changelog"
        for earlier, later in itertools.pairwise(chain):
            for fault in _regress(life[earlier], life[later], beside):
                yield f"row {name}: from {tuple(earlier)} to {tuple(later)} {fault}"
        for stamp in life.keys() - set(chain):
            for fault in _contradiction(life[stamp], life[chain[-1]], beside):
                yield f"row {name}: the replaced owner's {tuple(stamp)} {fault}"

    def _faults_of_subtotals(self, key: bytes, row: OrderRow) -> Iterator[str]:
        """Tell where what the row keeps of those that left is not what they come to, added up here."""
        here = {each.number for each in row.operations}
        count = len(row.operations) + sum(each.operations for each in row.subtotals)
        beside = self._beside(key, row)
        gone = [beside.get(number) for number in range(1, count + 1) if number not in here] if row.subtotals else []
        if None in gone:
            yield f"{gone.count(None)} operations that left it stand in no row of their own"
        refunds: dict[str, int] = {}
        for each in gone:
            if each is not None and each.kind is OperationKind.REFUND:
                refunds[each.payment_id] = refunds.get(each.payment_id, 0) + each.counted_minor
        for payment_id in {each.payment_id for each in row.subtotals}:
            kept, left = _refunded_apart(row, payment_id), refunds.get(payment_id, 0)
            if kept != left:
                yield f"keeps {kept} for the refunds of {payment_id} that left it, which come to {left}"


def chain_of(life: dict[Stamp, Digest | None]) -> Sequence[Stamp]:
    """Return the stamps that the highest was made from, oldest first; it ends early where a parent is missing."""
    by_version: dict[int, list[Stamp]] = {}
    for stamp in life:
        by_version.setdefault(stamp.version, []).append(stamp)
    chain = [max(life)]
    for _ in range(len(life)):
        child = chain[-1]
        parents = [each for each in by_version.get(child.version - 1, ()) if each.generation <= child.generation]
        if not parents:
            break
        chain.append(max(parents))
    return chain[::-1]


def _regress(earlier: Digest | None, later: Digest | None, beside: Mapping[str, OperationState]) -> Iterator[str]:
    """Tell what the later row has lost of the earlier."""
    if earlier is None or later is None:
        if later is None:
            yield "the row was deleted"
        return
    if later.version < earlier.version or later.sequence < earlier.sequence:
        yield (f"version and sequence fell: {earlier.version}, {earlier.sequence} to {later.version}, {later.sequence}")
    yield from _contradiction(earlier, later, beside)
    yield from _fallen(earlier, later)


def _contradiction(earlier: Digest | None, later: Digest | None, beside: Mapping[str, OperationState]) -> Iterator[str]:
    """Tell which operations the later row does not have, nor any row of its own, or ended otherwise."""
    if earlier is None or later is None:
        return
    states = {**(beside if later.apart else {}), **_states(later)}
    for (op_id, _), state in zip(earlier.operations, earlier.states, strict=True):
        if op_id not in states:
            yield f"lost {op_id} ({state})"
        elif not _leads_to(state, states[op_id], decided=op_id in earlier.decided):
            yield f"took {op_id} from {state} to {states[op_id]}"


def _states(digest: Digest) -> dict[str, OperationState]:
    return {op_id: state for (op_id, _), state in zip(digest.operations, digest.states, strict=True)}


def _leads_to(earlier: OperationState, later: OperationState, *, decided: bool) -> bool:
    if decided and earlier is OperationState.NOT_EXECUTED and later in _CARRIED_OUT:
        return True  # a person had settled it so, and the gateway has spoken later
    if earlier in _CARRIED_OUT:  # what was taken back may be there again
        return later in _CARRIED_OUT
    # A review is the engine's last word, and the gateway may still say what became of it.
    return earlier not in FINAL or earlier is later or earlier is OperationState.MANUAL_REVIEW


def _fallen(earlier: Digest, later: Digest) -> Iterator[str]:
    heard = {op_id: words for (op_id, _), words in zip(earlier.operations, earlier.words, strict=True)}
    lowered_kinds = {
        kind
        for (op_id, kind), words in zip(later.operations, later.words, strict=True)
        if 0 < heard.get(op_id, 0) < words  # a later word than its success
    }
    if later.apart < earlier.apart:  # a later word has brought it back into the row
        lowered_kinds |= _REFUNDING
    payments = {each[0]: each[1:] for each in later.sums}
    for payment_id, *sums in earlier.sums:
        if payment_id not in payments:
            yield f"lost the payment {payment_id}"
            continue
        for (name, kinds), had, has in zip(_SUMS, sums, payments[payment_id], strict=True):
            if has < had and not kinds & lowered_kinds:
                yield f"{name} of {payment_id} fell from {had} to {has}"
