"""The words that every record shares: kinds, states, outcomes, advice and codes, each an enumeration with its meaning.

Used by the records of this package, by the domain and by every gateway adapter, so that one word never has two
spellings. The values are what stands on the wire (Avro enum symbols and JSON strings): they are never renamed.
"""

from enum import StrEnum


class OperationKind(StrEnum):
    """What a merchant asks for. A sale is an authorization that captures at once (`capture: true`)."""

    AUTHORIZE = "authorize"
    SALE = "sale"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    COMPLETE = "complete"  # the payer has acted: go on with the payment that waited for it


class CallKind(StrEnum):
    """What the executor asks of a gateway: an operation, or an inquiry about one."""

    AUTHORIZE = "authorize"
    SALE = "sale"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    COMPLETE = "complete"
    INQUIRE = "inquire"


class OperationState(StrEnum):
    """Where one operation of an order stands."""

    QUEUED = "queued"  # waits for the order's active operation
    CLAIMING = "claiming"  # its idempotency claim is on the way
    DISPATCHED = "dispatched"  # the intent is durable, a gateway call is owed or under way
    SUCCEEDED = "succeeded"
    DECLINED = "declined"  # the issuer or the scheme said no
    NOT_EXECUTED = "not_executed"  # no attempts left, and positive evidence that nothing happened
    PENDING = "pending"  # accepted by the gateway, the final word comes later
    REQUIRES_ACTION = "requires_action"  # the payer must act (3-D Secure, redirect)
    UNKNOWN = "unknown"  # the call may or may not have had its effect: in doubt
    MANUAL_REVIEW = "manual_review"  # still unknown at the end, or gateways contradict each other: a person decides
    REVERSED = "reversed"  # succeeded, then failed late at the scheme
    CONFLICT = "conflict"  # its idempotency key belongs to another operation
    REJECTED = "rejected"  # refused by the order's own rules, nothing was sent


class Initiator(StrEnum):
    """Who wanted an operation."""

    MERCHANT = "merchant"
    ENGINE = "engine"  # lets go of what a gateway approved in part, which nobody had agreed to
    GATEWAY = "gateway"  # made at the gateway's own desk, and told to us


class PaymentStatus(StrEnum):
    """What a merchant sees of a payment; it follows from the sums and the open operations."""

    CREATED = "created"
    AUTHORIZING = "authorizing"
    REQUIRES_ACTION = "requires_action"
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    VOIDED = "voided"
    EXPIRED = "expired"
    FAILED = "failed"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


class Overlay(StrEnum):
    """What may lie over a status without replacing it."""

    IN_DOUBT = "in_doubt"
    REVIEW = "review"
    DISPUTED = "disputed"


class Outcome(StrEnum):
    """What a gateway call came to."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    NOT_EXECUTED = "not_executed"  # positive evidence that the gateway did nothing
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    UNKNOWN = "unknown"
    REVERSED = "reversed"  # said by a webhook or an inquiry: some or all of a success was taken back
    EXPIRED = "expired"  # a hold ran out; what was captured of it stays
    DISPUTE_OPENED = "dispute_opened"  # the payer disputes some or all of it; no sum changes yet
    DISPUTE_WON = "dispute_won"  # and what the dispute took is given back
    DISPUTE_LOST = "dispute_lost"  # and the disputed amount is gone, if it was not taken before


class DeclineClass(StrEnum):
    """Why a decline happened, by what a merchant can do about it."""

    HARD = "hard"
    SOFT = "soft"
    DATA = "data"
    AUTH_REQUIRED = "auth_required"
    FRAUD = "fraud"
    UNKNOWN = "unknown"  # the gateway's code is not among those that are known of it


class RetryAdvice(StrEnum):
    """When, and with which idempotency key and gateway, the same wish may be tried again."""

    NEVER = "never"
    SAME_KEY_NOW = "same_key_now"
    NEW_KEY_LATER = "new_key_later"
    OTHER_GATEWAY = "other_gateway"
    AFTER_FIX = "after_fix"
    AFTER_SCA = "after_sca"


class TimerKind(StrEnum):
    """Why an order asked to be woken."""

    RETRY = "retry"  # the next attempt of a call that was not executed
    RECONCILE = "reconcile"  # the next inquiry about an operation in doubt or pending
    EXPIRE_ROW = "expire_row"  # a terminal order leaves the table
    EXPIRE_ACTION = "expire_action"  # the payer's time to act is over
    DRIVE_AGAIN = "drive_again"  # what is owed for too long is said again; asked by the sweep
    COPY_APART = "copy_apart"  # settled operations are written into rows of their own; asked by the order itself
    DROP_COPIED = "drop_copied"  # the order's row drops what stands in rows of its own; asked by the order itself
    FORGET_APART = "forget_apart"  # an order has ended: its operations' rows leave the table; asked by the order itself


class Rejection(StrEnum):
    """Why an order refused an operation; each has one HTTP status in `http_ingress`."""

    PAYMENT_NOT_FOUND = "payment_not_found"
    PAYMENT_ALREADY_EXISTS = "payment_already_exists"  # another payment request for an order that has one
    PAYMENT_IN_DOUBT = "payment_in_doubt"
    INVALID_STATE = "invalid_state"  # say, capturing a voided payment
    AMOUNT_EXCEEDS_AUTHORIZED = "amount_exceeds_authorized"
    AMOUNT_EXCEEDS_CAPTURED = "amount_exceeds_captured"
    CURRENCY_MISMATCH = "currency_mismatch"
    TOO_MANY_OPERATIONS = "too_many_operations"
    LIMIT_EXCEEDED = "limit_exceeded"  # the origin's policy, as pinned by the claim
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"  # another body or another order under the same key
    NO_GATEWAY = "no_gateway"  # the origin's policy names no gateway that can do it
    OPERATION_UNSUPPORTED = "operation_unsupported"  # the payment's gateway has no such operation
    PARTIAL_CAPTURE_UNSUPPORTED = "partial_capture_unsupported"  # there, a capture takes all that is held
    MULTIPLE_CAPTURE_UNSUPPORTED = "multiple_capture_unsupported"  # there, the first capture lets the rest go
    PARTIAL_REFUND_UNSUPPORTED = "partial_refund_unsupported"
    MULTIPLE_REFUND_UNSUPPORTED = "multiple_refund_unsupported"
    REFUND_EXCEEDS_ONE_CAPTURE = "refund_exceeds_one_capture"  # there, a refund draws from one capture


class Verdict(StrEnum):
    """What a person decides about an operation."""

    SUCCEEDED = "succeeded"  # the gateway did it, for this amount
    NOT_EXECUTED = "not_executed"  # the gateway did nothing
    TAKEN_BACK = "taken_back"  # it succeeded, and some or all of it was taken back since
    NOTE = "note"  # changes nothing: what was found out, for whoever looks next
    CLOSE_REVIEW = "close_review"  # somebody has looked, and the sums are right as they are


class DecisionRefusal(StrEnum):
    """Why an order does not take a decision."""

    PAYMENT_UNKNOWN = "payment_unknown"
    OPERATION_UNKNOWN = "operation_unknown"
    UNDER_WAY = "under_way"  # its gateway's answer is still to come
    NOT_OPEN = "not_open"  # it is settled: there is nothing to decide
    NOTHING_TO_TAKE_BACK = "nothing_to_take_back"  # it counts for nothing
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    NO_REVIEW = "no_review"
    ID_REUSED = "id_reused"  # another decision has this id
    TOO_MANY_DECISIONS = "too_many_decisions"


class WaitingFor(StrEnum):
    """What an operation waits for."""

    IN_DOUBT = "in_doubt"  # nobody knows whether the gateway did it; it is asked
    REVIEW = "review"  # a person
    PENDING = "pending"  # the gateway's last word


class DeadLetterReason(StrEnum):
    """Why a record could not be taken; the first word of every dead letter."""

    NOT_CLOUD_EVENT = "not_cloud_event"  # a required attribute is missing or malformed
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_CONTENT_TYPE = "unknown_content_type"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNDECODABLE = "undecodable"
    INVALID = "invalid"  # decoded, but a value breaks a rule
    CARD_NUMBER = "card_number"  # holds what looks like a card number; the bytes are withheld
    WRONG_KEY = "wrong_key"  # the record's key or partition does not belong to its order
    TOO_LARGE = "too_large"
    UNKNOWN_GATEWAY = "unknown_gateway"
    UNTRANSLATABLE_WEBHOOK = "untranslatable_webhook"
    REFERENCE_UNKNOWN = "reference_unknown"  # a gateway's notice names a reference that no order came to be known by
    HANDLER_FAILED = "handler_failed"  # a defect of ours: kept for a redrive after the fix
