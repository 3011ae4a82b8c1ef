"""One record, from its first attempt until it is handled or its dead letter is on the log.

Used by the worker, in a task for each record. Calls the handler; writes dead letters. What each error means stands in
`errors`; the waits are bounded by `RetryLimits` and end at once when the partition goes.
"""

import asyncio
from collections.abc import Callable

import structlog

from schemas.messages import MessageCodec
from schemas.vocabulary import DeadLetterReason
from streams.kafka_clients.dead_letters import dead_letter_of, letter_message
from streams.kafka_clients.log_reader import LogRecord
from streams.log_worker.appending import PatientWriter
from streams.log_worker.errors import DestinationBusyError, RejectedRecordError, RetryableRecordError
from streams.log_worker.handler import Delivery, RecordHandler
from streams.log_worker.options import LogWorkerOptions, RetryLimits
from streams.log_worker.room import Room
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

Chance = Callable[[], float]
"""Returns a number from 0 to 1, each as likely."""


def delay_s(limits: RetryLimits, attempt: int, *, after_s: float | None, chance: Chance) -> float:
    """Return how long to wait after this attempt (1 is the first), seconds.

    Doubles with each attempt; never sooner than the other side asks for, never longer than `max_delay_s`. The jitter
    takes up to half of it away, or adds up to a quarter to what the other side asks for, so that not all come back at
    the same moment.
    """
    doubled_s = limits.first_delay_s * 2.0 ** min(attempt - 1, 32)  # no attempt needs a larger number
    wished_s = min(doubled_s, limits.max_delay_s) * (1.0 - chance() / 2)
    asked_s = (after_s or 0.0) * (1.0 + chance() / 4)
    return min(max(wished_s, asked_s), limits.max_delay_s)


class Attempts:
    """Hands records to the handler of one worker."""

    def __init__(
        self,
        handler: RecordHandler,
        options: LogWorkerOptions,
        *,
        codec: MessageCodec,
        writer: PatientWriter,
        room: Room,
        chance: Chance,
    ) -> None:
        self._handler = handler
        self._options = options
        self._codec = codec
        self._writer = writer
        self._room = room
        self._chance = chance

    async def finish(self, record: LogRecord, delivery: Delivery) -> None:
        """Return once the record is done: handled, or a dead letter.

        Raises:
            PartitionLostError: it is the next owner's to finish.
            LogError: its dead letter could not be appended.
            Exception: what the handler raised beside its own tree.
        """
        limit_s = self._options.handle_timeout_s
        busy_since_s: float | None = None
        while True:  # bounded by max_attempts and busy_limit_s
            if not delivery.is_ours():
                await delivery.until_ours()
            if (closed_s := self._room.closed_for_s()) > 0:
                await self._wait(closed_s * (1.0 + self._chance() / 4), delivery)  # not all at the same moment
                continue
            try:
                if limit_s is None:
                    return await self._handler.handle(record, delivery)
                return await self._handle_in_time(record, delivery, limit_s)
            except RejectedRecordError as error:
                return await self._dead_letter(record, delivery, error.reason, error.detail)
            except DestinationBusyError as error:
                now_s = asyncio.get_running_loop().time()
                busy_since_s = now_s if busy_since_s is None else busy_since_s
                if now_s - busy_since_s >= self._options.retry.busy_limit_s:
                    raise
                self._destination_is_busy(record, error)
            except RetryableRecordError as error:
                if delivery.attempt >= self._options.retry.max_attempts:
                    detail = f"given up after {delivery.attempt} attempts: {error}"
                    return await self._dead_letter(record, delivery, DeadLetterReason.HANDLER_FAILED, detail)
                await self._back_off(record, delivery, error)

    async def _handle_in_time(self, record: LogRecord, delivery: Delivery, limit_s: float) -> None:
        timeout = asyncio.timeout(limit_s)
        try:
            async with timeout:
                return await self._handler.handle(record, delivery)
        except TimeoutError as error:
            if not timeout.expired():
                raise  # the handler's own: it should have said what to do about it
            raise RetryableRecordError(f"not handled in {limit_s:g} s") from error

    def _destination_is_busy(self, record: LogRecord, error: DestinationBusyError) -> None:
        closed_s = delay_s(self._options.retry, 1, after_s=error.after_s, chance=self._chance)
        metrics.count("worker_destination_busy", component=self._options.component)
        if self._room.close(closed_s):  # one line for each time, not for each record that meets it
            log.warning("destination_busy", reason=str(error), partition=record.partition, offset=record.offset)

    async def _back_off(self, record: LogRecord, delivery: Delivery, error: RetryableRecordError) -> None:
        wait_s = delay_s(self._options.retry, delivery.attempt, after_s=error.after_s, chance=self._chance)
        metrics.count("worker_records_retried", component=self._options.component)
        log.warning(
            "record_retried",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            attempt=delivery.attempt,
            reason=str(error),
        )
        delivery.attempt += 1
        await self._wait(wait_s, delivery)

    async def _wait(self, wait_s: float, delivery: Delivery) -> None:
        """Wait for so long. Raises: PartitionLostError, as soon as it is."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + wait_s
        while (left_s := until_s - clock()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await delivery.lease.changed()  # a heartbeat, or the loss of the partition
            except TimeoutError:
                return
            await delivery.until_ours()

    async def _dead_letter(self, record: LogRecord, delivery: Delivery, reason: DeadLetterReason, detail: str) -> None:
        """Return once the record's dead letter is on the log.

        Raises:
            PartitionLostError: it is the next owner's to judge.
            LogError: the letter is not on the log, so nothing may pass.
        """
        await delivery.until_ours()
        letter = dead_letter_of(record, component=self._options.component, reason=reason, detail=detail)
        log.error(
            "dead_letter", reason=letter.reason, topic=record.topic, partition=record.partition, offset=record.offset
        )
        metrics.count("dead_letters", reason=letter.reason, component=letter.component)
        message = letter_message(self._codec, letter)
        await self._writer.append(self._options.dead_letters_topic, letter.key, lambda: message)
