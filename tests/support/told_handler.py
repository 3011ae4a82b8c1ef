"""A handler that does as it is told, and the log worker's options that tests begin from."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from streams.kafka_clients.log_reader import LogRecord
from streams.log_worker.handler import Delivery, RecordHandler
from streams.log_worker.options import LogWorkerOptions, RetryLimits

Behaviour = Callable[[LogRecord, Delivery], Awaitable[None]]

QUICK_RETRY = RetryLimits(max_attempts=3, first_delay_s=0.001, max_delay_s=0.002, busy_limit_s=30.0)


async def takes_it(_record: LogRecord, _delivery: Delivery) -> None:
    """Say that all went well."""


class ToldHandler(RecordHandler):
    """Behaves as told, and remembers what it was given and what it is done with."""

    def __init__(self, behave: Behaviour = takes_it) -> None:
        self.behave = behave
        self.begun: list[LogRecord] = []
        self.done: list[LogRecord] = []
        self.under_way = 0
        self.most_under_way = 0
        self.most_of_a_key = 0
        self.changed = asyncio.Condition()
        self._of_key: Counter[bytes | None] = Counter()

    async def handle(self, record: LogRecord, delivery: Delivery) -> None:
        self.begun.append(record)
        self.under_way += 1
        self._of_key[record.key] += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.most_of_a_key = max(self.most_of_a_key, self._of_key[record.key])
        try:
            await self._tell()
            await self.behave(record, delivery)
            self.done.append(record)
        finally:
            self.under_way -= 1
            self._of_key[record.key] -= 1
        await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def wait_until(self, condition: Callable[[], bool], *, limit_s: float = 20.0) -> None:
        """Wait until this holds; looked at whenever a record is begun or done."""
        async with asyncio.timeout(limit_s), self.changed:
            await self.changed.wait_for(condition)

    def values_begun(self) -> list[bytes | None]:
        return [each.value for each in self.begun]

    def values_done(self) -> list[bytes | None]:
        return [each.value for each in self.done]


def options_of(*, topic: str, group: str, letters: str, **changes: object) -> LogWorkerOptions:
    """Options that are quick about everything."""
    settings: dict[str, object] = {
        "component": "worker",
        "group": group,
        "topics": (topic,),
        "dead_letters_topic": letters,
        "commit_interval_s": 0.005,
        "retry": QUICK_RETRY,
        "session_timeout_s": 6.0,
        "handle_timeout_s": 4.0,
        "drain_timeout_s": 5.0,
        **changes,
    }
    return LogWorkerOptions(**settings)  # type: ignore[arg-type]  # each test names real options
