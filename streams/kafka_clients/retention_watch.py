"""How much of its topics' retention a group has used up: the gauge that should alarm somebody days before records go.

Started by `bootstrap` beside each component that reads in a group. Once a minute it asks, from outside the group and in
a thread of its own, when the oldest unread record of each source topic was appended (`backlog`). That thread is not
waited for at a stop: without a broker a question takes up to a minute.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

import structlog

from schemas.misconfigured import MisconfiguredError
from schemas.topics import Topic
from streams.kafka_clients.backlog import backlog_of, oldest_unread_ms
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.log_clock import wall_clock_ms
from streams.telemetry import metrics

LOOK_INTERVAL_S = 60.0
WARN_SHARE = 0.5
"""Half of the retention: of seven days, three and a half are left to act."""

log = structlog.get_logger(__name__)


class RetentionWatch:
    """Looks after the topics that one group reads. Start it once."""

    def __init__(
        self,
        connection: KafkaConnection,
        group: str,
        watched: Iterable[Topic],
        *,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`watched`: what the group commits on. `clock_ms`: milliseconds since 1970."""
        self._connection = connection
        self._group = group
        self._watched = tuple(watched)
        self._clock_ms = clock_ms
        self._stopping = threading.Event()

    async def start(self) -> None:
        """Begin to look; returns at once."""
        threading.Thread(target=self._look_for_ever, name="retention-watch", daemon=True).start()

    async def stop(self) -> None:
        """Look no more. Safe to call twice."""
        self._stopping.set()

    def _look_for_ever(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except (RetryableError, MisconfiguredError) as error:
                log.warning("retention_unknown", group=self._group, error=str(error))
            self._stopping.wait(LOOK_INTERVAL_S)

    def look(self) -> Mapping[str, float]:
        """Set the gauge of each source topic, and return what it shows: 0 nothing waits, 1 what waits is deleted now.

        Raises:
            RetryableError: the cluster did not tell in time.
            MisconfiguredError: it does not let us ask.
        """
        backlog = backlog_of(self._connection, self._group, [each.name for each in self._watched])
        oldest_ms = oldest_unread_ms(self._connection, self._group, backlog)
        now_ms = self._clock_ms()
        shares: dict[str, float] = {}
        for each in self._watched:
            if each.retention_ms is None:
                continue
            share = max(0, now_ms - oldest_ms.get(each.name, now_ms)) / each.retention_ms
            shares[each.name] = share
            metrics.level("retention_used", share, topic=each.name)
            if share >= WARN_SHARE and not each.perishable:
                log.warning("retention_runs_out", topic=each.name, percent=round(100 * share))
        return shares
