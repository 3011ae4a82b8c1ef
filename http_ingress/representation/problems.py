"""What can go wrong, and what a client is told of it: the one table from error to HTTP status (RFC 9457).

Handlers raise `ProblemError` with a code; what the engine decided (a rejection, the state of an operation) is looked up
here by `representation.answers`. The `type` of a problem is a URN that never changes; `code` is its last word. `detail`
is for a person and never holds a value out of the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.vocabulary import OperationKind, OperationState, Rejection

CONTENT_TYPE: Final = "application/problem+json"
_TYPE_PREFIX = "urn:payment-engine:problem:"


class ProblemCode(StrEnum):
    """Every problem that this API answers with."""

    # The request itself.
    BAD_REQUEST = "bad_request"  # not HTTP as the server takes it
    BAD_JSON = "bad_json"
    INVALID_BODY = "invalid_body"
    INVALID_PARAMETER = "invalid_parameter"
    MISSING_IDEMPOTENCY_KEY = "missing_idempotency_key"
    ORIGIN_MISSING = "origin_missing"
    ORIGIN_MISMATCH = "origin_mismatch"  # the header and the body name two origins
    CARD_NUMBER = "card_number"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RATE_LIMITED = "rate_limited"
    # What the engine decided.
    DECLINED = "declined"
    REVERSED = "reversed"
    GATEWAY_UNAVAILABLE = "gateway_unavailable"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    PAYMENT_NOT_FOUND = "payment_not_found"
    REFUND_NOT_FOUND = "refund_not_found"
    PAYMENT_ALREADY_EXISTS = "payment_already_exists"
    PAYMENT_IN_DOUBT = "payment_in_doubt"
    INVALID_STATE = "invalid_state"
    AMOUNT_EXCEEDS_AUTHORIZED = "amount_exceeds_authorized"
    AMOUNT_EXCEEDS_CAPTURED = "amount_exceeds_captured"
    CURRENCY_MISMATCH = "currency_mismatch"
    TOO_MANY_OPERATIONS = "too_many_operations"
    LIMIT_EXCEEDED = "limit_exceeded"
    NO_GATEWAY = "no_gateway"
    OPERATION_UNSUPPORTED = "operation_unsupported"
    PARTIAL_CAPTURE_UNSUPPORTED = "partial_capture_unsupported"
    MULTIPLE_CAPTURE_UNSUPPORTED = "multiple_capture_unsupported"
    PARTIAL_REFUND_UNSUPPORTED = "partial_refund_unsupported"
    MULTIPLE_REFUND_UNSUPPORTED = "multiple_refund_unsupported"
    REFUND_EXCEEDS_ONE_CAPTURE = "refund_exceeds_one_capture"
    # The desk.
    OPERATION_NOT_FOUND = "operation_not_found"
    DECISION_REFUSED = "decision_refused"
    PROPOSAL_NOT_FOUND = "proposal_not_found"
    SAME_PERSON = "same_person"
    TOO_MANY_PROPOSALS = "too_many_proposals"
    # This instance.
    LOG_UNAVAILABLE = "log_unavailable"
    NO_ANSWER = "no_answer"  # a query whose reply did not come
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    NOT_READY = "not_ready"
    UNVERIFIABLE = "unverifiable"  # a notice of a gateway: whose it is cannot be found out now
    EXPECTATION_FAILED = "expectation_failed"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemKind:
    """The status and the short, fixed words of a problem."""

    status: int
    title: str


def _kind(status: int, title: str) -> ProblemKind:
    return ProblemKind(status=status, title=title)


PROBLEMS: Final[Mapping[ProblemCode, ProblemKind]] = {
    ProblemCode.BAD_REQUEST: _kind(400, "The request is malformed"),
    ProblemCode.BAD_JSON: _kind(400, "The body is not valid JSON"),
    ProblemCode.INVALID_BODY: _kind(400, "The body does not fit the schema"),
    ProblemCode.INVALID_PARAMETER: _kind(400, "A parameter or header is invalid"),
    ProblemCode.MISSING_IDEMPOTENCY_KEY: _kind(400, "The Idempotency-Key header is missing"),
    ProblemCode.ORIGIN_MISSING: _kind(400, "The origin is missing"),
    ProblemCode.ORIGIN_MISMATCH: _kind(400, "The header and the body name different origins"),
    ProblemCode.UNAUTHENTICATED: _kind(401, "The caller is not authenticated"),
    ProblemCode.DECLINED: _kind(402, "The payment was declined"),
    ProblemCode.REVERSED: _kind(402, "The operation succeeded and was then reversed"),
    ProblemCode.FORBIDDEN: _kind(403, "The API key belongs to another origin"),
    ProblemCode.NOT_FOUND: _kind(404, "There is nothing at this path"),
    ProblemCode.PAYMENT_NOT_FOUND: _kind(404, "There is no such payment"),
    ProblemCode.REFUND_NOT_FOUND: _kind(404, "There is no such refund"),
    ProblemCode.OPERATION_NOT_FOUND: _kind(404, "The payment has no such operation"),
    ProblemCode.PROPOSAL_NOT_FOUND: _kind(404, "No such decision waits for another operator"),
    ProblemCode.SAME_PERSON: _kind(403, "Who proposes a decision cannot approve it"),
    ProblemCode.DECISION_REFUSED: _kind(409, "The order does not take this decision"),
    ProblemCode.TOO_MANY_PROPOSALS: _kind(409, "Too many decisions wait for another operator"),
    ProblemCode.METHOD_NOT_ALLOWED: _kind(405, "This path does not take this method"),
    ProblemCode.NOT_ACCEPTABLE: _kind(406, "No media type that the client accepts can be given"),
    ProblemCode.REQUEST_TIMEOUT: _kind(408, "The body did not arrive in time"),
    ProblemCode.IDEMPOTENCY_KEY_REUSED: _kind(409, "The idempotency key was used for another request"),
    ProblemCode.PAYMENT_ALREADY_EXISTS: _kind(409, "The order already has a payment"),
    ProblemCode.PAYMENT_IN_DOUBT: _kind(409, "The outcome of an earlier operation is not known yet"),
    ProblemCode.INVALID_STATE: _kind(409, "The payment's state does not allow this"),
    ProblemCode.TOO_LARGE: _kind(413, "The body is too large"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: _kind(415, "The body's media type is not taken"),
    ProblemCode.EXPECTATION_FAILED: _kind(417, "The expectation is not known"),
    ProblemCode.CARD_NUMBER: _kind(422, "Card data is not taken, only tokens"),
    ProblemCode.AMOUNT_EXCEEDS_AUTHORIZED: _kind(422, "The amount exceeds what is left of the authorization"),
    ProblemCode.AMOUNT_EXCEEDS_CAPTURED: _kind(422, "The amount exceeds what is left of the capture"),
    ProblemCode.CURRENCY_MISMATCH: _kind(422, "The currency is not the payment's"),
    ProblemCode.TOO_MANY_OPERATIONS: _kind(422, "The order has had too many operations"),
    ProblemCode.LIMIT_EXCEEDED: _kind(422, "The amount exceeds the origin's limit"),
    ProblemCode.NO_GATEWAY: _kind(422, "The origin's policy names no gateway for this"),
    ProblemCode.OPERATION_UNSUPPORTED: _kind(422, "The payment's gateway has no such operation"),
    ProblemCode.PARTIAL_CAPTURE_UNSUPPORTED: _kind(422, "The payment's gateway captures all that is held, or nothing"),
    ProblemCode.MULTIPLE_CAPTURE_UNSUPPORTED: _kind(
        422, "The payment's gateway takes one capture, and it must be final"
    ),
    ProblemCode.PARTIAL_REFUND_UNSUPPORTED: _kind(
        422, "The payment's gateway gives back all that was captured, or nothing"
    ),
    ProblemCode.REFUND_EXCEEDS_ONE_CAPTURE: _kind(422, "The payment's gateway gives back one capture at a time"),
    ProblemCode.MULTIPLE_REFUND_UNSUPPORTED: _kind(422, "The payment's gateway takes one refund of a payment"),
    ProblemCode.RATE_LIMITED: _kind(429, "Too many requests of this origin"),
    ProblemCode.INTERNAL: _kind(500, "The ingress has a defect"),
    ProblemCode.GATEWAY_UNAVAILABLE: _kind(502, "No gateway executed the operation"),
    ProblemCode.LOG_UNAVAILABLE: _kind(503, "The log cannot be written"),
    ProblemCode.NO_ANSWER: _kind(503, "The engine did not answer in time"),
    ProblemCode.OVERLOADED: _kind(503, "Too many requests are waiting"),
    ProblemCode.SHUTTING_DOWN: _kind(503, "This instance is stopping"),
    ProblemCode.NOT_READY: _kind(503, "This instance takes no requests now"),
    ProblemCode.UNVERIFIABLE: _kind(503, "The notice cannot be verified now"),
}

# Why an order refused an operation -> the problem. The words are the same on purpose; the statuses stand above.
REJECTION_PROBLEMS: Final[Mapping[Rejection, ProblemCode]] = {
    rejection: ProblemCode(rejection.value) for rejection in Rejection
}

# The state in which an operation answers -> the problem, or none: then SUCCESS_STATUS or 202.
STATE_PROBLEMS: Final[Mapping[OperationState, ProblemCode]] = {
    OperationState.DECLINED: ProblemCode.DECLINED,
    OperationState.REVERSED: ProblemCode.REVERSED,
    OperationState.NOT_EXECUTED: ProblemCode.GATEWAY_UNAVAILABLE,
    OperationState.CONFLICT: ProblemCode.IDEMPOTENCY_KEY_REUSED,
    OperationState.REJECTED: ProblemCode.INVALID_STATE,  # only if the order gave no reason
}

# A payment and a refund are made (201, with a Location); a capture and a void change what is there (200).
SUCCESS_STATUS: Final[Mapping[OperationKind, int]] = {
    OperationKind.AUTHORIZE: 201,
    OperationKind.SALE: 201,
    OperationKind.CAPTURE: 200,
    OperationKind.VOID: 200,
    OperationKind.REFUND: 201,
    OperationKind.COMPLETE: 200,
}


def type_of(code: ProblemCode) -> str:
    """Return the URN that stands for this problem."""
    return _TYPE_PREFIX + code


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFault:
    """What is wrong with one field: a JSON pointer (`#/amount`) or a header's or parameter's name."""

    pointer: str
    detail: str


class ProblemError(Exception):
    """A request ends with this problem."""

    def __init__(
        self,
        code: ProblemCode,
        detail: str | None = None,
        *,
        faults: tuple[FieldFault, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.faults = faults
        self.headers: Mapping[str, str] = headers or {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.code].status


def retry_later(code: ProblemCode, *, after_s: int, detail: str | None = None) -> ProblemError:
    """Return the problem with a `Retry-After` of whole seconds, at least 1."""
    return ProblemError(code, detail, headers={"Retry-After": str(max(1, after_s))})
