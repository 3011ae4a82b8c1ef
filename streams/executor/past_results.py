"""What the executor remembers: the results on the log, of late, by the call that they answer.

Used by the worker, which has one memory for each partition of an assignment, and by `handling`. No I/O but what it is
given (`results_tail`).

Why: a copy of a request whose answer is on the log must never be sent again. Copy 1 was refused and its result is on
the log, so the order went on to another gateway; were copy 2 then carried out, the payer would pay twice. That a
refused second copy counts as doubt does not help there. A copy without an answer is safe to send again with its gateway
key, and safer than an inquiry: a first copy still on its way may land after an inquiry that found nothing.

Requests and results of an order lie in partitions of the same number, so each partition's memory is whole by itself. It
is bounded; what it forgets, it knows: `covers`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas import identifiers, rfc3339
from schemas.cloud_event import EXPIRY_HEADER
from schemas.messages import EncodedMessage
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from streams.kafka_clients.errors import RetryableError

log = structlog.get_logger(__name__)

HORIZON_MS = 600_000
"""How far back the memory reaches at least: an order that asks again does so soon after its own restart."""

MARGIN_MS = 120_000
"""How much further back than the first request not done: a request may lie on the log twice, a while apart."""

CLOCK_SKEW_MS = 60_000
"""How far the clocks that stamp requests and results may differ."""

MAX_BYTES = 16_777_216
"""Most that one partition's memory may hold: some ten thousand results."""

RESULT_OVERHEAD_BYTES = 512
HEADER_OVERHEAD_BYTES = 120
"""What Python adds to the bytes of a result and of each of its headers (tuple, bytes objects, dictionary): more than
they are themselves, so that a bound on the values alone would be a tenth of what is really held."""

LOOK_AGAIN_S = 1.0
"""Between two looks for the answers of another worker."""

MAX_LOADS_AT_ONCE = 16
"""Partitions read at once, each with as many results as it may have."""

ID_HEADER = "ce_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastResult:
    """One result as it stands on the log."""

    timestamp_ms: int
    message: EncodedMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class PastResults:
    """The tail of one partition of the results. `since_ms`: nothing from then on is missing; 0: nothing at all is."""

    since_ms: int
    results: Iterable[PastResult]
    end: int = 0
    """Where the log ended when it was read: the offset after the last of them."""


class ReadPast(Protocol):
    """Reads a partition's results, to the log's end now."""

    async def __call__(self, partition: int, since_ms: int, *, from_offset: int = 0) -> PastResults:
        """Return those from a time on (milliseconds since the epoch), or from an offset above 0 on.

        Raises: LogError.
        """
        ...


def result_id(call: GatewayCallRequested | GatewayCallCompleted) -> str:
    """Return the id of a call's result: the same for each copy of the call, and known without decoding."""
    return identifiers.event_id(call.op_id, f"result-{call.kind}-{call.attempt}-{call.call_number}")


class Answers:
    """The memory of one partition in one assignment."""

    def __init__(self, past: PastResults, *, max_bytes: int = MAX_BYTES) -> None:
        self._since_ms = past.since_ms
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, PastResult] = OrderedDict()
        for result in past.results:
            self.remember(result)

    def __len__(self) -> int:
        """How many results are remembered."""
        return len(self._kept)

    def to(self, request: GatewayCallRequested) -> EncodedMessage | None:
        """Return the result of this call as it stands on the log, if it is remembered."""
        found = self._kept.get(result_id(request))
        return None if found is None else _for_good(found)

    def covers(self, request: GatewayCallRequested) -> bool:
        """Return whether an answer to this request would be remembered, if there was one."""
        return self._since_ms == 0 or request.requested_at_ms - CLOCK_SKEW_MS >= self._since_ms

    def remember(self, result: PastResult) -> None:
        """Keep a result that is on the log; the oldest make room for it. Keeping it twice is safe."""
        # Whatever anybody has appended there: an id that is not text is nobody's call, and must not end this worker.
        ids = (value.decode(errors="replace") for header, value in result.message.headers if header == ID_HEADER)
        name = next(ids, None)
        if name is None:
            return  # not written by an executor
        known = self._kept.pop(name, None)
        self._bytes += _size(result) - (0 if known is None else _size(known))
        self._kept[name] = result
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)
            self._since_ms = max(self._since_ms, oldest.timestamp_ms + 1)


def _for_good(result: PastResult) -> EncodedMessage:
    """Return the message without its expiry when it was on the log in time: appended again, it is as true as then."""
    headers = result.message.headers
    expiry_ms = next((_ms_of(value) for name, value in headers if name == EXPIRY_HEADER), None)
    if expiry_ms is None or result.timestamp_ms > expiry_ms:
        return result.message
    kept = tuple((name, value) for name, value in headers if name != EXPIRY_HEADER)
    return EncodedMessage(value=result.message.value, headers=kept)


def _ms_of(text: bytes) -> int | None:
    try:
        return rfc3339.ms_of(text.decode())
    except (ValueError, OverflowError):
        return None


def _size(result: PastResult) -> int:
    headers = result.message.headers
    return (
        len(result.message.value)
        + sum(len(value) for _, value in headers)
        + RESULT_OVERHEAD_BYTES
        + HEADER_OVERHEAD_BYTES * len(headers)
    )


class Memory:
    """The memories of all partitions of one worker."""

    def __init__(self, read_past: ReadPast, *, clock_ms: Callable[[], int]) -> None:
        self._read_past = read_past
        self._clock_ms = clock_ms
        self._loads: dict[int, asyncio.Task[Answers]] = {}
        self._read_ms: dict[int, int] = {}  # when its log was read last
        self._ends: dict[int, int] = {}  # to which offset
        self._looked_s: dict[int, float] = {}
        self._room = asyncio.Semaphore(MAX_LOADS_AT_ONCE)

    async def of(self, partition: int, *, first_at_ms: int, not_before_ms: int = 0) -> Answers:
        """Return the partition's memory; the first to ask in an assignment has it read from the log.

        Args:
            partition: its number.
            first_at_ms: when the first request that is not done was appended, milliseconds since the epoch.
            not_before_ms: one that was read before then, by this clock, is read again: another may have answered since.

        Raises:
            LogError: the log could not be read: without its memory the worker must not go on.
        """
        load = self._loads.get(partition)
        if load is None or self._read_ms[partition] < not_before_ms:
            self._read_ms[partition] = self._clock_ms()
            load = asyncio.get_running_loop().create_task(self._load(partition, first_at_ms))
            self._loads[partition] = load
        return await asyncio.shield(load)  # one request's end must not end the load for the others

    async def look_again(self, partition: int) -> None:
        """Learn what was answered since the last look; at most once in `LOOK_AGAIN_S`, however many ask.

        For whoever waits for an answer that another worker will write. A log that is silent is asked the next time.
        """
        load, now_s = self._loads.get(partition), asyncio.get_running_loop().time()
        if load is None or not load.done() or now_s - self._looked_s.get(partition, 0.0) < LOOK_AGAIN_S:
            return
        since_ms = self._read_ms[partition] - CLOCK_SKEW_MS
        self._looked_s[partition] = now_s
        try:
            past = await self._read_past(partition, since_ms, from_offset=self._ends.get(partition, 0))
        except RetryableError as error:
            log.warning("look_for_answers_failed", error=type(error).__name__, repeats=True)
            return
        for result in past.results:
            _remember(load, result)
        if self._loads.get(partition) is load:
            self._ends[partition] = past.end

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop the memory of partitions that are given away: another worker answers there from now on."""
        for partition in partitions:
            load = self._loads.pop(partition, None)
            if load is not None:
                load.cancel()

    def remember(self, partition: int, result: PastResult) -> None:
        """Keep a result that this worker has just appended, if the partition is still, or again, its own."""
        load = self._loads.get(partition)
        if load is None:
            return  # whoever reads the log from now on finds it there
        if load.done():
            _remember(load, result)
        else:
            load.add_done_callback(lambda loaded: _remember(loaded, result))  # before those who wait for it go on

    async def _load(self, partition: int, first_at_ms: int) -> Answers:
        since_ms = min(first_at_ms, self._clock_ms() - HORIZON_MS) - MARGIN_MS
        async with self._room:
            past = await self._read_past(partition, since_ms)
            self._ends[partition] = past.end
            answers = Answers(past)
        log.info("answers_remembered", partition=partition, results=len(answers))
        return answers


def _remember(load: asyncio.Task[Answers], result: PastResult) -> None:
    if not load.cancelled() and load.exception() is None:
        load.result().remember(result)
