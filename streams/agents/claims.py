"""The claims agent: the first claim of an idempotency key in log order wins.

Reads `idempotency.claims.v1`, keeps the claims table, answers on `idempotency.verdicts.v1` under the order's key.
"""

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimDecided, ClaimExpiryRequested, ClaimRequested, ClaimRow
from schemas.vocabulary import DeadLetterReason
from streams.agents.dues import due_of_claim
from streams.agents.intake import Intake, RefusedError, Taken
from streams.domain.claims import decide_claim, expire_claim
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
        match taken.record:
            case ClaimRequested() as claim:
                return self._claimed(event, taken, claim, read)
            case ClaimExpiryRequested() as request:
                return self._expired(event, request, read)
            case _:
                detail = f"{taken.envelope.type} does not belong on this topic"
                raise RefusedError(DeadLetterReason.UNKNOWN_TYPE, detail)

    def _claimed(self, event: InputEvent, taken: Taken, claim: ClaimRequested, read: RowReader) -> Step:
        key = identifiers.claim_key(claim.origin_id, claim.idempotency_key)
        self._intake.require_key(event, key)
        before = self._row(read(CLAIMS_TABLE, key))
        after, verdict = decide_claim(before, claim, event.timestamp_ms)
        return Step(
            rows=() if after == before and not event.possible_replay else (self._write(key, after),),
            speak=(self._verdict(verdict, taken.envelope.traceparent),),
        )

    def _expired(self, event: InputEvent, request: ClaimExpiryRequested, read: RowReader) -> Step:
        """Let each claim go whose life is over. One that names another time now is written again, with its own."""
        rows: list[RowWrite] = []
        for each in request.claims:
            key = identifiers.claim_key(each.origin_id, each.idempotency_key)
            self._intake.require_here(event, key)
            before = self._row(read(CLAIMS_TABLE, key))
            after = expire_claim(before, event.timestamp_ms, self._rules)
            misplaced = after is not None and due_of_claim(after, self._rules).at_ms != each.due_at_ms
            if after != before or misplaced or (event.possible_replay and before is not None):
                rows.append(self._write(key, after))
        return Step(rows=rows, speak=())

    def _row(self, stored: bytes | None) -> ClaimRow | None:
        return None if stored is None else self._codec.decode_row(ClaimRow, stored)

    def _write(self, key: bytes, row: ClaimRow | None) -> RowWrite:
        if row is None:
            return RowWrite(table=CLAIMS_TABLE, key=key, value=None)
        return RowWrite(
            table=CLAIMS_TABLE, key=key, value=self._codec.encode_row(row), due=due_of_claim(row, self._rules)
        )

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
