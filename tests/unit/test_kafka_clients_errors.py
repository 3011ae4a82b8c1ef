"""The one seam of foreign errors: each of aiokafka's has a known meaning, and a new one is noticed."""

import aiokafka.errors as foreign
import pytest

from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.errors import (
    BackpressureError,
    LogError,
    RejectedError,
    RetryableError,
    UnconfirmedError,
    classify,
)

REJECTED = {
    "CorruptRecordException", "IllegalArgumentError", "InvalidMessageError", "InvalidTimestampError",
    "InvalidTopicError", "MessageSizeTooLargeError", "RecordListTooLargeError", "RecordTooLargeError",
}  # fmt: skip
MISCONFIGURED = {
    "AuthenticationFailedError", "AuthenticationMethodNotSupported", "ClusterAuthorizationFailedError",
    "GroupAuthorizationFailedError", "IllegalSaslStateError", "IncompatibleBrokerVersion",
    "InconsistentGroupProtocolError", "InvalidGroupIdError", "InvalidSessionTimeoutError",
    "KafkaConfigurationError", "SaslAuthenticationFailed", "SecurityDisabled", "TopicAuthorizationFailedError",
    "TransactionalIdAuthorizationFailed", "UnrecognizedBrokerVersion", "UnsupportedCodecError",
    "UnsupportedSaslMechanismError", "UnsupportedVersionError",
}  # fmt: skip
UNCONFIRMED = {"KafkaTimeoutError", "RequestTimedOutError"}
# Whatever else there was in aiokafka 0.14. A class that is not in any list is new: decide what its caller must do.
RETRYABLE = {
    "BrokerNotAvailableError", "BrokerResponseError", "Cancelled", "CommitFailedError", "ConcurrentTransactions",
    "ConsumerStoppedError", "CoordinatorLoadInProgressError", "CoordinatorNotAvailableError",
    "CorrelationIdError", "DelegationTokenAuthDisabled", "DelegationTokenAuthorizationFailed",
    "DelegationTokenExpired", "DelegationTokenNotFound", "DelegationTokenOwnerMismatch",
    "DelegationTokenRequestNotAllowed", "DuplicateSequenceNumber", "FetchSessionIdNotFound",
    "GroupCoordinatorNotAvailableError", "GroupIdNotFound", "GroupLoadInProgressError", "IllegalGenerationError",
    "IllegalOperation", "IllegalStateError", "InvalidCommitOffsetSizeError", "InvalidConfigurationError",
    "InvalidFetchRequestError", "InvalidFetchSessionEpoch", "InvalidPartitionsError", "InvalidPrincipalType",
    "InvalidProducerEpoch", "InvalidProducerIdMapping", "InvalidReplicationAssignmentError",
    "InvalidReplicationFactorError", "InvalidRequestError", "InvalidRequiredAcksError",
    "InvalidTransactionTimeout", "InvalidTxnState", "KafkaConnectionError", "KafkaError", "KafkaProtocolError",
    "KafkaStorageError", "KafkaUnavailableError", "LeaderNotAvailableError", "ListenerNotFound", "LogDirNotFound",
    "MemberIdRequired", "MetadataEmptyBrokerList", "NoBrokersAvailable", "NoError", "NoOffsetForPartitionError",
    "NodeNotReadyError", "NonEmptyGroup", "NotControllerError", "NotCoordinatorError",
    "NotCoordinatorForGroupError", "NotEnoughReplicasAfterAppendError", "NotEnoughReplicasError",
    "NotLeaderForPartitionError", "OffsetMetadataTooLargeError", "OffsetOutOfRangeError", "OperationNotAttempted",
    "OutOfOrderSequenceNumber", "PolicyViolationError", "ProducerClosed", "ProducerFenced", "QuotaViolationError",
    "ReassignmentInProgress", "RebalanceInProgressError", "ReplicaNotAvailableError", "StaleControllerEpochError",
    "StaleLeaderEpochCodeError", "StaleMetadata", "TooManyInFlightRequests", "TopicAlreadyExistsError",
    "TransactionCoordinatorFenced", "UnknownError", "UnknownMemberIdError", "UnknownProducerId",
    "UnknownTopicOrPartitionError", "UnsupportedForMessageFormatError",
}  # fmt: skip


def foreign_errors() -> dict[str, type[Exception]]:
    found = {name: getattr(foreign, name) for name in dir(foreign)}
    return {name: each for name, each in found.items() if isinstance(each, type) and issubclass(each, Exception)}


def test_every_error_of_aiokafka_is_known() -> None:
    assert set(foreign_errors()) == REJECTED | MISCONFIGURED | UNCONFIRMED | RETRYABLE


@pytest.mark.parametrize("name", sorted(foreign_errors()))
def test_foreign_error_becomes_what_its_caller_must_do(name: str) -> None:
    wanted: type[LogError | MisconfiguredError] = RetryableError
    for names, meaning in (
        (REJECTED, RejectedError),
        (MISCONFIGURED, MisconfiguredError),
        (UNCONFIRMED, UnconfirmedError),
    ):
        if name in names:
            wanted = meaning
    error = classify(foreign_errors()[name].__new__(foreign_errors()[name]))
    assert type(error) is wanted
    assert (
        str(error) == foreign_errors()[name].__name__
    )  # never the foreign text, which may hold what was being handled


def test_own_error_stays_as_it_is() -> None:
    own = BackpressureError("slow down", retry_after_s=2.0)
    assert classify(own) is own


@pytest.mark.parametrize(
    ("error", "meaning"), [(TimeoutError(), UnconfirmedError), (ConnectionResetError(), RetryableError)]
)
def test_systems_error_is_retryable(error: Exception, meaning: type[LogError]) -> None:
    assert type(classify(error)) is meaning
