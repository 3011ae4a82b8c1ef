"""The way in of every agent: from a raw record to a decoded one that belongs here, or to the reason why not.

Faust would acknowledge a record that it cannot decode and crash the stream, so agents take raw bytes and decode here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from schemas import topics
from schemas.decode_errors import OtherReleaseError, SchemaAwaitedError
from schemas.messages import DecodeError, Envelope, MessageCodec, Record, Row
from schemas.quick_init import quick_init
from schemas.releases import OutdatedError
from schemas.vocabulary import DeadLetterReason
from streams.kafka.step import InputEvent, RowWrite, TableRow

R = TypeVar("R", bound=Row)


class RefusedError(Exception):
    """The record cannot be taken: `reason` for the machine, `detail` for a person (never the offending value).

    `rows`: what is written all the same, before the dead letter.
    """

    def __init__(self, reason: DeadLetterReason, detail: str, *, rows: Sequence[RowWrite] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.rows = tuple(rows)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A record that was decoded, and its envelope."""

    envelope: Envelope
    record: Record


def row_of(codec: MessageCodec, cls: type[R], row: TableRow) -> R:
    """Return a row of a table as it is gone through. Raises: OutdatedError: a later release has written it."""
    try:
        return codec.decode_row(cls, row.value)
    except OtherReleaseError as newer:
        raise OutdatedError(f"a row of table {row.table}, partition {row.partition}", newer.detail) from newer


class Intake:
    """Decodes records and checks that they stand in the partition of their key."""

    __slots__ = ("_codec", "_partitions")

    def __init__(self, codec: MessageCodec, *, partitions: int) -> None:
        self._codec = codec
        self._partitions = partitions

    def decode(self, event: InputEvent) -> Taken:
        """Return the decoded record, which is one of its topic's.

        Raises:
            RefusedError: It cannot be taken.
            SchemaAwaitedError: A registry is being asked for its schema: try again after the wait.
            OtherReleaseError: A later release wrote it where nobody else writes: the worker must stop.
        """
        topic = topics.topic(event.topic)
        try:
            envelope, record = self._codec.decode(event.value, event.headers, ours=not topic.public)
        except SchemaAwaitedError:
            raise
        except OtherReleaseError as error:
            if not topic.public:
                raise
            raise RefusedError(error.reason, error.detail) from error
        except DecodeError as error:
            raise RefusedError(error.reason, error.detail) from error
        if type(record) not in topic.records:
            # Who may append commands may not thereby forge a verdict or a gateway's result: rights are by topic.
            detail = f"{envelope.type} does not belong on this topic"
            raise RefusedError(DeadLetterReason.UNKNOWN_TYPE, detail)
        return Taken(envelope=envelope, record=record)

    def require_key(self, event: InputEvent, key: bytes) -> None:
        """Return when the record has this key and stands in its partition; a row has one writer only then.

        Raises:
            RefusedError: The producer used another key or another partitioner (librdkafka's default is not murmur2).
        """
        if event.key != key:
            raise RefusedError(DeadLetterReason.WRONG_KEY, "the record's key is not the one its content belongs to")
        self.require_here(event, key)

    def require_here(self, event: InputEvent, key: bytes) -> None:
        """Return when what has this key belongs in the record's partition, whatever the record's own key is.

        Raises:
            RefusedError: It belongs in another.
        """
        if topics.partition_of(key, self._partitions) != event.partition:
            raise RefusedError(
                DeadLetterReason.WRONG_KEY,
                "the record is in another partition than murmur2 of its key: set partitioner=murmur2_random",
            )

    def require_reply_partition(self, number: int | None) -> None:
        """Return when an answer can be sent there, or nobody waits for one.

        Raises:
            RefusedError: There is no such partition of replies: the answer could never be sent, and would stop the
                worker each time it tries.
        """
        if number is not None and not self.has_partition(number):
            raise RefusedError(DeadLetterReason.INVALID, "replypartition names no partition of the replies")

    def partition_of(self, key: bytes) -> int:
        """Return where a record of this key belongs. Known for a while: whoever takes the record asks it again."""
        return topics.partition_of(key, self._partitions)

    def has_partition(self, number: int) -> bool:
        """Return whether every topic has this partition."""
        return 0 <= number < self._partitions
