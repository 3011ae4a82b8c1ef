"""Looks for an interleaving of an order's inputs that explains what was published, without any fault.

Called by `replay` where the merge by time does not. Each topic keeps its own order; nothing is taken before its cause
(no verdict before its claim, no result before its call); every operation must end; and exactly these events come out.
"""

from collections.abc import Iterable, Sequence

from gateway_adapters.spec import Accounts
from schemas import topics
from schemas.identifiers import OpId
from schemas.messages import DecodeError, MessageCodec
from schemas.records.claims import ClaimDecided, ClaimRequested
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.orders import OrderRow
from schemas.schema_ids import SchemaIds
from streams.agents.intake import RefusedError
from streams.kafka.step import Outgoing
from streams.kafka_clients.log_reader import LogRecord
from tests.support.exhibits import FINAL
from tests.support.replay_course import INPUT_TOPICS, ONLY_MOCK, Course, Published, agent_of, apply, input_of

MAX_SEARCH_STEPS = 5_000
"""Of one order's search for an interleaving; its inputs are some ten, and a wrong turn shows at the next event."""

STEPS_AN_INPUT = 200
"""Of the search through a longer order, for each of its inputs. One of 46 facts was not explained in 5,000 steps.
Whether these would have been enough is not known."""


class Search:
    """Searches one order at a time, depth first, the earlier input first."""

    def __init__(self, *, partitions: int, late_call_ms: int, accounts: Accounts = ONLY_MOCK) -> None:
        self._codec = MessageCodec(SchemaIds.packaged())
        self._agent = agent_of(self._codec, partitions, late_call_ms=late_call_ms, accounts=accounts)

    def explains(self, merged: Sequence[LogRecord], published: Published) -> bool:
        """Say whether some interleaving of the topics, without any fault, publishes exactly this."""
        lanes = [[each for each in merged if each.topic == topic] for topic in INPUT_TOPICS]
        place = {id(record): number for number, record in enumerate(merged)}
        start = (tuple(0 for _ in lanes), Course({}, {}, frozenset(), frozenset()))
        seen: set[tuple[tuple[int, ...], frozenset[tuple[bytes, bytes | None]]]] = set()
        stack = [start]
        for _ in range(max(MAX_SEARCH_STEPS, STEPS_AN_INPUT * len(merged))):
            if not stack:
                return False
            at, course = stack.pop()
            known = at, frozenset(course.rows.items())
            if known in seen:
                continue
            seen.add(known)
            heads = [lane[n] if n < len(lane) else None for lane, n in zip(lanes, at, strict=True)]
            if not any(heads):
                if course.events.keys() == published.keys() and self._all_ended(course):
                    return True
                continue
            following = []
            for number, record in enumerate(heads):
                taken = None if record is None else self._taken(record, course, published)
                if record is not None and taken is not None:
                    moved = tuple(n + (index == number) for index, n in enumerate(at))
                    following.append((place[id(record)], moved, taken))
            # The last is tried first: the one that comes first by time.
            stack += [(moved, taken) for _, moved, taken in sorted(following, key=lambda each: -each[0])]
        return False

    def _taken(self, record: LogRecord, course: Course, published: Published) -> Course | None:
        """Return the course after this input; None when it comes before its cause or says what was not published."""
        if not self._has_cause(record, course):
            return None
        after = Course(dict(course.rows), dict(course.events), course.claims, course.calls)
        try:
            step = self._agent.take(input_of(record), lambda _, key: after.rows.get(key))
        except RefusedError:
            return after
        apply(step, after)
        claims, calls = self._asked(step.speak)
        after.claims |= claims
        after.calls |= calls
        agrees = all(published.get(event_id) == said for event_id, said in after.events.items())
        return after if agrees else None

    def _has_cause(self, record: LogRecord, course: Course) -> bool:
        try:
            _, message = self._codec.decode(record.value, record.headers)
        except DecodeError:
            return True
        if isinstance(message, ClaimDecided):
            return message.op_id in course.claims
        if isinstance(message, GatewayCallCompleted):
            return (message.op_id, message.attempt, message.call_number) in course.calls
        return True

    def _asked(self, said: Iterable[Outgoing]) -> tuple[set[OpId], set[tuple[OpId, int, int]]]:
        claims: set[OpId] = set()
        calls: set[tuple[OpId, int, int]] = set()
        for each in said:
            if each.topic in {topics.CLAIMS, topics.GATEWAY_REQUESTS}:
                _, message = self._codec.decode(each.value, each.headers)
                if isinstance(message, ClaimRequested):
                    claims.add(message.op_id)
                elif isinstance(message, GatewayCallRequested):
                    calls.add((message.op_id, message.attempt, message.call_number))
        return claims, calls

    def _all_ended(self, course: Course) -> bool:
        # What stands in rows of its own, beside its order's, has ended.
        orders = [value for key, value in course.rows.items() if value is not None and key.count(b"|") == 1]
        rows = [self._codec.decode_row(OrderRow, value) for value in orders]
        return all(operation.state in FINAL for row in rows for operation in row.operations)
