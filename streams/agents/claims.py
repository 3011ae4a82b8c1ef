"""The claims agent: the first claim of an idempotency key in log order wins.

Reads `idempotency.claims.v1`, keeps the claims table, answers on `idempotency.verdicts.v1` under the order's key.
"""

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimDecided, ClaimExpiryRequested, ClaimRequested, ClaimRow
from schemas.vocabulary import DeadLetterReason
from streams.agents.intake import Intake, RefusedError
from streams.domain.claims import decide_claim
from streams.domain.limits import Rules
from streams.kafka.step import InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.topology import CLAIMS, CLAIMS_TABLE

SOURCE = CLAIMS.event_source


class ClaimsAgent:
    """Turns claims into verdicts."""

    def __init__(self, codec: MessageCodec, *, partitions: int, rules: Rules) -> None:
        self._codec = codec
        self._rules = rules
        self._intake = Intake(codec, partitions=partitions)

    def take(self, event: InputEvent, read: RowReader) -> Step:
        """Return the row to keep and the verdict to send. Raises: RefusedError."""
        taken = self._intake.decode(event)
        record = taken.record
        if not isinstance(record, ClaimRequested | ClaimExpiryRequested):
            raise RefusedError(DeadLetterReason.UNKNOWN_TYPE, f"{taken.envelope.type} does not belong on this topic")
        key = identifiers.claim_key(record.origin_id, record.idempotency_key)
        self._intake.require_key(event, key)
        stored = read(CLAIMS_TABLE, key)
        before = None if stored is None else self._codec.decode_row(ClaimRow, stored)
        after, verdict = decide_claim(before, record, event.timestamp_ms, self._rules)
        return Step(
            rows=() if after == before and not event.possible_replay else (self._write(key, after),),
            speak=() if verdict is None else (self._verdict(verdict, taken.envelope.traceparent),),
        )

    def _write(self, key: bytes, row: ClaimRow | None) -> RowWrite:
        return RowWrite(table=CLAIMS_TABLE, key=key, value=None if row is None else self._codec.encode_row(row))

    def _verdict(self, verdict: ClaimDecided, traceparent: str | None) -> Outgoing:
        message = self._codec.encode(
            verdict,
            Envelope(
                id=identifiers.event_id(verdict.op_id, "verdict"),
                source=SOURCE,
                type=TYPES[ClaimDecided],
                time_ms=verdict.decided_at_ms,
                partitionkey=verdict.order_id,
                originid=verdict.origin_id,
                idempotencykey=verdict.idempotency_key,
                traceparent=traceparent,
            ),
        )
        return Outgoing(
            topic=topics.VERDICTS, key=verdict.order_id.encode(), value=message.value, headers=message.headers
        )
