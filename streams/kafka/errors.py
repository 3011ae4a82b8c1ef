"""What stops a worker, by what whoever runs it must do.

WorkerError
├── TopicsNotReadyError     fix the topics (`topics apply`), then start again
├── LocalRowsLockedError    another process uses the same data folder
├── LocalRowsUnwritableError the disk does not take the rows: it is full, or gone
├── LocalRowsBrokenError    the file of the rows is damaged: restart, they are read back from the changelog
├── TooLargeError           a defect: the owner of the handler must bound its rows and messages
├── DeliveryGapError        Faust dropped a fetched record: restart, the record is read again
├── NotCopartitionedError   a topic of the worker has another partition count
└── StalledError            the log did not acknowledge in time: restart, the inputs are read again
"""


class WorkerError(Exception):
    """A worker cannot start or go on."""


class TopicsNotReadyError(WorkerError):
    """Topics are missing or have another partition count; the message names each."""


class LocalRowsLockedError(WorkerError):
    """The local rows of a partition are open in another process."""


class LocalRowsUnwritableError(WorkerError):
    """The local rows of a partition cannot be written; the log has them."""


class LocalRowsBrokenError(WorkerError):
    """The local rows of a partition cannot be read; what is to be decided by them must wait for a restart."""


class TooLargeError(WorkerError):
    """A row or a message is above its limit; refused before anything of the step was written."""


class DeliveryGapError(WorkerError):
    """An input or a changelog record arrived while an earlier fetched one of its partition never did."""


class NotCopartitionedError(WorkerError):
    """The assignment does not give every source topic the same partitions."""


class StalledError(WorkerError):
    """A write was not acknowledged, or the inputs in flight did not end, within their limit."""
