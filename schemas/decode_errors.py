"""The one error of reading what stands on the log; raised by the codec, turned into dead letters by the shells."""

from schemas.vocabulary import DeadLetterReason


class DecodeError(Exception):
    """These bytes are no record of ours. Permanent: reading them again fails in the same way.

    `detail` is for a person and names attributes and fields, never the offending value: it may be a card number.
    """

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
