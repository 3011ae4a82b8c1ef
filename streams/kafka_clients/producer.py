"""Appending to the log: one idempotent producer, and a writer that says plainly what became of each record.

Called by the ingress, the executor, the timer clock, the policy writer and the command line. Calls aiokafka.

Why so: aiokafka's idempotent producer never gives a batch up, but retries until the broker is back. That is right for
the record and wrong for whoever waits. So the wait has a time-out of its own, what is under way is bounded (a record
that nobody waits for any more still counts until it is settled: by the broker, or by the end of its producer), and a
circuit fails fast while the broker is gone.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.aiokafka_fences.abandonable import AbandonableProducer
from streams.kafka_clients.circuit import Circuit, CircuitState
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.deliveries import Deliveries
from streams.kafka_clients.errors import (
    BackpressureError,
    LogError,
    RejectedError,
    RetryableError,
    UnconfirmedError,
    classify,
)
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

MAX_BATCH_BYTES = 262_144
"""Larger batches than aiokafka's 16 KiB: measured as the better choice under load."""

MAX_RECORD_BYTES = 2_097_152
"""The largest dead letter. What a topic takes is the broker's to say: a refusal comes back as RejectedError."""

DEFAULT_MAX_IN_FLIGHT = 5_000
DEFAULT_APPEND_TIMEOUT_S = 5.0
SILENCE_S = 2.0
"""A log that owes answers and has given none for so long is gone: from then on appends are refused at once, instead of
each waiting its time-out and staying in memory. Longer than a leader's change within a cluster takes as a rule."""

LOOK_LATE_S = 0.01
"""So much after the moment when the log counts as silent who waits looks again: a timer may fire a little early."""

PROBE_WAIT_S = 0.5
"""Longest wait for the acknowledgement of a probe: a log that is there again answers within milliseconds."""

BACKPRESSURE_RETRY_AFTER_S = 1.0
STOP_TIMEOUT_S = 10.0
"""Longest wait for unacknowledged records at a stop; a broker that is gone must not hold the process."""

# The per-record verdicts of a healthy producer. Any other final failure leaves an idempotent producer with a hole in
# its sequence numbers, after which the broker refuses all it sends: it is replaced.
_KEEPS_PRODUCER = (RejectedError, MisconfiguredError)

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendedRecord:
    """Where the log keeps a record. The offset is -1 when the broker only said that it has the record already."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def build_producer(connection: KafkaConnection) -> AbandonableProducer:
    """Return an unstarted producer: acks=all, idempotent, no linger, murmur2 as Java has it (aiokafka's default)."""
    return AbandonableProducer(
        **connection.aiokafka_options(),
        acks="all",
        enable_idempotence=True,
        linger_ms=0,  # 5 ms brought no throughput and 4 ms more latency
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
    )


class LogWriter:
    """Appends records and tells the truth about each. Safe for any number of concurrent callers on one event loop."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        waits_through_silence: bool = True,
        build: Callable[[KafkaConnection], Any] = build_producer,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a writer that is not connected yet.

        Args:
            connection: how the broker is reached.
            max_in_flight: records sent and not yet settled by the broker, a bound on memory.
            waits_through_silence: whether an append waits all its time for a log that has gone silent; one that does
                not ends as soon as the log is known to be gone, for a caller who can come again.
            build: makes the producer: aiokafka's, with an `abandon` for when its `stop` does not end.
            clock_s: monotonic seconds.
        """
        self._connection = connection
        self._max_in_flight = max_in_flight
        self._waits_through_silence = waits_through_silence
        self._build = build
        self._clock_s = clock_s
        self._circuit = Circuit()
        self._in_flight = 0
        self._deliveries = Deliveries()
        self._heard_at_s = 0.0
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def state(self) -> CircuitState:
        """Whether appends are let through; for readiness probes."""
        return self._circuit.state

    @property
    def in_flight(self) -> int:
        """Records sent and not yet settled."""
        return self._in_flight

    async def start(self) -> None:
        """Connect. Raises: RetryableError, MisconfiguredError. An append connects as well, when this was not called.

        A BackpressureError when the writer has been stopped.
        """
        try:
            async with asyncio.timeout(self._connection.request_timeout_s):
                await self._ready_producer()
        except (KafkaError, TimeoutError, OSError) as error:
            raise classify(error) from error

    async def stop(self) -> None:
        """Wait a bounded time for what is under way, then disconnect. Appends fail from now on. Safe to call twice."""
        self._stopped = True
        # An append that connects just now learns in there that it is too late, and gives its producer up to be closed.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S), self._starting:
                pass
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._close(producer)
        if self._closing:
            await asyncio.wait(self._closing, timeout=STOP_TIMEOUT_S)

    async def append(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        partition: int | None = None,
        timeout_s: float = DEFAULT_APPEND_TIMEOUT_S,
    ) -> AppendedRecord:
        """Append one record and return once all in-sync replicas have it.

        Calling it twice appends twice. Cancelling the caller does not take back what was sent.

        Args:
            topic: an existing topic.
            key: decides the partition, by murmur2, unless `partition` is given.
            value: None is a tombstone and needs a key.
            headers: names and values.
            partition: the explicit partition, for replies.
            timeout_s: longest wait, seconds.

        Raises:
            BackpressureError: at once, nothing was sent.
            UnconfirmedError: not acknowledged in time; it may yet be written.
            RetryableError: not written.
            RejectedError: it never will be.
            MisconfiguredError: not before somebody changes something.
        """
        started_s = self._clock_s()
        is_probe = self._admit(started_s)
        try:
            record = await self._deliver(
                topic, key, value, headers, partition, started_s + timeout_s, is_probe=is_probe
            )
        except (LogError, MisconfiguredError) as error:
            metrics.count("log_appends", topic=topic, result=type(error).__name__)
            raise
        metrics.count("log_appends", topic=topic, result="appended")
        metrics.observe("log_append_ms", (self._clock_s() - started_s) * 1000, topic=topic)
        return record

    def _admit(self, now_s: float) -> bool:
        """Return whether the append is a probe of an open circuit. Raises: BackpressureError."""
        self._refuse_when_stopped()
        if self._in_flight >= self._max_in_flight:
            raise BackpressureError(
                f"{self._in_flight} appends are under way", retry_after_s=BACKPRESSURE_RETRY_AFTER_S
            )
        self._look_whether_silent(now_s)
        if not self._circuit.admits(now_s):
            raise BackpressureError(
                "the log does not answer", retry_after_s=max(self._circuit.retry_after_s(now_s), 0.1)
            )
        return self._circuit.state is CircuitState.HALF_OPEN

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise BackpressureError("the writer is stopped", retry_after_s=BACKPRESSURE_RETRY_AFTER_S)

    def _silent_from_s(self, now_s: float) -> float:
        """Return from when on the log counts as silent, if nothing is heard until then."""
        oldest_s = self._deliveries.oldest_s()
        return max(now_s if oldest_s is None else oldest_s, self._heard_at_s) + SILENCE_S

    def _look_whether_silent(self, now_s: float) -> bool:
        """Return whether the log has gone silent, and open the circuit if it has."""
        if now_s <= self._silent_from_s(now_s):
            return False
        if self._circuit.trip(now_s):
            metrics.count("log_circuit_opened")
            log.warning("log_circuit_opened", reason="silent", in_flight=self._in_flight)
        return True

    async def _deliver(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        partition: int | None,
        until_s: float,
        *,
        is_probe: bool,
    ) -> AppendedRecord:
        self._count_in_flight(1)
        producer: Any = None
        try:
            async with asyncio.timeout(until_s - self._clock_s()):
                producer = await self._ready_producer()
                await self._check_partition(producer, topic, partition)
                delivery = await producer.send(topic, value=value, key=key, partition=partition, headers=list(headers))
        except (KafkaError, TimeoutError, OSError) as error:
            self._count_in_flight(-1)
            # Nothing was handed to the sender: what timed out is certainly not written.
            failure = classify(error)
            self._failed(failure, producer)
            if isinstance(failure, UnconfirmedError):
                raise RetryableError(str(failure)) from error
            raise failure from error
        except BaseException:  # cancellation too: raised on, only the count must not leak
            self._count_in_flight(-1)
            raise
        sent_s = self._clock_s()
        self._deliveries.sent(producer, delivery, sent_s)
        delivery.add_done_callback(lambda settled: self._settled(settled, producer))
        if is_probe:
            until_s = min(until_s, sent_s + PROBE_WAIT_S)
        metadata = await self._acknowledgement(delivery, until_s, is_probe=is_probe)
        return AppendedRecord(
            topic=topic, partition=metadata.partition, offset=metadata.offset, timestamp_ms=metadata.timestamp
        )

    async def _acknowledgement(self, delivery: asyncio.Future[Any], until_s: float, *, is_probe: bool) -> Any:
        """Wait for it until then, or, if so wished, until the log has gone silent, as who asks then is told at once.

        A probe waits all its time: the log has been silent, and it is to find out whether it still is.
        """
        waits = is_probe or self._waits_through_silence
        while True:  # bounded by until_s
            now_s = self._clock_s()
            look_s = until_s if waits else min(until_s, self._silent_from_s(now_s) + LOOK_LATE_S)
            try:
                async with asyncio.timeout(max(0.0, look_s - now_s)):
                    return await asyncio.shield(delivery)
            except KafkaError as error:
                raise classify(error) from error
            except TimeoutError as error:
                if look_s >= until_s:
                    self._failed(UnconfirmedError("not acknowledged"), None)
                    raise UnconfirmedError("not acknowledged in time") from error
                if self._look_whether_silent(self._clock_s()):
                    raise UnconfirmedError("the log has gone silent") from error

    async def _check_partition(self, producer: Any, topic: str, partition: int | None) -> None:
        # aiokafka checks this by an assertion; an optimized interpreter would send into nowhere.
        if partition is not None and partition not in await producer.partitions_for(topic):
            raise RejectedError(f"{topic} has no partition {partition}")

    async def _ready_producer(self) -> Any:
        if self._producer is not None:
            return self._producer
        async with self._starting:
            if self._producer is None:
                self._producer = await self._connected()
            return self._producer

    async def _connected(self) -> Any:
        """Return a started producer. Raises: what aiokafka does; BackpressureError: the writer has been stopped."""
        self._refuse_when_stopped()
        producer = self._build(self._connection)
        try:
            await producer.start()
            self._refuse_when_stopped()
        except BaseException:  # cancellation too: raised on, only the half-open producer must not leak
            self._close_later(producer)
            raise
        self._deliveries.opened(producer)
        return producer

    def _settled(self, delivery: asyncio.Future[Any], producer: Any) -> None:
        self._count_in_flight(-1)
        self._deliveries.settled(producer, delivery)
        if delivery.cancelled():
            return
        error = delivery.exception()  # also keeps asyncio from complaining when nobody waits any more
        if error is None:
            self._heard_at_s = self._clock_s()
            self._deliveries.heard(producer)
            self._circuit.succeeded()
        elif not isinstance(error, UnconfirmedError):  # that one is ours (`_settle_left`), and no news of the log
            self._failed(classify(error), producer)

    def _failed(self, failure: LogError | MisconfiguredError, producer: Any) -> None:
        if isinstance(failure, _KEEPS_PRODUCER):
            return
        if self._circuit.failed(self._clock_s()):
            metrics.count("log_circuit_opened")
            log.warning("log_circuit_opened", error=type(failure).__name__, reason=str(failure), repeats=True)
        if producer is not None and producer is self._producer and not isinstance(failure, UnconfirmedError):
            self._producer = None
            metrics.count("log_producer_renewed")
            log.warning("log_producer_renewed", reason=str(failure), repeats=True)
            self._close_later(producer)

    def _close_later(self, producer: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._close(producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, producer: Any) -> None:
        """Stop a producer, by force when its broker does not let it end: its own `stop` waits for ever then.

        When this returns, all that the producer had taken is settled.
        """
        try:
            ended = await _ended_in_time(producer.stop())
        finally:
            self._settle_left(producer)
        if not ended:
            await _ended_in_time(producer.abandon())

    def _settle_left(self, producer: Any) -> None:
        """Say of what a closed producer leaves that it may be written or not: nobody else will say anything of it."""
        left = self._deliveries.closed(producer)
        for delivery in left:
            delivery.set_exception(UnconfirmedError("its producer ended without an acknowledgement"))
        if left:
            log.warning("log_deliveries_unconfirmed", count=len(left))

    def _count_in_flight(self, change: int) -> None:
        self._in_flight += change
        metrics.count("log_appends_in_flight", change)


async def _ended_in_time(ending: Awaitable[None]) -> bool:
    """Return whether a producer has ended well within `STOP_TIMEOUT_S`."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await ending
    except (KafkaError, TimeoutError, OSError):
        return False
    return True
