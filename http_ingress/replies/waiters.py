"""Who waits for which reply, and the pump that brings replies from the log to them.

A handler registers its request id **before** it appends its command, so no reply can come too early. The pump reads
this instance's partition of `payments.replies.v1` and decodes a record only if its request id, which stands undecoded
in the `ce_subject` header, is waited for: replies of other instances that share the partition cost a look-up.
Nothing is committed: a reply that nobody waits for any more is worth nothing.

The pump ends with its instance and not before, whatever it meets: one that ended by itself would leave an instance that
answers 202 to everything and never becomes ready again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol, Self

import structlog

from http_ingress.limits import REPLY_FEED_BACKOFF_S
from http_ingress.representation.answers import settled
from schemas.identifiers import OriginId
from schemas.messages import DecodeError, Headers, MessageCodec
from schemas.records.payments import OperationReplied
from streams.kafka_clients.errors import RetryableError
from streams.telemetry import metrics

_SUBJECT: Final = "ce_subject"
_log = structlog.get_logger(__name__)


class TooManyWaitingError(Exception):
    """The table of waiters is full, or this origin has its share of it."""


class Waiter:
    """One request's wait for its replies. Use as a context manager: leaving it ends the wait."""

    __slots__ = ("_changed", "_latest", "_released", "_table", "origin", "request_id")

    def __init__(self, table: "Waiters", request_id: str, origin: OriginId) -> None:
        self.request_id = request_id
        self.origin = origin
        self._table = table
        self._latest: OperationReplied | None = None
        self._released = False
        self._changed: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Start to wait."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the wait: later replies are ignored."""
        self._table.forget(self.request_id)

    async def first(self, *, timeout_s: float) -> OperationReplied | None:
        """Return the first reply (accepted, or already final), or None when it did not come in time."""
        return await self._until(lambda _: True, timeout_s)

    async def settled(self, *, timeout_s: float) -> OperationReplied | None:
        """Return the reply that settles the request, else the latest one when time is over, else None."""
        return await self._until(settled, timeout_s)

    def take(self, reply: OperationReplied) -> None:
        """Keep the reply and wake the request. A reply that settles is never replaced by one that does not."""
        if self._latest is None or not settled(self._latest) or settled(reply):
            self._latest = reply
        self._wake()

    def release(self) -> None:
        """Let the request answer with what it has: the instance is stopping."""
        self._released = True
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _until(self, enough: Callable[[OperationReplied], bool], timeout_s: float) -> OperationReplied | None:
        try:
            async with asyncio.timeout(timeout_s):
                while not self._released and (self._latest is None or not enough(self._latest)):
                    self._changed = asyncio.get_running_loop().create_future()
                    await self._changed
        except TimeoutError:
            pass  # the command is durable: the caller answers with what is known
        return self._latest


class Waiters:
    """The waiting requests of this instance, by request id. Bounded, for all together and for each origin.

    An origin may wait with no more requests than there are places left free: one alone gets half of them, two get a
    third each, and whoever comes next finds room. So one merchant's burst is never another one's 503, and no share
    has to be set. What an origin has being appended is bounded with it, since it waits before it appends.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._by_request: dict[str, Waiter] = {}
        self._held: Counter[OriginId] = Counter()
        self._released = False
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """The requests that wait now."""
        return len(self._by_request)

    def expect(self, request_id: str, *, origin: OriginId) -> Waiter:
        """Return a registered waiter. Raises: TooManyWaitingError."""
        if self._held[origin] >= self._limit - len(self._by_request):
            raise TooManyWaitingError
        waiter = Waiter(self, request_id, origin)
        self._held[origin] += 1
        if self._released:
            waiter.release()
        self._by_request[request_id] = waiter
        return waiter

    def forget(self, request_id: str) -> None:
        """End a wait. Safe to call twice."""
        waiter = self._by_request.pop(request_id, None)
        if waiter is not None:
            self._held[waiter.origin] -= 1
            if not self._held[waiter.origin]:
                del self._held[waiter.origin]
        if not self._by_request and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def none_left(self) -> None:
        """Return once nobody waits. The caller sets the time-out."""
        while self._by_request:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty

    def wants(self, request_id: str) -> bool:
        """Whether somebody waits for replies to this request."""
        return request_id in self._by_request

    def deliver(self, reply: OperationReplied) -> bool:
        """Give the reply to who waits for it. Returns whether somebody did."""
        waiter = self._by_request.get(reply.request_id)
        if waiter is None:
            return False
        waiter.take(reply)
        return True

    def release_all(self) -> None:
        """Let everybody who waits, now or later, answer with what is known (202)."""
        self._released = True
        for waiter in tuple(self._by_request.values()):
            waiter.release()


class FeedLostError(RetryableError):
    """The reply feed cannot be read now; open it again."""


class ReplyFeed(Protocol):
    """This instance's partition of replies, as the log gives it."""

    async def open(self) -> None:
        """Stand at the end of the partition: replies to what is appended from now on will be read.

        Raises:
            FeedLostError: The log cannot be reached.
        """
        ...

    async def read(self) -> Sequence[tuple[bytes | None, Headers]]:
        """Return the next records, none after REPLY_READ_TIMEOUT_S without any. Raises: FeedLostError."""
        ...

    async def close(self) -> None:
        """Let go of the connection. Safe to call twice."""
        ...


class ReplyPump:
    """Reads the feed and wakes the waiters, until stopped."""

    def __init__(self, *, feed: ReplyFeed, waiters: Waiters, codec: MessageCodec) -> None:
        self._feed = feed
        self._waiters = waiters
        self._codec = codec
        self._task: asyncio.Task[None] | None = None
        self._live = False

    @property
    def live(self) -> bool:
        """Whether replies are being read: what readiness asks."""
        return self._live and self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Open the feed, then read it in the background. HTTP may open when this returns. Raises: FeedLostError."""
        await self._feed.open()
        self._live = True
        self._task = asyncio.create_task(self._run(), name="reply pump")

    async def stop(self) -> None:
        """End reading. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._live = False
        await self._feed.close()

    async def _run(self) -> None:
        while True:  # until `stop` cancels it
            for value, headers in await self._next():
                self.deliver(value, headers)

    async def _next(self) -> Sequence[tuple[bytes | None, Headers]]:
        """Return the next records, none when the feed was lost. It is open again then."""
        try:
            return await self._feed.read()
        except FeedLostError as error:
            _log.warning("reply_feed_lost", reason=str(error))
        except Exception:  # noqa: BLE001 -- whatever it is, another feed may do better: the pump must not end
            _log.exception("reply_feed_failed")
        self._live = False
        await self._reopen()
        return ()

    async def _reopen(self) -> None:
        attempt = 0
        while not self._live:  # until `stop` cancels it: without replies this instance is not ready
            await asyncio.sleep(REPLY_FEED_BACKOFF_S[min(attempt, len(REPLY_FEED_BACKOFF_S) - 1)])
            attempt += 1
            try:
                await self._feed.close()
                await self._feed.open()
                self._live = True
            except FeedLostError as error:
                _log.warning("reply_feed_not_opened", reason=str(error), attempt=attempt, repeats=True)
            except Exception:  # noqa: BLE001 -- as in `_next`
                _log.exception("reply_feed_not_opened", attempt=attempt)

    def deliver(self, value: bytes | None, headers: Headers) -> None:
        """Decode one record if somebody waits for it, and wake who does. Never raises for what a record holds."""
        try:
            self._deliver(value, headers)
        except Exception:  # noqa: BLE001 -- a defect in reading one reply must not cost all that come after it
            metrics.count("replies_read", result="failed")
            _log.exception("reply_failed")

    def _deliver(self, value: bytes | None, headers: Headers) -> None:
        request_id = next((raw.decode("ascii", "replace") for name, raw in headers if name == _SUBJECT), None)
        if request_id is None or not self._waiters.wants(request_id):
            metrics.count("replies_read", result="ignored")
            return
        try:
            _, reply = self._codec.decode(value, headers, ours=True)
        except DecodeError as error:
            metrics.count("replies_read", result="undecodable")
            _log.error("reply_undecodable", request_id=request_id, reason=error.reason)
            return
        delivered = isinstance(reply, OperationReplied) and self._waiters.deliver(reply)
        metrics.count("replies_read", result="delivered" if delivered else "ignored")
