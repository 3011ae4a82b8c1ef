"""The log as the tour uses it: look at an order's life, append as a stranger does, find and handle dead letters.

Called by `stage`. Calls the operator's own tools (`streams.operator_tools`), which are synchronous and have an event
loop of their own: so each call runs in a thread.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from schemas.identifiers import OrderId, OriginId
from schemas.messages import Envelope, MessageCodec, Record
from schemas.schema_ids import SchemaIds
from schemas.topics import COMMANDS, partition_of
from streams.operator_tools import dead_letters, redrive, timelines
from streams.operator_tools.dead_letters import Letter, LetterFilter
from streams.operator_tools.errors import NotFoundError
from streams.operator_tools.kafka_log import KafkaLog, open_log
from streams.operator_tools.log import NewRecord
from streams.operator_tools.redrive import Action, Done, Order
from streams.operator_tools.timelines import Entry, Subject
from streams.settings import KafkaSettings

OPERATOR = "demo"

T = TypeVar("T")


def now_ms() -> int:
    """Return this machine's time, milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class LogDesk:
    """Looks at the log of one engine and appends to it."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._settings = KafkaSettings(bootstrap_servers=bootstrap_servers)
        self._codec = MessageCodec(SchemaIds.packaged())

    async def _with_log(self, act: Callable[[KafkaLog], T]) -> T:
        def run() -> T:
            with open_log(self._settings) as log:
                return act(log)

        return await asyncio.to_thread(run)

    async def life_of(self, origin: OriginId, order: OrderId, *, since_ms: int) -> tuple[Entry, ...]:
        """Return what the log tells of the order from that time on; nothing, if it does not know it (yet)."""
        subject = Subject(order_id=order, origin_id=origin, identifier=None)

        def look(log: KafkaLog) -> tuple[Entry, ...]:
            try:
                return timelines.timeline(log, self._codec, subject, since_ms=since_ms).entries
            except NotFoundError:
                return ()

        return await self._with_log(look)

    async def append_raw(self, order: OrderId, value: bytes) -> None:
        """Append bytes without any header to the commands, under the order's key."""
        record = NewRecord(topic=COMMANDS, key=order.encode(), value=value, headers=())
        await self._with_log(lambda log: log.append([record]))

    async def append_misplaced(self, order: OrderId, record: Record, envelope: Envelope) -> None:
        """Append a right command to a partition that its key does not belong to, as another partitioner would."""
        message = self._codec.encode(record, envelope)

        def append(log: KafkaLog) -> None:
            count = log.partitions_of(COMMANDS)
            wrong = (partition_of(order.encode(), count) + 1) % count
            record = NewRecord(
                topic=COMMANDS, key=order.encode(), value=message.value, headers=message.headers, partition=wrong
            )
            log.append([record])

        await self._with_log(append)

    async def letters_of(self, order: OrderId) -> tuple[Letter, ...]:
        """Return the dead letters under the order's key, whatever was done about them."""
        wanted = LetterFilter(key=order.encode())
        return await self._with_log(lambda log: dead_letters.find(log, self._codec, wanted).letters)

    async def handle(self, letters: tuple[Letter, ...], action: Action, *, note: str) -> tuple[Done, ...]:
        """Redrive or discard the letters as `payment-engine dlq` does; returns those that were handled."""
        planned = redrive.plan(letters, action, again=False, since_ms=0)  # of a minute ago, at most
        order = Order(action=action, operator=OPERATOR, note=note)

        def carry_out(log: KafkaLog) -> tuple[Done, ...]:
            steps = redrive.carry_out(log, self._codec, planned.chosen, order, clock_ms=now_ms, pause=time.sleep)
            return tuple(steps)

        return await self._with_log(carry_out)
