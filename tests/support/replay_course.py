"""What a replay is made of: the agent as production builds it, its inputs, and how far one order has come.

Used by `replay` (the merge by time) and `replay_search` (any other interleaving).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway_adapters.mock.spec import SPEC
from gateway_adapters.registry import capabilities_of, specs_of
from gateway_adapters.spec import Accounts
from schemas import topics
from schemas.identifiers import OpId
from schemas.messages import MessageCodec
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.domain.limits import CLAIM_LIFE_MS, ORDER_LIFE_MS, Rules
from streams.kafka.step import InputEvent, Step
from streams.kafka_clients.log_reader import LogRecord
from streams.topology import OPERATIONS_TABLE, ORDERS, ORDERS_TABLE

INPUT_TOPICS = tuple(topic for topic in ORDERS.source_topics if topic != topics.QUERIES)
"""What decides anything, in the order of cause and effect: commands, verdicts, results, webhooks, timers."""


class Said(NamedTuple):
    """An event as it stands on the log: equal records are equal bytes."""

    type: str
    value: bytes


ONLY_MOCK: Final[Accounts] = MappingProxyType({})
"""Of a run without further gateways."""

Published = Mapping[str, Said]
"""By event id."""


def input_of(record: LogRecord) -> InputEvent:
    """Return the record as production's shell hands it to an agent, read for the first time."""
    return InputEvent(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=record.headers,
        possible_replay=False,
    )


@dataclass(slots=True)
class Course:
    """How far one order has come, by one interleaving of its inputs."""

    rows: dict[bytes, bytes | None]
    events: dict[str, Said]
    claims: frozenset[OpId]
    calls: frozenset[tuple[OpId, int, int]]


def agent_of(codec: MessageCodec, partitions: int, *, late_call_ms: int, accounts: Accounts = ONLY_MOCK) -> OrdersAgent:
    """Return production's agent as `bootstrap` builds it, by the rules of the run.

    `accounts`: as the engine of the run had them; nothing: the Mock's, which can do anything.
    """
    gateways = specs_of(accounts) if accounts else {SPEC.name: SPEC}
    capabilities = capabilities_of(accounts)
    return OrdersAgent(
        codec,
        partitions=partitions,
        policies=dict,  # the plan of an operation stands in its verdict
        gateways=gateways,
        capabilities=capabilities,
        parking=Parking(),
        rules=Rules(
            order_life_ms=ORDER_LIFE_MS,
            claim_life_ms=CLAIM_LIFE_MS,
            key_windows_ms={name: spec.capabilities.key_window_ms for name, spec in gateways.items()},
            late_call_ms=late_call_ms,
            capabilities=capabilities,
        ),
    )


def apply(step: Step, course: Course) -> None:
    for write in step.rows:
        if write.table in {ORDERS_TABLE, OPERATIONS_TABLE}:
            course.rows[write.key] = write.value
    for message in step.speak:
        if message.topic == topics.EVENTS:
            said = said_of(message.headers, message.value)
            assert said is not None
            course.events.setdefault(*said)


def said_of(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> tuple[str, Said] | None:
    """Return an event's id and content; None of what is no event."""
    found = {name: text for name, text in headers if name in {"ce_id", "ce_type"}}
    if value is None or len(found) < 2:
        return None
    return found["ce_id"].decode(), Said(found["ce_type"].decode(), value)
