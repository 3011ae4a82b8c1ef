"""What all agents have in common: decode, decide, and turn what cannot be taken into a dead letter.

The one place with a broad `except`: a defect of ours must not stop every order of a partition. The record goes to the
dead letters, to be redriven after the fix, up to a limit; past the limit the worker stops, since a bad deploy must not
pour the whole log into the dead letters. A broken invariant stops it at once, and so do rows that cannot be read: that
is no fault of the record, and every other one of the partition would follow it. So does what a later release has
written: a dead letter would be a payment lost, and a guess worse.
"""

from collections.abc import Callable, Sequence

import structlog

from schemas import topics
from schemas.decode_errors import OtherReleaseError, SchemaAwaitedError
from schemas.messages import MessageCodec
from schemas.releases import OutdatedError, place_of
from schemas.vocabulary import DeadLetterReason
from streams.agents.intake import RefusedError
from streams.domain.errors import InvariantViolatedError
from streams.kafka.errors import LocalRowsBrokenError
from streams.kafka.pipeline import oversize
from streams.kafka.step import InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.kafka_clients.dead_letters import dead_letter_of, is_private, letter_message
from streams.kafka_clients.log_clock import wall_clock_ms
from streams.telemetry import metrics

# Records a worker may dead-letter for our own defects before it stops.
MAX_HANDLER_FAILURES = 100

log = structlog.get_logger(__name__)


class AgentShell:
    """Wraps an agent's `take` so that every record ends in a step."""

    def __init__(
        self,
        take: Callable[[InputEvent, RowReader], Step],
        *,
        codec: MessageCodec,
        component: str,
        accepted: Callable[[], None] = lambda: None,
        saw: Callable[[int], None] = lambda _timestamp_ms: None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Wrap an agent.

        Args:
            take: The agent's decision about one record.
            codec: The published language, for dead letters.
            component: Whose dead letters they are.
            accepted: Called when the step that `take` has returned is carried out, and not a dead letter instead.
            saw: Told when the broker dated each record, before it is decided (`LogClock.saw`).
            now_ms: The time, milliseconds since the epoch; for the lag alone.
        """
        self._accepted = accepted
        self._saw = saw
        self._take = take
        self._codec = codec
        self._component = component
        self._now_ms = now_ms
        self._failures = 0

    def handle(self, event: InputEvent, read: RowReader) -> Step:
        """Return the step for one record.

        Raises: InvariantViolatedError, LocalRowsBrokenError, OutdatedError, SchemaAwaitedError (ask again after its
        wait), or our own defect past the limit.
        """
        step = self._decide(event, read)
        metrics.count("inputs_handled", topic=event.topic)
        metrics.observe("input_lag_ms", self._now_ms() - event.timestamp_ms, topic=event.topic)
        return step

    def _decide(self, event: InputEvent, read: RowReader) -> Step:
        def reading(table: str, key: bytes) -> bytes | None:
            try:
                return read(table, key)
            except Exception as broken:
                raise LocalRowsBrokenError(f"a row of {table} in partition {event.partition}") from broken

        self._saw(event.timestamp_ms)
        try:
            step = self._take(event, reading)
        except RefusedError as refusal:
            step = self._dead(event, refusal.reason, refusal.detail, rows=refusal.rows)
            if refusal.rows:
                self._accepted()
            return step
        except (InvariantViolatedError, LocalRowsBrokenError, SchemaAwaitedError):
            raise
        except OtherReleaseError as newer:  # of the record, or of a row that it needs: nobody may guess
            raise OutdatedError(place_of(event.topic, event.partition, event.offset), newer.detail) from newer
        except Exception as defect:
            self._failures += 1
            if self._failures > MAX_HANDLER_FAILURES:
                raise
            log.exception("handler_failed", topic=event.topic, partition=event.partition, offset=event.offset)
            return self._dead(event, DeadLetterReason.HANDLER_FAILED, type(defect).__name__)
        # Nothing of it was written yet: the order stays as it was, and the worker need not stop here for ever.
        fault = oversize(step)
        if fault is not None:
            return self._dead(event, DeadLetterReason.TOO_LARGE, fault)
        self._accepted()
        return step

    def _dead(self, event: InputEvent, reason: DeadLetterReason, detail: str, *, rows: Sequence[RowWrite] = ()) -> Step:
        letter = dead_letter_of(
            event, component=self._component, reason=reason, detail=detail, private=is_private(event, self._codec)
        )
        log.warning(
            "dead_letter",
            reason=letter.reason,
            topic=event.topic,
            partition=event.partition,
            offset=event.offset,
        )
        metrics.count("dead_letters", reason=letter.reason, component=self._component)
        message = letter_message(self._codec, letter)
        said = Outgoing(topic=topics.DLQ, key=letter.key, value=message.value, headers=message.headers)
        return Step(rows=rows, speak=(said,))
