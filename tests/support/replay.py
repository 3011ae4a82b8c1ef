"""A fault-free replay: the inputs of the orders agent, as they stand on the log, through the agent's own code, once.

`Replay.compare` is given the records of one partition and returns where the events topic differs from what an engine
without any fault publishes for these inputs. Orders are independent of each other, so each is replayed by itself.

In which order? Topics are merged by the records' times; a tie goes by cause before effect. An engine that was behind
(after a crash, say) may have taken what came at about the same time in another order, and sequence numbers or the sums
beside an operation then differ: DESIGN.md names these exceptions. So, where the merge by time does not give the
published events to the byte, another interleaving is sought that does: each topic in its own order, nothing before its
cause (no verdict before its claim, no result before its call), every operation ended, and exactly these events. Such an
order is counted as `reordered`. Where there is none, the difference stands.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

from gateway_adapters.spec import Accounts
from schemas.messages import DecodeError, EncodedMessage, Envelope, MessageCodec, Record, Row
from schemas.records.payments import PaymentEvent
from schemas.schema_ids import SchemaIds
from streams.agents.intake import RefusedError
from streams.domain.limits import LATE_CALL_MS
from streams.kafka_clients.log_reader import LogRecord
from tests.support.replay_course import (
    INPUT_TOPICS,
    ONLY_MOCK,
    Course,
    Published,
    Said,
    agent_of,
    apply,
    input_of,
    said_of,
)
from tests.support.replay_search import Search

MAX_SEARCHES = 5_000
"""Orders of a run for which another interleaving is sought. Of more than that, something is wrong with all of them.
A long run on a loaded machine needs some hundreds; each takes milliseconds."""

_ANY_EVENT = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"replay"),
    ("ce_source", b"replay"),
    ("ce_time", b"2026-01-01T00:00:00Z"),
    ("content-type", b"application/avro"),
)


_UNSAID = EncodedMessage(value=b"", headers=())
R = TypeVar("R", bound=Row)


class _SparingCodec(MessageCodec):
    """Encodes events alone, and keeps rows as they are: a replay of a long run is over in half the time.

    Rows stand under a token for their bytes. Nobody reads them but the agent, and `forget` ends an order's.
    """

    def __init__(self, schema_ids: SchemaIds) -> None:
        super().__init__(schema_ids)
        self._kept: dict[bytes, Row] = {}

    def encode(self, record: Record, envelope: Envelope) -> EncodedMessage:
        """Return the message of an event, and nothing of any other."""
        return super().encode(record, envelope) if isinstance(record, PaymentEvent) else _UNSAID

    def encode_row(self, row: Row, *, replaced: bytes | None = None) -> bytes:
        """Return the token of a row. What it replaces stays readable."""
        del replaced
        token = len(self._kept).to_bytes(8, "big")
        self._kept[token] = row
        return token

    def decode_row(self, cls: type[R], value: bytes) -> R:
        """Return the row of this token."""
        row = self._kept[value]
        assert isinstance(row, cls)
        return row

    def forget(self) -> None:
        """Forget all rows."""
        self._kept.clear()


def by_time(records: Iterable[LogRecord]) -> list[LogRecord]:
    """Return the records of several topics merged by time, each topic in its own order, ties by cause and effect."""
    rank = {topic: number for number, topic in enumerate(INPUT_TOPICS)}
    newest: dict[tuple[str, int], int] = defaultdict(int)
    keyed = []
    for record in sorted(records, key=lambda each: (rank[each.topic], each.offset)):
        place = record.topic, record.partition
        # A producer's clock may run back within a topic (no broker's stamps): its order is the log's all the same.
        newest[place] = max(newest[place], record.timestamp_ms)
        keyed.append((newest[place], rank[record.topic], record.offset, record))
    return [each[3] for each in sorted(keyed, key=lambda each: each[:3])]


class Replay:
    """Replays the orders of a run, partition by partition; keeps nothing of them but figures."""

    def __init__(self, *, partitions: int, late_call_ms: int = LATE_CALL_MS, accounts: Accounts = ONLY_MOCK) -> None:
        """`late_call_ms` and `accounts`: as the engine of the run had them."""
        self._codec = MessageCodec(SchemaIds.packaged())
        self._sparing = _SparingCodec(SchemaIds.packaged())
        self._agent = agent_of(self._sparing, partitions, late_call_ms=late_call_ms, accounts=accounts)
        self._search = Search(partitions=partitions, late_call_ms=late_call_ms, accounts=accounts)
        self._searches = 0
        self.orders = 0
        self.inputs = 0
        self.reordered = 0
        self.refused = 0

    def compare(self, inputs: Iterable[LogRecord], events: Iterable[LogRecord]) -> list[str]:
        """Return each difference between what was published and what a fault-free engine publishes, a sentence each."""
        orders: dict[bytes, list[LogRecord]] = defaultdict(list)
        for record in inputs:
            orders[record.key or b""].append(record)
        published: dict[bytes, dict[str, list[Said]]] = defaultdict(lambda: defaultdict(list))
        for record in events:
            said = said_of(record.headers, record.value)
            if said is not None and said[1] not in published[record.key or b""][said[0]]:
                published[record.key or b""][said[0]].append(said[1])
        faults = []
        for key in dict.fromkeys([*orders, *published]):
            faults += self._compare_order(key.decode(errors="replace"), orders.get(key, []), published.get(key, {}))
        return faults

    def _compare_order(
        self, order: str, records: Sequence[LogRecord], published: Mapping[str, Sequence[Said]]
    ) -> list[str]:
        self.orders += 1
        self.inputs += len(records)
        merged = by_time(records)
        expected, faults = self._played(order, merged)
        if faults:
            return faults
        differences = list(self._differences(order, expected, published))
        if not differences:
            return []
        once = {event_id: copies[0] for event_id, copies in published.items() if len(copies) == 1}
        if len(once) == len(published) and self._may_search() and self._search.explains(merged, once):
            self.reordered += 1
            return []
        return differences

    def _may_search(self) -> bool:
        self._searches += 1
        return self._searches <= MAX_SEARCHES

    def _played(self, order: str, merged: Sequence[LogRecord]) -> tuple[dict[str, Said], list[str]]:
        """Return what these inputs publish, and what the agent itself could not take."""
        course = Course({}, {}, frozenset(), frozenset())
        self._sparing.forget()
        for record in merged:
            try:
                step = self._agent.take(input_of(record), lambda _, key: course.rows.get(key))
            except RefusedError:
                self.refused += 1
            except Exception as defect:  # noqa: BLE001 - as production's shell: a defect is told and not raised
                place = f"{record.topic}[{record.partition}]@{record.offset}"
                return {}, [f"{order}: the replay failed on {place}: {type(defect).__name__}: {defect}"]
            else:
                apply(step, course)
        return course.events, []

    # Differences

    def _differences(self, order: str, expected: Published, published: Mapping[str, Sequence[Said]]) -> Iterator[str]:
        for event_id in expected.keys() - published.keys():
            name = self._name(order, event_id, expected[event_id])
            yield f"{name} was never published, and a fault-free replay says it"
        for event_id, copies in published.items():
            for copy in copies:
                if event_id not in expected:
                    name = self._name(order, event_id, copy)
                    yield f"{name} was published, and a fault-free replay does not say it"
                elif copy != expected[event_id] and (parts := self._differing(copy, expected[event_id])):
                    yield f"{self._name(order, event_id, copy)} differs from a fault-free replay's in {parts}"

    def _name(self, order: str, event_id: str, said: Said) -> str:
        event = self._decoded(said)
        about = "" if event is None else f" of {event.operation.op_id}"
        return f"{order}: event {event_id} ({said.type}{about})"

    def _decoded(self, said: Said) -> PaymentEvent | None:
        headers = (*_ANY_EVENT, ("ce_type", said.type.encode()))
        try:
            _, event = self._codec.decode(said.value, headers)
        except DecodeError:
            return None
        return event if isinstance(event, PaymentEvent) else None

    def _differing(self, ours: Said, theirs: Said) -> str:
        """Return which parts differ; empty when only the encoding does."""
        one, other = self._decoded(ours), self._decoded(theirs)
        if one is None or other is None:
            return "its bytes"
        parts = [] if ours.type == theirs.type else [f"type ({ours.type}, not {theirs.type})"]
        return ", ".join(parts + _parts(one, other, ""))


def _parts(one: object, other: object, path: str) -> list[str]:
    """Return the fields, dotted, in which two records differ."""
    found: list[str] = []
    for field in fields(one):  # type: ignore[arg-type]  # records are dataclasses
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        name = f"{path}{field.name}"
        if ours != theirs:
            nested = type(ours) is type(theirs) and hasattr(ours, "__dataclass_fields__")
            found += _parts(ours, theirs, f"{name}.") if nested else [f"{name} ({ours}, not {theirs})"]
    return found
