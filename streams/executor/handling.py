"""One record of `gateway.requests.v1`, from its bytes to a durable result.

Called by the log worker for each record it takes; what it returns from is done and may be committed. Calls the codec,
the gateways (through `gateway_calls`) and the log writer. Knows nothing of consumers and offsets.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping

import structlog
from opentelemetry.trace import SpanKind

from gateway_adapters.contract import Gateway
from schemas.event_types import TYPES
from schemas.identifiers import GatewayName, OpId
from schemas.messages import DecodeError, EncodedMessage, Envelope, MessageCodec
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, DeadLetterReason, Outcome
from streams.executor.answers import Answers, Memory, PastResult, result_id
from streams.executor.calls import perform
from streams.executor.options import APPEND_LIMIT_S, APPEND_TIMEOUT_S, ExecutorOptions
from streams.kafka_clients.dead_letters import dead_letter_of, letter_message
from streams.kafka_clients.errors import RetryableError
from streams.kafka_clients.lease import Lease
from streams.kafka_clients.log_clock import LogClock
from streams.kafka_clients.log_reader import LogRecord
from streams.kafka_clients.producer import AppendedRecord, LogWriter
from streams.telemetry import metrics, spans
from streams.topology import EXECUTOR

log = structlog.get_logger(__name__)

MAX_RETRY_WAIT_S = 1.0

CallKey = tuple[OpId, CallKind, int, int]
"""Operation, kind, attempt and call number: what makes two requests the same call."""


class RequestHandler:
    """Handles requests of one process, any number at once."""

    def __init__(
        self,
        *,
        codec: MessageCodec,
        gateways: Mapping[GatewayName, Gateway],
        writer: LogWriter,
        options: ExecutorOptions,
        clock: LogClock,
        memory: Memory,
        lease: Lease,
    ) -> None:
        self._codec = codec
        self._gateways = gateways
        self._writer = writer
        self._options = options
        self._clock = clock
        self._memory = memory
        self._lease = lease
        self._running: dict[CallKey, asyncio.Task[None]] = {}

    async def handle(self, record: LogRecord, answers: Answers, *, maybe_sent_before: bool) -> None:
        """Return once what the record asks for is done and its result, or its dead letter, is on the log.

        A duplicate of a call that is under way in this process joins it; a duplicate of one whose answer is remembered
        gets that answer again. Calling it again for the same record is safe: the gateway key makes it the same call,
        and the result has the same id.

        Args:
            record: the request as it stands on the log.
            answers: the memory of its partition.
            maybe_sent_before: whether an earlier owner of the partition may have taken it.

        Raises:
            LogError: the result or the dead letter could not be appended: the worker must stop.
        """
        try:
            envelope, request = self._codec.decode(record.value, record.headers)
        except DecodeError as error:
            await self._dead_letter(record, error.reason, error.detail)
            return
        if not isinstance(request, GatewayCallRequested):
            await self._dead_letter(record, DeadLetterReason.INVALID, "not a gateway call")
            return
        gateway = self._gateways.get(request.gateway)
        if gateway is None:
            await self._dead_letter(record, DeadLetterReason.UNKNOWN_GATEWAY, "this worker has no such gateway")
            return
        # An order that asks again after a crash says so itself: its first copy stands at another offset, or nowhere.
        again = maybe_sent_before or request.repeated
        # No await from here to the start of the call: what is answered meanwhile would be made again.
        known = answers.to(request)
        if known is None:
            beyond_memory = again and not answers.covers(request)
            work = self._call(gateway, request, envelope, record.partition, again=again, beyond_memory=beyond_memory)
        else:
            work = self._answer_again(request, known)
        await self._joined(request, work)

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
        await self._append(self._options.results_topic, request.order_id.encode(), lambda: known)

    async def _call(
        self,
        gateway: Gateway,
        request: GatewayCallRequested,
        envelope: Envelope,
        partition: int,
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
            result = await perform(
                gateway,
                request,
                maybe_sent_before=again,
                timeout_s=self._options.call_timeout_s,
                clock_ms=self._clock.now_ms,
                maybe_answered_before=beyond_memory,
                still_ours=self._lease.holds,
            )
            appended, message = await self._append(
                self._options.results_topic,
                request.order_id.encode(),
                lambda: self._codec.encode(result, self._result_envelope(request, result)),
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

    async def _dead_letter(self, record: LogRecord, reason: DeadLetterReason, detail: str) -> None:
        letter = dead_letter_of(record, component=EXECUTOR.name, reason=reason, detail=detail)
        log.error(
            "dead_letter", reason=letter.reason, topic=record.topic, partition=record.partition, offset=record.offset
        )
        metrics.count("dead_letters", reason=letter.reason, component=letter.component)
        message = letter_message(self._codec, letter)
        await self._append(self._options.dead_letters_topic, letter.key, lambda: message)

    async def _append(
        self, topic: str, key: bytes | None, make: Callable[[], EncodedMessage]
    ) -> tuple[AppendedRecord, EncodedMessage]:
        """Append until it is acknowledged, at most `APPEND_LIMIT_S` long; `make` is asked anew for each try.

        Returns where it stands, and the message that was acknowledged. Raises: LogError.
        """
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + APPEND_LIMIT_S
        while True:  # bounded by give_up_s
            message = make()
            try:
                appended = await self._writer.append(
                    topic, key=key, value=message.value, headers=message.headers, timeout_s=APPEND_TIMEOUT_S
                )
            except RetryableError as error:
                if clock() >= give_up_s:
                    raise
                metrics.count("executor_results_retried", topic=topic)
                log.warning("append_retried", topic=topic, error=type(error).__name__)
                await asyncio.sleep(min(error.retry_after_s, MAX_RETRY_WAIT_S))
            else:
                return appended, message

    def _result_envelope(self, request: GatewayCallRequested, result: GatewayCallCompleted) -> Envelope:
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
            expiry_ms=self._clock.now_ms() + round(self._lease.left_s() * 1000) if refused else None,
        )
