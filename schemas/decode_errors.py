"""The errors of reading what stands on the log; raised by the codec, turned into dead letters by the shells."""

from collections.abc import Awaitable, Callable

from schemas.releases import DRAFT_IDS, UPGRADE_IT
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


class OtherReleaseError(DecodeError):
    """A release that this one does not know wrote these bytes, as far as they tell: a later one, as a rule.

    Nobody may guess what they mean. A reader of the engine's own topics stops with it. It is a dead letter's reason
    (`unknown_schema`) only where strangers write too.
    """

    def __init__(self, detail: str, *, mend: str = UPGRADE_IT) -> None:
        """Take what was met (a record, a field, a schema id) and what is to be done about it."""
        super().__init__(DeadLetterReason.UNKNOWN_SCHEMA, f"{detail}; {mend}")


def unknown_to_this_release(schema_id: int) -> OtherReleaseError:
    """Return the error of a schema id that is the engine's own, and of no schema that is packaged here."""
    if schema_id in DRAFT_IDS:
        mend = "it was written before the first release: docs/operations.md, 'Upgrades', has what to do"
        return OtherReleaseError(f"schema id {schema_id} is of a draft", mend=mend)
    return OtherReleaseError(f"schema id {schema_id} is of a later release")
