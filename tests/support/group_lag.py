"""How far the engine's consumers are behind: the lag of its three groups, and the wait until there is none.

Never guesses: what a broker does not answer is an error, not a lag of zero.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_offsets import Place, begin_offsets, committed_offsets, end_offsets
from streams.topology import GROUPS

T = TypeVar("T")
ASK_TIMEOUT_S = 10.0
POLL_S = 0.25
MAX_POLL_S = 2.0


class GroupLag:
    """Asks one broker. Blocking; `when_zero` is for event loops."""

    def __init__(self, connection: KafkaConnection, groups: Mapping[str, Iterable[str]] = GROUPS) -> None:
        self._connection = connection
        self._options = connection.confluent_options()
        self._admin = AdminClient(self._options)
        self._groups = {name: frozenset(topics) for name, topics in groups.items()}

    def now(self) -> dict[str, int]:
        """Return the records of each group that are not committed yet. Raises: KafkaException, TimeoutError."""
        # Committed first: what is appended in between makes the lag larger, never smaller than it is.
        places = self._places()
        committed = {name: self._committed(name, places) for name in self._groups}
        begins, ends = self._bounds()
        return {name: sum(_behind(ends, begins, committed[name], topics)) for name, topics in self._groups.items()}

    def _places(self) -> list[Place]:
        known = self._admin.list_topics(timeout=ASK_TIMEOUT_S).topics
        read = frozenset().union(*self._groups.values())
        return [(topic, partition) for topic in read for partition in known[topic].partitions]

    def _bounds(self) -> tuple[Mapping[Place, int], Mapping[Place, int]]:
        """Return where each partition begins and ends."""
        places = self._places()
        begins = begin_offsets(self._admin, places, timeout_s=ASK_TIMEOUT_S)
        ends = end_offsets(self._admin, places, timeout_s=ASK_TIMEOUT_S)
        if min(len(begins), len(ends)) < len(places):
            raise TimeoutError("a leader did not say where its partition begins and ends")
        return begins, ends

    async def when_caught_up(self) -> None:
        """Return once each group has committed all that stands on the log now, whatever comes meanwhile. No limit."""
        self._admin = AdminClient(self._options)  # see `_retried`: to find out costs a time-out
        begins, ends = await self._retried(self._bounds)
        for name, topics in self._groups.items():
            committed = await self._retried(partial(self._committed, name, ends))
            while any(_behind(ends, begins, committed, topics)):
                await asyncio.sleep(POLL_S)
                committed = await self._retried(partial(self._committed, name, ends))

    async def _retried(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                return await asyncio.to_thread(ask)
            except (KafkaException, TimeoutError):
                # One that was there while all brokers were restarted may never again be answered about a group.
                self._admin = AdminClient(self._options)
                await asyncio.sleep(POLL_S)

    def _committed(self, group: str, places: Iterable[Place]) -> Mapping[Place, int]:
        mine = [place for place in places if place[0] in self._groups[group]]
        return committed_offsets(self._connection, group, mine, timeout_s=ASK_TIMEOUT_S)

    async def when_zero(self, *, timeout_s: float) -> dict[str, int]:
        """Return the lag once there is none, or as it is at the time-out. Raises: the last error, if none answered."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        pause_s = POLL_S
        while True:
            over = asyncio.get_running_loop().time() > deadline
            try:
                lag = await asyncio.to_thread(self.now)
            except (KafkaException, TimeoutError):
                if over:
                    raise
                self._admin = AdminClient(self._options)  # see `_retried`
            else:
                if over or not any(lag.values()):
                    return lag
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_POLL_S)


def _behind(
    ends: Mapping[Place, int],
    begins: Mapping[Place, int],
    committed: Mapping[Place, int],
    topics: frozenset[str],
) -> Iterator[int]:
    """Yield how far behind each partition of these topics is."""
    for place, end in ends.items():
        if place[0] in topics:
            yield max(0, end - max(begins[place], committed.get(place, 0)))
