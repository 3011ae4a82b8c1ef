"""One record of `gateway.requests.v1`, from its bytes to a durable result.

Called by the log worker for each record it takes; what it returns from is done and may be committed. Calls the codec,
the gateways (through `gateway_calls`) and the log writer. Knows nothing of consumers and offsets.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from opentelemetry.trace import SpanKind

from gateway_adapters.contract import Gateway
from schemas.decode_errors import SchemaAwaitedError
from schemas.event_types import TYPES
from schemas.identifiers import GatewayRoute, OpId, gateway_route
from schemas.messages import DecodeError, EncodedMessage, Envelope, MessageCodec, OtherReleaseError, Record
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.releases import OutdatedError, place_of
from schemas.vocabulary import CallKind, DeadLetterReason
from streams.executor.breaker import Breaker
from streams.executor.command_reader import ReadCommand, with_details
from streams.executor.gateway_calls import is_first_of_attempt, is_refusal, perform, weakened_result
from streams.executor.gateway_slots import Entry, GatewaySlots
from streams.executor.options import ExecutorOptions
from streams.executor.pace import Pace
from streams.executor.past_results import LOOK_AGAIN_S, Answers, Memory, PastResult, result_id
from streams.kafka_clients.dead_letters import REDRIVEN_FROM_HEADER
from streams.kafka_clients.lease import Lease
from streams.kafka_clients.log_clock import LogClock
from streams.kafka_clients.log_reader import LogRecord
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.log_worker.appending import PatientWriter
from streams.log_worker.errors import PartitionLostError, RejectedRecordError
from streams.log_worker.handler import Delivery, RecordHandler
from streams.telemetry import metrics, spans
from streams.topology import EXECUTOR

log = structlog.get_logger(__name__)

OPENING: Final = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
"""Calls that another gateway may be asked for instead; all others are about a payment that one gateway has."""

CallKey = tuple[OpId, CallKind, int, int]
"""Operation, kind, attempt and call number: what makes two requests the same call."""


class RequestHandler(RecordHandler):
    """Handles requests of one process, any number at once."""

    def __init__(
        self,
        *,
        codec: MessageCodec,
        gateways: Mapping[GatewayRoute, Gateway],
        writer: LogWriter,
        options: ExecutorOptions,
        clock: LogClock,
        memory: Memory,
        read_command: ReadCommand,
        clock_s: Callable[[], float],
    ) -> None:
        self._codec = codec
        self._gateways = gateways
        self._writer = PatientWriter(writer, component=EXECUTOR.name)
        self._options = options
        self._clock = clock
        self._memory = memory
        self._read_command = read_command
        self._running: dict[CallKey, asyncio.Task[None]] = {}
        self._left: dict[CallKey, Delivery] = {}  # what an earlier owner has under way
        self._refusing: dict[asyncio.Task[Any], int] = {}  # appends of refusals, with their partitions
        self._slots = {
            route: GatewaySlots(
                route,
                slots=options.max_calls_in_flight,
                breaker=Breaker(failures=options.breaker_failures, open_s=options.breaker_open_s),
                pace=Pace(calls_per_second=options.calls_per_second.get(route)),
                clock_s=clock_s,
            )
            for route in gateways
        }

    async def handle(self, record: LogRecord, delivery: Delivery) -> None:
        """Return once what the record asks for is done and its result is on the log.

        A duplicate of a call that is under way in this process joins it; a duplicate of one whose answer is remembered
        gets that answer again. Calling it again for the same record is safe: the gateway key makes it the same call,
        and the result has the same id.

        Args:
            record: the request as it stands on the log.
            delivery: whether an earlier owner of the partition may have taken it.

        Raises:
            RejectedRecordError: it is no request that this executor can make.
            PartitionLostError: it is the next owner's.
            OutdatedError: a later release wrote it, or its command: the worker must stop.
            LogError: what was answered could not be read, or the result could not be appended: the worker must stop.
        """
        answers = await self._memory.of(record.partition, first_at_ms=record.timestamp_ms)
        try:
            envelope, request = await self._decoded(record)
        except OtherReleaseError as newer:  # what it asks for may be more than what can be read here
            raise OutdatedError(place_of(record.topic, record.partition, record.offset), newer.detail) from newer
        except DecodeError as error:
            raise RejectedRecordError(error.reason, error.detail) from error
        if not delivery.is_ours():  # the memory, or an unknown schema, may have taken a while to come
            await delivery.until_ours()
        if not isinstance(request, GatewayCallRequested):
            raise RejectedRecordError(DeadLetterReason.INVALID, "not a gateway call")
        # What an operator brings back may be settled by now: it is asked about, and its order asks again if it is not.
        redriven = any(name == REDRIVEN_FROM_HEADER for name, _ in record.headers)
        # An order that asks again after a crash says so itself: its first copy stands at another offset, or nowhere.
        again = delivery.maybe_seen_before or request.repeated or redriven
        if again and answers.to(request) is None:
            answers = await self._answers_after_hand_over(record, request, delivery, answers)
        while True:  # ends: what it joins was begun in an earlier assignment, and ends
            # No await from here to the start of the call: what is answered meanwhile would be made again.
            known = answers.to(request)
            if known is None:
                beyond_memory = redriven or (again and not answers.covers(request))
                work = self._call(
                    request, envelope, record.partition, delivery, again=again, beyond_memory=beyond_memory
                )
            else:
                work = self._answer_again(request, known)
            if await self._joined(request, work, delivery):
                return

    async def _answers_after_hand_over(
        self, record: LogRecord, request: GatewayCallRequested, delivery: Delivery, answers: Answers
    ) -> Answers:
        """Return what is answered once an earlier owner's call has ended, if it has this one under way.

        By its key such a call has its effect once; but the gateway may not say what it comes to while it works on it.
        A copy at another offset waits with the record that was left.

        Raises: PartitionLostError: it is the next owner's. LogError: as the memory's.
        """
        key, clock_s = _key_of(request), asyncio.get_running_loop().time
        give_up_s = clock_s() + self._options.hand_over_s  # whatever the clocks that dated it say
        left_until_ms = 0
        try:
            while key not in self._running and answers.to(request) is None:
                if delivery.left_until_ms():
                    self._left.setdefault(key, delivery)
                left = self._left.get(key)
                left_until_ms = 0 if left is None else left.left_until_ms()  # less, once it is known what was left
                wait_s = min((left_until_ms - self._clock.now_ms()) / 1000, give_up_s - clock_s())
                if wait_s <= 0:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_s, LOOK_AGAIN_S)):
                        await delivery.lease.changed()
                await self._memory.look_again(record.partition)
                answers = await self._memory.of(record.partition, first_at_ms=record.timestamp_ms)
                await delivery.until_ours()
            if left_until_ms and answers.to(request) is None:
                read_ms = min(left_until_ms, self._clock.now_ms())
                answers = await self._memory.of(
                    record.partition, first_at_ms=record.timestamp_ms, not_before_ms=read_ms
                )
                await delivery.until_ours()
            return answers
        finally:
            if self._left.get(key) is delivery:
                del self._left[key]

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what was answered there: another worker answers from now on, or has answered since."""
        numbers = {each.partition for each in partitions}
        self._memory.forget(numbers)
        for slots in self._slots.values():
            slots.let_go(numbers)

    async def _decoded(self, record: LogRecord) -> tuple[Envelope, Record]:
        try:
            return self._codec.decode(record.value, record.headers, ours=True)
        except SchemaAwaitedError as awaited:  # a newer orders worker writes it: the registry is being asked
            await awaited.wait()
            return self._codec.decode(record.value, record.headers, ours=True)

    async def _joined(
        self, request: GatewayCallRequested, call: Coroutine[None, None, None], delivery: Delivery
    ) -> bool:
        """Return whether the call, or the same one that is under way already, is done.

        It is not when that one was an earlier assignment's, and was let go though the partition has come back.
        """
        key = _key_of(request)
        running = self._running.get(key)
        if running is None:
            running = asyncio.get_running_loop().create_task(call)
            self._running[key] = running
            running.add_done_callback(lambda ended: self._ended(key, ended))
            await asyncio.shield(running)  # one waiter's end must not end the call for the others
            return True
        call.close()
        delivery.begins()
        metrics.count("executor_calls_joined", gateway=request.gateway, kind=request.kind)
        try:
            await asyncio.shield(running)
        except PartitionLostError:
            if not delivery.is_ours():
                raise
            await asyncio.sleep(0)  # until it is no longer counted as running
            return False
        return True

    def _ended(self, key: CallKey, ended: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        if not ended.cancelled():
            ended.exception()  # whoever waits raises it; when nobody waits any more, asyncio would complain

    def abandon(self) -> None:
        """Cancel every call under way: the process ends, and a restart takes them up again."""
        for running in list(self._running.values()):
            running.cancel()

    async def _answer_again(self, request: GatewayCallRequested, known: EncodedMessage) -> None:
        """Append the answer once more: whoever asks again may not have seen it."""
        metrics.count("executor_answers_repeated", gateway=request.gateway, kind=request.kind)
        await self._writer.append(self._options.results_topic, request.order_id.encode(), lambda: known)

    async def _call(
        self,
        request: GatewayCallRequested,
        envelope: Envelope,
        partition: int,
        delivery: Delivery,
        *,
        again: bool,
        beyond_memory: bool,
    ) -> None:
        with (
            await self._entered(request, partition, again=again) as entry,
            spans.span(
                f"gateway {request.kind}",
                kind=SpanKind.CLIENT,
                traceparent=envelope.traceparent,
                tracestate=envelope.tracestate,
                gateway=request.gateway,
                attempt=request.attempt,
            ),
        ):
            result = await self._told(request, partition, delivery, entry, again=again, beyond_memory=beyond_memory)
            appended, message = await self._said(request, result, partition, delivery)
            # Before this task ends, so that a duplicate finds either the call under way or its answer.
            self._memory.remember(partition, PastResult(timestamp_ms=appended.timestamp_ms, message=message))
        log.debug(  # the record on the log says it all; a line for each call costs more than its append
            "gateway_call_done",
            op_id=request.op_id,
            order_id=request.order_id,
            gateway=request.gateway,
            kind=request.kind,
            attempt=request.attempt,
            call_number=request.call_number,
            outcome=result.outcome,
        )

    async def _said(
        self, request: GatewayCallRequested, result: GatewayCallCompleted, partition: int, delivery: Delivery
    ) -> tuple[AppendedRecord, EncodedMessage]:
        """Append the result. A refusal that is not on the log when its partition goes proves nothing any more."""

        def message() -> EncodedMessage:
            said = result if delivery.is_alone() else weakened_result(result)
            return self._codec.encode(said, self._result_envelope(request, said, delivery.lease))

        task = asyncio.current_task()
        assert task is not None
        if is_refusal(result):
            self._refusing[task] = partition
        try:
            return await self._writer.append(self._options.results_topic, request.order_id.encode(), message)
        finally:
            self._refusing.pop(task, None)

    async def settle(self, partitions: Collection[TopicPartition]) -> None:
        """Return once no refusal of these partitions is being appended that was made when nobody else owned them."""
        numbers = {each.partition for each in partitions}
        while saying := [task for task, partition in self._refusing.items() if partition in numbers]:
            await asyncio.wait(saying)

    async def _entered(self, request: GatewayCallRequested, partition: int, *, again: bool) -> Entry:
        """Return once the gateway may be asked, or will not be. Raises: PartitionLostError."""
        slots = self._slots.get(gateway_route(request.gateway, request.account))
        if slots is None:
            return Entry(None, None)
        elsewhere = request.kind in OPENING and is_first_of_attempt(request) and not again
        return await slots.enter(partition, patience_s=self._options.slot_wait_s if elsewhere else None)

    async def _told(
        self,
        request: GatewayCallRequested,
        partition: int,
        delivery: Delivery,
        entry: Entry,
        *,
        again: bool,
        beyond_memory: bool,
    ) -> GatewayCallCompleted:
        """Return what the gateway makes of the request, by its details, which only its command holds."""
        asked = entry.turned_away is None
        told = await with_details(request, partition, self._read_command, self._codec) if asked else request
        if not delivery.is_ours():  # a slot, or the command, may have taken a while to come
            await delivery.until_ours()
        delivery.begins()
        result = await perform(
            self._gateways.get(gateway_route(request.gateway, request.account)),
            request if told is None else told,
            command_gone=told is None,
            maybe_sent_before=again,
            timeout_s=self._options.call_timeout_s,
            clock_ms=self._clock.now_ms,
            maybe_answered_before=beyond_memory,
            still_ours=delivery.is_alone,
            turned_away=entry.turned_away,
            heard=entry.heard,
        )
        entry.leave()
        return result

    def _result_envelope(self, request: GatewayCallRequested, result: GatewayCallCompleted, lease: Lease) -> Envelope:
        traceparent, tracestate = spans.current_trace()
        # Until then no other worker can have made the same call. What the log takes later (this worker was cut off, or
        # frozen) may stand before that one's success, and must not pass for proof that nothing was done.
        return Envelope(
            id=result_id(request),
            source=EXECUTOR.event_source,
            type=TYPES[GatewayCallCompleted],
            subject=request.payment_id,
            time_ms=result.completed_at_ms,
            partitionkey=request.order_id,
            originid=request.origin_id,
            traceparent=traceparent,
            tracestate=tracestate,
            expiry_ms=self._clock.now_ms() + round(lease.left_s() * 1000) if is_refusal(result) else None,
        )


def _key_of(request: GatewayCallRequested) -> CallKey:
    return request.op_id, request.kind, request.attempt, request.call_number
