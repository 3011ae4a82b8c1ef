"""Appends what must stand on the log before a record counts as done: until it is acknowledged, for so long.

Used by `attempts` for dead letters, and by the executor for results. Calls the log writer.
"""

import asyncio
from collections.abc import Callable

import structlog

from schemas.messages import EncodedMessage
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.log_worker import options
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

MAX_RETRY_WAIT_S = 1.0
"""Between two tries, whatever the log asks for: the record's room is taken meanwhile."""


class PatientWriter:
    """Appends for one component. Safe for any number of concurrent callers."""

    def __init__(self, writer: LogWriter, *, component: str) -> None:
        """The writer belongs to whoever starts and stops it."""
        self._writer = writer
        self._component = component

    async def append(
        self, topic: str, key: bytes | None, make: Callable[[], EncodedMessage]
    ) -> tuple[AppendedRecord, EncodedMessage]:
        """Append until it is acknowledged, at most `options.APPEND_LIMIT_S` long; `make` is asked anew for each try.

        A try that was not acknowledged may be on the log all the same: what `make` returns must be safe twice.

        Returns where it stands, and the message that was acknowledged. Raises: LogError.
        """
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + options.APPEND_LIMIT_S
        while True:  # bounded by give_up_s
            message = make()
            try:
                appended = await self._writer.append(
                    topic, key=key, value=message.value, headers=message.headers, timeout_s=options.APPEND_TIMEOUT_S
                )
            except RetryableError as error:
                if clock() >= give_up_s:
                    raise
                metrics.count("worker_appends_retried", component=self._component, topic=topic)
                log.warning("append_retried", topic=topic, error=type(error).__name__, repeats=True)
                await asyncio.sleep(min(error.retry_after_s, MAX_RETRY_WAIT_S))
            else:
                return appended, message
