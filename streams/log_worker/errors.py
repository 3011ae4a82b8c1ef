"""What a handler says about the record that it was given, by what the worker has to do about it.

Raised by handlers, caught by `attempts`. Not the tree of `kafka_clients.errors`, on purpose: a handler that appends has
to say what a failed append means for its record. Whatever is not in this tree ends the worker.

```
HandlingError
├── RetryableRecordError       not now: hand this record over again later; by key, its key waits
├── DestinationBusyError       nothing now: the back-pressure of a destination; take in nothing more, then try again
├── RejectedRecordError        never: dead letter, with its reason
└── PartitionLostError         not ours any more: the next owner takes it (raised by `Delivery.until_ours`)

any other exception            an invariant is violated, or the log does not take what it must: the worker ends with it
```
"""

from schemas.vocabulary import DeadLetterReason


class HandlingError(Exception):
    """Root of what a handler may say."""


class RetryableRecordError(HandlingError):
    """The record could not be handled now, and may be in a while.

    Attributes:
        after_s: how long to wait at least, seconds, as the other side has asked for. None: as the worker thinks fit.
    """

    def __init__(self, reason: str, *, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class DestinationBusyError(HandlingError):
    """The destination takes nothing now, of this record or any other. It counts as no attempt.

    Attributes:
        after_s: how long to wait at least, seconds, as the other side has asked for. None: as the worker thinks fit.
    """

    def __init__(self, reason: str, *, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class RejectedRecordError(HandlingError):
    """The record will never be taken.

    Attributes:
        reason: first word of its dead letter.
        detail: for a person; never what the record holds.
    """

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PartitionLostError(HandlingError):
    """The partition is being given away, or was: the record is the next owner's to handle."""


class HandlerCancelledError(Exception):
    """The handler ended by a cancellation that was not the worker's: nobody knows what became of its record."""
