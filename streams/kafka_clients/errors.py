"""What goes wrong between us and the log, split by what the caller must do.

```
LogError
├── RetryableError           the broker did not do it, or not provably: try again after `retry_after_s`
│   ├── BackpressureError      nothing was sent, too much is under way: slow down, then try again
│   └── UnconfirmedError       sent, not acknowledged in time: it may yet be written, so trying again may write it twice
└── RejectedError            this record will never be taken (too large, no such partition): dead letter or refuse

MisconfiguredError           credentials, authorization, protocol: refuse to start, or stop (`schemas.misconfigured`)
```

`classify` is the one seam where foreign exceptions become these; a test fails when aiokafka grows one that it does
not know.
"""

import ssl

import aiokafka.errors as foreign

from schemas.misconfigured import MisconfiguredError

DEFAULT_RETRY_AFTER_S = 1.0


class LogError(Exception):
    """Root of everything this room raises."""


class RetryableError(LogError):
    """The broker did not do it now.

    Attributes:
        retry_after_s: how long to wait before the next try, seconds.
    """

    def __init__(self, message: str, *, retry_after_s: float = DEFAULT_RETRY_AFTER_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackpressureError(RetryableError):
    """Nothing was sent: the circuit is open, or too many appends are under way."""


class UnconfirmedError(RetryableError):
    """Sent, and not acknowledged in time. It may yet be written: whoever tries again must be idempotent."""


class RejectedError(LogError):
    """The broker will never take this record as it is."""


_REJECTED: tuple[type[BaseException], ...] = (
    foreign.MessageSizeTooLargeError,
    foreign.RecordListTooLargeError,
    foreign.RecordTooLargeError,
    foreign.InvalidTopicError,
    foreign.InvalidTimestampError,
    foreign.IllegalArgumentError,
    foreign.CorruptRecordException,
)

_MISCONFIGURED: tuple[type[BaseException], ...] = (
    foreign.AuthenticationFailedError,
    foreign.AuthenticationMethodNotSupported,
    foreign.TopicAuthorizationFailedError,
    foreign.GroupAuthorizationFailedError,
    foreign.ClusterAuthorizationFailedError,
    foreign.TransactionalIdAuthorizationFailed,
    foreign.SaslAuthenticationFailed,
    foreign.UnsupportedSaslMechanismError,
    foreign.IllegalSaslStateError,
    foreign.IncompatibleBrokerVersion,
    foreign.UnrecognizedBrokerVersion,
    foreign.UnsupportedCodecError,
    foreign.UnsupportedVersionError,
    foreign.KafkaConfigurationError,
    foreign.SecurityDisabled,
    foreign.InvalidGroupIdError,
    foreign.InvalidSessionTimeoutError,
    foreign.InconsistentGroupProtocolError,
    ssl.SSLCertVerificationError,
)


def classify(error: BaseException) -> LogError | MisconfiguredError:
    """Return what a foreign error means to the caller: by its class, never by its text.

    What is not known to be hopeless counts as retryable: giving up a record is the worse mistake.
    """
    name = type(error).__name__
    if isinstance(error, LogError | MisconfiguredError):
        return error
    if isinstance(error, _REJECTED):
        return RejectedError(name)
    if isinstance(error, _MISCONFIGURED):
        return MisconfiguredError(name)
    if isinstance(error, TimeoutError | foreign.KafkaTimeoutError | foreign.RequestTimedOutError):
        return UnconfirmedError(name)
    return RetryableError(name)
