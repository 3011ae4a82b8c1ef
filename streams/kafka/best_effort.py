"""Says what is worth nothing in ten seconds, and must never hold up what is worth something: replies.

Used by the `pipeline` for messages of `BEST_EFFORT` topics, once their rows are durable. A waiter whose reply is lost
gets its 202: the command is on the log. So nothing waits for these messages, nothing is committed by them, and a topic
or partition that takes none costs no more than the replies to it.

They have a producer of their own, with acks=1 and without sequence numbers. The worker's own is idempotent: it never
gives a batch up, and one partition without enough replicas delays all that goes to the same broker. Each partition has
a queue and a task of its own, since aiokafka's `send` waits for room.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError

from schemas.topics import REPLIES
from streams.kafka.step import Outgoing
from streams.telemetry import metrics

BEST_EFFORT: Final = frozenset({REPLIES})
"""Topics whose records nobody needs: no offset waits for them."""

LIFE_S: Final = 10.0
"""A message that was not sent by then is dropped: whoever waited for it has gone."""

MAX_WAITING: Final = 1_000
"""Messages of one partition that wait to be sent; further ones are dropped."""

RENEW_AFTER_S: Final = 10.0
"""Between two producers, when one of them refuses messages: it may be broken, or may have no right to the topic."""

LINGER_S: Final = 1.0
"""Longest wait for messages under way at a stop."""

STOP_TIMEOUT_S: Final = 2.0

log = structlog.get_logger(__name__)

BuildProducer = Callable[[], Any]
"""Makes an unstarted aiokafka producer, with an `abandon` for when its `stop` does not end."""

_Said = tuple[float, Outgoing]


class BestEffortSender:
    """Sends for one worker. Lives on one event loop; connects with the first message, and needs no start."""

    def __init__(self, build: BuildProducer) -> None:
        """Connect to nothing yet."""
        self._build = build
        self._producer: Any = None
        self._made_at_s = 0.0
        self._one_start = asyncio.Lock()
        self._queues: dict[tuple[str, int | None], asyncio.Queue[_Said]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def say(self, message: Outgoing) -> None:
        """Hand a message over; returns at once. What becomes of it, only the metrics tell (`replies_lost`)."""
        place = (message.topic, message.partition)
        queue = self._queues.get(place)
        if queue is None:  # as many as the topic has partitions: an agent refuses others
            queue = self._queues[place] = asyncio.Queue(MAX_WAITING)
            task = asyncio.create_task(self._send_all(queue), name="best-effort")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            queue.put_nowait((asyncio.get_running_loop().time(), message))
        except asyncio.QueueFull:
            _lost("QueueFull")

    async def stop(self) -> None:
        """Let go, after a moment for what is under way. Calling it twice is safe."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await asyncio.gather(*(queue.join() for queue in self._queues.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._queues.clear()
        self._let_go()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _send_all(self, queue: asyncio.Queue[_Said]) -> None:
        while True:  # ends by cancellation
            said_at_s, message = await queue.get()
            try:
                await self._send(message, until_s=said_at_s + LIFE_S)
            finally:
                queue.task_done()

    async def _send(self, message: Outgoing, *, until_s: float) -> None:
        clock = asyncio.get_running_loop().time
        if clock() >= until_s:
            _lost("TimeoutError")
            return
        try:
            async with asyncio.timeout_at(until_s):
                (await self._sent(message)).add_done_callback(_settled)
        except TimeoutError:
            _lost("TimeoutError")
        except Exception as error:  # noqa: BLE001 -- whatever it is, it must not end what sends the next one
            _lost(type(error).__name__)
            self._renew(clock())

    async def _sent(self, message: Outgoing) -> asyncio.Future[Any]:
        async with self._one_start:
            if self._producer is None:
                producer = self._build()
                try:
                    await producer.start()
                except BaseException:  # cancellation too: raised on, only the half-open producer must not leak
                    self._close(producer)
                    raise
                self._producer, self._made_at_s = producer, asyncio.get_running_loop().time()
            producer = self._producer
        delivered: asyncio.Future[Any] = await producer.send(
            message.topic, message.value, key=message.key, partition=message.partition, headers=list(message.headers)
        )
        return delivered

    def _renew(self, now_s: float) -> None:
        if now_s - self._made_at_s >= RENEW_AFTER_S:
            self._let_go()

    def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._close(producer)

    def _close(self, producer: Any) -> None:
        task = asyncio.ensure_future(_stopped(producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _stopped(producer: Any) -> None:
    """Stop a producer, or give it up when its broker does not let it."""
    steps: tuple[Callable[[], Awaitable[None]], ...] = (producer.stop, producer.abandon)
    for end in steps:
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await end()
            return


def _settled(delivered: asyncio.Future[Any]) -> None:
    if delivered.cancelled():
        _lost("cancelled")
    elif (error := delivered.exception()) is not None:
        _lost(type(error).__name__)


def _lost(reason: str) -> None:
    metrics.count("replies_lost", reason=reason)
    log.warning("reply_lost", error=reason, repeats=True)
