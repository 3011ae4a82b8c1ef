"""One record of `gateway.requests.v1`, from its bytes to a durable result.

Called by the log worker for each record it takes; what it returns from is done and may be committed. Calls the codec,
the gateways (through `gateway_calls`) and the log writer. Knows nothing of consumers and offsets.
"""

import asyncio
from collections.abc import Collection, Coroutine, Mapping

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
from schemas.vocabulary import CallKind, DeadLetterReason, Outcome
from streams.executor.command_reader import ReadCommand, with_details
from streams.executor.gateway_calls import perform
from streams.executor.options import ExecutorOptions
from streams.executor.past_results import Memory, PastResult, result_id
from streams.kafka_clients.dead_letters import REDRIVEN_FROM_HEADER
from streams.kafka_clients.lease import Lease
from streams.kafka_clients.log_clock import LogClock
from streams.kafka_clients.log_reader import LogRecord
from streams.kafka_clients.producer import LogWriter
from streams.log_worker.appending import PatientWriter
from streams.log_worker.errors import RejectedRecordError
from streams.log_worker.handler import Delivery, RecordHandler
from streams.telemetry import metrics, spans
from streams.topology import EXECUTOR

log = structlog.get_logger(__name__)

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
    ) -> None:
        self._codec = codec
        self._gateways = gateways
        self._writer = PatientWriter(writer, component=EXECUTOR.name)
        self._options = options
        self._clock = clock
        self._memory = memory
        self._read_command = read_command
        self._running: dict[CallKey, asyncio.Task[None]] = {}

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
        gateway = self._gateways.get(gateway_route(request.gateway, request.account))
        # What an operator brings back may be settled by now: it is asked about, and its order asks again if it is not.
        redriven = any(name == REDRIVEN_FROM_HEADER for name, _ in record.headers)
        # An order that asks again after a crash says so itself: its first copy stands at another offset, or nowhere.
        again = delivery.maybe_seen_before or request.repeated or redriven
        # No await from here to the start of the call: what is answered meanwhile would be made again.
        known = answers.to(request)
        if known is None:
            beyond_memory = redriven or (again and not answers.covers(request))
            work = self._call(
                gateway,
                request,
                envelope,
                record.partition,
                delivery,
                again=again,
                beyond_memory=beyond_memory,
            )
        else:
            work = self._answer_again(request, known)
        await self._joined(request, work)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Drop what was answered there: another worker answers from now on, or has answered since."""
        self._memory.forget(each.partition for each in partitions)

    async def _decoded(self, record: LogRecord) -> tuple[Envelope, Record]:
        try:
            return self._codec.decode(record.value, record.headers, ours=True)
        except SchemaAwaitedError as awaited:  # a newer orders worker writes it: the registry is being asked
            await awaited.wait()
            return self._codec.decode(record.value, record.headers, ours=True)

    async def _joined(self, request: GatewayCallRequested, call: Coroutine[None, None, None]) -> None:
        key = (request.op_id, request.kind, request.attempt, request.call_number)
        running = self._running.get(key)
        if running is None:
            running = asyncio.get_running_loop().create_task(call)
            self._running[key] = running
            running.add_done_callback(lambda ended: self._ended(key, ended))
        else:
            call.close()
            metrics.count("executor_calls_joined", gateway=request.gateway, kind=request.kind)
        await asyncio.shield(running)  # one waiter's end must not end the call for the others

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
        gateway: Gateway | None,
        request: GatewayCallRequested,
        envelope: Envelope,
        partition: int,
        delivery: Delivery,
        *,
        again: bool,
        beyond_memory: bool,
    ) -> None:
        with spans.span(
            f"gateway {request.kind}",
            kind=SpanKind.CLIENT,
            traceparent=envelope.traceparent,
            tracestate=envelope.tracestate,
            gateway=request.gateway,
            attempt=request.attempt,
        ):
            lease = delivery.lease
            told = await with_details(request, partition, self._read_command, self._codec)
            if not delivery.is_ours():  # the command may have taken a while to be read
                await delivery.until_ours()
            result = await perform(
                gateway,
                request if told is None else told,
                command_gone=told is None,
                maybe_sent_before=again,
                timeout_s=self._options.call_timeout_s,
                clock_ms=self._clock.now_ms,
                maybe_answered_before=beyond_memory,
                still_ours=lease.holds,
            )
            appended, message = await self._writer.append(
                self._options.results_topic,
                request.order_id.encode(),
                lambda: self._codec.encode(result, self._result_envelope(request, result, lease)),
            )
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

    def _result_envelope(self, request: GatewayCallRequested, result: GatewayCallCompleted, lease: Lease) -> Envelope:
        traceparent, tracestate = spans.current_trace()
        # Until then no other worker can have made the same call. What the log takes later (this worker was cut off, or
        # frozen) may stand before that one's success, and must not pass for proof that nothing was done.
        refused = result.outcome is Outcome.NOT_EXECUTED and result.kind is not CallKind.INQUIRE
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
            expiry_ms=self._clock.now_ms() + round(lease.left_s() * 1000) if refused else None,
        )
