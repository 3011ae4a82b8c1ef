"""The errors of reading what stands on the log; raised by the codec, turned into dead letters by the shells."""

from collections.abc import Awaitable, Callable

from schemas.vocabulary import DeadLetterReason


class DecodeError(Exception):
    """These bytes are no record of ours. Permanent: reading them again fails in the same way.

    `detail` is for a person and names attributes and fields, never the offending value: it may be a card number.
    """

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class SchemaAwaitedError(DecodeError):
    """Nobody here knows the schema yet, and a registry is being asked.

    Whoever can wait does, and reads again: it is then read, or refused for good. Whoever cannot takes it for what it
    is, a record of an unknown schema.
    """

    def __init__(self, detail: str, wait: Callable[[], Awaitable[None]]) -> None:
        """`wait` returns when the registry has said, or has had its time; it never raises."""
        super().__init__(DeadLetterReason.UNKNOWN_SCHEMA, detail)
        self.wait = wait
