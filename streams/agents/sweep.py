"""Rows that are past their life are asked to go, and orders that nobody answers to move, through the log.

A sweep reads the tables of the partitions that this worker owns, in small steps so that no payment waits for it, and
appends a request for each row that is too old: `ClaimExpiryRequested` to the claims topic, `TimerFired` (EXPIRE_ROW) to
the timers topic, a webhook that has waited for its reference for too long to the webhooks topic once more. An order
whose claim or call has waited for its answer for long is asked to say it again, by a `TimerFired` (DRIVE_AGAIN). The
agent that owns the row decides, so that one writer stays one writer; asking twice is safe.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import structlog

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OpId, OriginId
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimExpiryRequested, ClaimRow
from schemas.records.orders import OrderRow
from schemas.records.references import ParkedRow
from schemas.records.timers import TimerFired
from schemas.vocabulary import TimerKind
from streams.agents.intake import row_of
from streams.agents.references import append_again
from streams.agents.timers import append_timer
from streams.domain.claims import claim_expires_at_ms
from streams.domain.limits import Rules
from streams.domain.order import longest_owed, order_ends_at_ms
from streams.domain.references import Indexed, known_by, overdue
from streams.domain.subtotals import operations_of
from streams.kafka.step import Outgoing, TableRow
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.producer import LogWriter

SOURCE = "payment-engine/sweep"
# Rows looked at before the event loop gets its turn again: about two milliseconds of decoding.
ROWS_AT_ONCE = 50
# Requests of one sweep; the rest waits for the next.
MAX_REQUESTS = 10_000
APPEND_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)

Request = TimerFired | ClaimExpiryRequested | Outgoing
Ask = Callable[[TableRow, int], Sequence[Request]]


class Sweeper:
    """Sweeps one table every `interval_s`, until cancelled."""

    def __init__(
        self,
        rows: Callable[[], Iterator[TableRow]],
        ask: Ask,
        *,
        codec: MessageCodec,
        log_writer: LogWriter,
        now_ms: Callable[[], int],
        interval_s: float,
    ) -> None:
        """`rows` yields the live rows of the owned partitions; `ask` returns the requests for a row, mostly none."""
        self._rows = rows
        self._ask = ask
        self._codec = codec
        self._log_writer = log_writer
        self._now_ms = now_ms
        self._interval_s = interval_s

    async def run(self) -> None:
        """Sweep for ever. A broker that cannot be reached leaves the rest to the next sweep."""
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                asked = await self.sweep()
            except RetryableError as error:
                log.warning("sweep_cut_short", error=type(error).__name__)
            else:
                log.info("swept", count=asked)

    async def sweep(self) -> int:
        """Look at every row once; returns how many requests it appended. Raises: RetryableError."""
        asked = 0
        rows = self._rows()
        while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
            now_ms = self._now_ms()
            for row in batch:
                for request in self._ask(row, now_ms):
                    await self._append(request)
                    asked += 1
            if asked >= MAX_REQUESTS:
                break
            await asyncio.sleep(0)
        return asked

    async def _append(self, request: Request) -> None:
        if isinstance(request, TimerFired):
            await append_timer(self._log_writer, self._codec, request)
            return
        if isinstance(request, Outgoing):
            await self._log_writer.append(
                request.topic,
                key=request.key,
                value=request.value,
                headers=request.headers,
                timeout_s=APPEND_TIMEOUT_S,
            )
            return
        key = identifiers.claim_key(request.origin_id, request.idempotency_key)
        message = self._codec.encode(
            request,
            Envelope(
                id=identifiers.event_id(request.op_id, f"expiry-{request.claimed_at_ms}"),
                source=SOURCE,
                type=TYPES[ClaimExpiryRequested],
                time_ms=self._now_ms(),
                originid=request.origin_id,
                idempotencykey=request.idempotency_key,
            ),
        )
        await self._log_writer.append(
            topics.CLAIMS, key=key, value=message.value, headers=message.headers, timeout_s=APPEND_TIMEOUT_S
        )


def old_claims(codec: MessageCodec, rules: Rules) -> Ask:
    """Return the question for the claims table: is this claim older than its life?"""

    def ask(row: TableRow, now_ms: int) -> tuple[ClaimExpiryRequested, ...]:
        claim = row_of(codec, ClaimRow, row)
        if now_ms < claim_expires_at_ms(claim, rules):
            return ()
        origin, _, key = row.key.decode().partition("|")
        request = ClaimExpiryRequested(
            origin_id=OriginId(origin),
            idempotency_key=IdempotencyKey(key),
            op_id=claim.op_id,
            claimed_at_ms=claim.claimed_at_ms,
        )
        return (request,)

    return ask


def overdue_orders(codec: MessageCodec, rules: Rules, indexed: Indexed) -> Ask:
    """Return the question for the orders table: has it waited for an answer for too long, or ended past its life ago?

    `indexed`: the gateways' capabilities; the request names what leaves the references index with the order.
    """

    def ask(row: TableRow, now_ms: int) -> tuple[TimerFired, ...]:
        order = row_of(codec, OrderRow, row)
        owed = longest_owed(order)
        if owed is not None:  # such an order has not ended
            op_id, since_ms = owed
            due_at_ms = since_ms + rules.drive_again_ms
            return () if now_ms < due_at_ms else (_drive_again(order, op_id, due_at_ms=due_at_ms, now_ms=now_ms),)
        ends_at_ms = order_ends_at_ms(order, rules)
        if ends_at_ms is None or now_ms < ends_at_ms:
            return ()
        request = TimerFired(
            origin_id=order.origin_id,
            order_id=order.order_id,
            op_id=None,
            kind=TimerKind.EXPIRE_ROW,
            number=order.version,
            due_at_ms=ends_at_ms,
            fired_at_ms=now_ms,
            references=tuple(known_by(order, indexed)),
            life_ms=order.created_at_ms,
            operations=operations_of(order),
        )
        return (request,)

    return ask


def _drive_again(order: OrderRow, op_id: OpId, *, due_at_ms: int, now_ms: int) -> TimerFired:
    return TimerFired(
        origin_id=order.origin_id,
        order_id=order.order_id,
        op_id=op_id,
        kind=TimerKind.DRIVE_AGAIN,
        number=order.version,
        due_at_ms=due_at_ms,
        fired_at_ms=now_ms,
    )


def overdue_webhooks(codec: MessageCodec) -> Ask:
    """Return the question for the table of what is parked: has any of it waited for its reference for too long?"""

    def ask(row: TableRow, now_ms: int) -> tuple[Outgoing, ...]:
        waiting = row_of(codec, ParkedRow, row)
        return tuple(append_again(codec, waiting, each) for each in overdue(waiting.webhooks, now_ms=now_ms))

    return ask
