"""What goes wrong at a gateway: the error tree, and the signals of DESIGN.md, 'Gateway port', as tables of values.

Used by every adapter, by the executor and by the webhook route. Two ways of saying that something went wrong, on
purpose:

* What a *gateway call* came to is never an exception: it is an outcome with an `OperationError`, made by `error_for`
  (a signal) or `decline_for` (a refusal). A call that raised would leave the executor without a result to write.
* What the *caller must do something else about* is an exception, and the tree is split by what that is:

```
GatewayError
├── CallFailedError           the exchange broke; an adapter turns it into an outcome, nobody else sees it
│   ├── NotSentError            no byte of the request can have reached the gateway
│   └── InDoubtError            it may or may not have had its effect
├── UnauthenticError          a webhook that is not the gateway's: refuse it and store nothing
├── UnverifiableError         a webhook that cannot be verified now: store nothing, ask for it again
├── UntranslatableError       a webhook that is authentic and cannot be read: dead letter
└── InvariantViolatedError    a request that this engine must never have made: stop the worker
```

Settings or a policy that cannot work are a `schemas.misconfigured.MisconfiguredError`: refuse to start, or the policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from schemas.records.gateway import OperationError
from schemas.vocabulary import DeclineClass, Outcome, RetryAdvice


class GatewayError(Exception):
    """Root of everything this package raises."""


class CallFailedError(GatewayError):
    """An exchange with a gateway broke before a whole answer was read.

    Attributes:
        signal: which row of the table applies.
        detail: the foreign exception's class, for a person; never its text, which may hold what was sent.
    """

    def __init__(self, signal: "Signal", detail: str) -> None:
        super().__init__(f"{signal.value}: {detail}")
        self.signal = signal
        self.detail = detail


class NotSentError(CallFailedError):
    """The request cannot have reached the gateway: name resolution, refused, connect time-out."""


class InDoubtError(CallFailedError):
    """The request may have been carried out: read time-out, reset after the connection stood, unreadable answer."""


class UnauthenticError(GatewayError):
    """A webhook whose signature or age does not hold. Refuse it and store nothing."""


class UnverifiableError(GatewayError):
    """A webhook of which nobody can say now whose it is. Store nothing, and let the gateway send it again."""


class UntranslatableError(GatewayError):
    """An authentic webhook that this version cannot read. It belongs into the dead letters."""


class InvariantViolatedError(GatewayError):
    """A request that breaks the port's own rules: a defect of this engine, so the worker stops."""


class Code(StrEnum):
    """The unified codes: one word for a thing that every gateway calls differently."""

    GATEWAY_UNREACHABLE = "gateway_unreachable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    CONNECTION_LOST = "connection_lost"
    GATEWAY_FAILED = "gateway_failed"
    UNREADABLE_ANSWER = "unreadable_answer"
    RATE_LIMITED = "rate_limited"
    CALL_IN_PROGRESS = "call_in_progress"
    GATEWAY_KEY_MISMATCH = "gateway_key_mismatch"
    INVALID_REQUEST = "invalid_request"
    GATEWAY_REFUSED_CREDENTIALS = "gateway_refused_credentials"
    NOT_FOUND_AT_GATEWAY = "not_found_at_gateway"
    UNKNOWN_STATUS = "unknown_status"
    UNSUPPORTED = "unsupported"
    COMMAND_GONE = "command_gone"
    CARD_DECLINED = "card_declined"
    DO_NOT_HONOR = "do_not_honor"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    LIMIT_EXCEEDED = "limit_exceeded"
    EXPIRED_CARD = "expired_card"
    INCORRECT_CVC = "incorrect_cvc"
    INVALID_ACCOUNT = "invalid_account"
    LOST_OR_STOLEN = "lost_or_stolen"
    FRAUDULENT = "fraudulent"
    AUTHENTICATION_REQUIRED = "authentication_required"
    PROCESSING_ERROR = "processing_error"
    ISSUER_UNAVAILABLE = "issuer_unavailable"
    NOT_SUPPORTED = "not_supported"
    REVOKED = "revoked"
    PIN_REQUIRED = "pin_required"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    FAILED_LATE = "failed_late"
    AUTHORIZATION_EXPIRED = "authorization_expired"
    PARTIALLY_APPROVED = "partially_approved"
    ACTION_EXPIRED = "action_expired"
    CANCELLED = "cancelled"
    NOTHING_LEFT = "nothing_left"
    NOT_PERMITTED = "not_permitted"
    NOT_YET = "not_yet"
    ACCOUNT_UNKNOWN = "account_unknown"
    GATEWAY_CIRCUIT_OPEN = "gateway_circuit_open"
    GATEWAY_BUSY = "gateway_busy"


class Signal(StrEnum):
    """What an adapter can see of a call that brought no verdict; each has one row in `SIGNALS`."""

    NOT_SENT = "not_sent"  # name resolution, refused, connect time-out
    READ_TIMEOUT = "read_timeout"
    CONNECTION_LOST = "connection_lost"  # reset, or closed, once the connection stood
    SERVER_ERROR = "server_error"  # 5xx
    KEPT_ERROR = "kept_error"  # a 5xx that the gateway keeps under the key: it gives it again, whatever happened
    UNREADABLE = "unreadable"  # HTML from a proxy, cut, too large, not what the gateway's pages describe
    RATE_LIMITED = "rate_limited"  # 429
    IN_PROGRESS = "in_progress"  # 409: the same key is being worked on
    KEY_MISMATCH = "key_mismatch"  # the key stands for another request
    BAD_REQUEST = "bad_request"  # 400, 404, 422
    UNAUTHORIZED = "unauthorized"  # 401, 403
    UNKNOWN_STATUS = "unknown_status"  # well formed, in a word we do not know
    INQUIRY_FOUND_NOTHING = "inquiry_found_nothing"  # and the gateway says that this is proof
    INQUIRY_PROVED_NOTHING = "inquiry_proved_nothing"  # not found, and not to be relied on
    INCOMPLETE = "incomplete"  # the request lacks what the gateway would know its payment by; nothing was sent
    UNSUPPORTED = "unsupported"  # the gateway has no such operation; nothing was sent
    NO_SUCH_GATEWAY = "no_such_gateway"  # the executor has none of that name, or no such account at it
    CIRCUIT_OPEN = "circuit_open"  # the gateway has failed too often of late; nothing was sent
    NO_SLOT = "no_slot"  # all calls that it may have, at once or a second, were made for too long; nothing was sent
    COMMAND_GONE = "command_gone"  # the log no longer holds the command with what the call needs; nothing was sent


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """What a signal means: one row of `SIGNALS` (DESIGN.md, 'Gateway port')."""

    outcome: Outcome
    code: Code
    retry: RetryAdvice
    message: str
    alarm: bool = False  # our own fault or a broken promise: someone must look


SIGNALS: Mapping[Signal, SignalRow] = MappingProxyType(
    {
        Signal.NOT_SENT: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.GATEWAY_UNREACHABLE,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="The gateway could not be reached; nothing was sent.",
        ),
        Signal.READ_TIMEOUT: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.GATEWAY_TIMEOUT,
            retry=RetryAdvice.SAME_KEY_NOW,
            message="The gateway did not answer in time; the call may have been carried out.",
        ),
        Signal.CONNECTION_LOST: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.CONNECTION_LOST,
            retry=RetryAdvice.SAME_KEY_NOW,
            message="The connection broke before the answer; the call may have been carried out.",
        ),
        Signal.SERVER_ERROR: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.GATEWAY_FAILED,
            retry=RetryAdvice.SAME_KEY_NOW,
            message="The gateway, or a proxy before it, failed; the call may have been carried out.",
        ),
        # Stripe keeps "the resulting status code and body of the first request made for any given idempotency key,
        # regardless of whether it succeeds or fails", 500 included (https://docs.stripe.com/api/idempotent_requests).
        Signal.KEPT_ERROR: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.GATEWAY_FAILED,
            retry=RetryAdvice.NEVER,
            message="The gateway gives its earlier failure again; only an inquiry can tell whether it did anything.",
        ),
        Signal.UNREADABLE: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.UNREADABLE_ANSWER,
            retry=RetryAdvice.SAME_KEY_NOW,
            message="The gateway's answer cannot be read; the call may have been carried out.",
        ),
        Signal.RATE_LIMITED: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.RATE_LIMITED,
            retry=RetryAdvice.NEW_KEY_LATER,
            message="The gateway asks for fewer calls; nothing was done.",
        ),
        Signal.IN_PROGRESS: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.CALL_IN_PROGRESS,
            retry=RetryAdvice.SAME_KEY_NOW,
            message="The gateway is still working on this very call.",
        ),
        # Not NOT_EXECUTED: this request was refused, but the key stands for one that may have been carried out.
        Signal.KEY_MISMATCH: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.GATEWAY_KEY_MISMATCH,
            retry=RetryAdvice.NEVER,
            message="The gateway knows this idempotency key with another request.",
            alarm=True,
        ),
        Signal.BAD_REQUEST: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.INVALID_REQUEST,
            retry=RetryAdvice.NEVER,
            message="The gateway refused the request as invalid; nothing was done.",
            alarm=True,
        ),
        Signal.UNAUTHORIZED: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.GATEWAY_REFUSED_CREDENTIALS,
            retry=RetryAdvice.OTHER_GATEWAY,  # ours, not the payer's: what another gateway knows us by may be good
            message="The gateway refused our credentials; nothing was done.",
            alarm=True,
        ),
        Signal.UNKNOWN_STATUS: SignalRow(
            outcome=Outcome.PENDING,
            code=Code.UNKNOWN_STATUS,
            retry=RetryAdvice.NEVER,
            message="The gateway answered with a status this version does not know.",
            alarm=True,
        ),
        Signal.INQUIRY_FOUND_NOTHING: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.NOT_FOUND_AT_GATEWAY,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="The gateway knows nothing of this call, and says so with certainty.",
        ),
        Signal.INQUIRY_PROVED_NOTHING: SignalRow(
            outcome=Outcome.UNKNOWN,
            code=Code.NOT_FOUND_AT_GATEWAY,
            retry=RetryAdvice.SAME_KEY_NOW,
            message="The gateway does not find this call, which proves nothing yet.",
        ),
        Signal.INCOMPLETE: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.INVALID_REQUEST,
            retry=RetryAdvice.NEVER,
            message="The request lacks what the gateway needs; nothing was sent.",
            alarm=True,
        ),
        Signal.UNSUPPORTED: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.UNSUPPORTED,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="This gateway has no such operation; nothing was sent.",
        ),
        Signal.NO_SUCH_GATEWAY: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.ACCOUNT_UNKNOWN,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="No such gateway, or no such account at it, is set up here; nothing was sent.",
            alarm=True,
        ),
        Signal.CIRCUIT_OPEN: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.GATEWAY_CIRCUIT_OPEN,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="The gateway has failed of late, and is not asked for a while; nothing was sent.",
        ),
        Signal.NO_SLOT: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.GATEWAY_BUSY,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="The gateway has as many calls as it may have for now; nothing was sent.",
        ),
        Signal.COMMAND_GONE: SignalRow(
            outcome=Outcome.NOT_EXECUTED,
            code=Code.COMMAND_GONE,
            retry=RetryAdvice.AFTER_FIX,
            message="The log no longer holds the command with this call's token and details; nothing was sent.",
            alarm=True,
        ),
    }
)


ALARMS: Final = frozenset(row.code for row in SIGNALS.values() if row.alarm)
"""The codes that someone must look at: our own fault, or a promise that a gateway has broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclineRow:
    """What a merchant can do about a decline."""

    decline_class: DeclineClass
    retry: RetryAdvice
    message: str


DECLINES: Mapping[Code, DeclineRow] = MappingProxyType(
    {
        Code.CARD_DECLINED: DeclineRow(
            decline_class=DeclineClass.HARD, retry=RetryAdvice.NEVER, message="The card was declined."
        ),
        Code.DO_NOT_HONOR: DeclineRow(
            decline_class=DeclineClass.SOFT, retry=RetryAdvice.NEW_KEY_LATER, message="The issuer declined."
        ),
        Code.INSUFFICIENT_FUNDS: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.NEW_KEY_LATER,
            message="The account does not hold enough.",
        ),
        Code.LIMIT_EXCEEDED: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.NEW_KEY_LATER,
            message="The card's limit is exceeded.",
        ),
        Code.EXPIRED_CARD: DeclineRow(
            decline_class=DeclineClass.DATA, retry=RetryAdvice.AFTER_FIX, message="The card has expired."
        ),
        Code.INCORRECT_CVC: DeclineRow(
            decline_class=DeclineClass.DATA,
            retry=RetryAdvice.AFTER_FIX,
            message="The card's security code is incorrect.",
        ),
        Code.INVALID_ACCOUNT: DeclineRow(
            decline_class=DeclineClass.HARD, retry=RetryAdvice.NEVER, message="There is no such account."
        ),
        Code.LOST_OR_STOLEN: DeclineRow(
            decline_class=DeclineClass.FRAUD, retry=RetryAdvice.NEVER, message="The card was declined."
        ),
        Code.FRAUDULENT: DeclineRow(
            decline_class=DeclineClass.FRAUD, retry=RetryAdvice.NEVER, message="The card was declined."
        ),
        Code.AUTHENTICATION_REQUIRED: DeclineRow(
            decline_class=DeclineClass.AUTH_REQUIRED,
            retry=RetryAdvice.AFTER_SCA,
            message="The issuer wants the payer to authenticate.",
        ),
        Code.PROCESSING_ERROR: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.NEW_KEY_LATER,
            message="The network could not process the card.",
        ),
        Code.ISSUER_UNAVAILABLE: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.NEW_KEY_LATER,
            message="The issuer could not be reached.",
        ),
        Code.NOT_SUPPORTED: DeclineRow(
            decline_class=DeclineClass.HARD,
            retry=RetryAdvice.OTHER_GATEWAY,
            message="The card does not allow this kind of payment.",
        ),
        Code.REVOKED: DeclineRow(
            decline_class=DeclineClass.HARD,
            retry=RetryAdvice.NEVER,
            message="The payer has taken back the consent to such payments.",
        ),
        Code.PIN_REQUIRED: DeclineRow(
            decline_class=DeclineClass.AUTH_REQUIRED,
            retry=RetryAdvice.AFTER_SCA,
            message="The issuer wants the card's PIN, which nobody can give here.",
        ),
        Code.DUPLICATE: DeclineRow(
            decline_class=DeclineClass.HARD,
            retry=RetryAdvice.NEVER,
            message="The issuer takes it for a payment that was made already.",
        ),
        # Kept as it came, and never taken for a decline that means something.
        Code.UNKNOWN: DeclineRow(
            decline_class=DeclineClass.UNKNOWN,
            retry=RetryAdvice.NEVER,
            message="The gateway declined for a reason that is not known of it.",
        ),
        Code.FAILED_LATE: DeclineRow(
            decline_class=DeclineClass.HARD,
            retry=RetryAdvice.NEVER,
            message="The scheme took the operation back.",
        ),
        Code.AUTHORIZATION_EXPIRED: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.NEW_KEY_LATER,
            message="The hold ran out.",
        ),
        Code.PARTIALLY_APPROVED: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.AFTER_FIX,
            message="The issuer approved a part of the amount only, which was not asked for.",
        ),
        Code.ACTION_EXPIRED: DeclineRow(
            decline_class=DeclineClass.AUTH_REQUIRED,
            retry=RetryAdvice.AFTER_SCA,
            message="The payer did not act in time.",
        ),
        Code.CANCELLED: DeclineRow(
            decline_class=DeclineClass.HARD, retry=RetryAdvice.NEVER, message="The operation was cancelled."
        ),
        # The next three are about a capture, a void or a refund: what stands at the gateway does not allow it.
        Code.NOTHING_LEFT: DeclineRow(
            decline_class=DeclineClass.HARD,
            retry=RetryAdvice.NEVER,
            message="Not so much is left of the payment at the gateway.",
        ),
        Code.NOT_PERMITTED: DeclineRow(
            decline_class=DeclineClass.HARD,
            retry=RetryAdvice.NEVER,
            message="The gateway does not allow it of this payment, or not any more.",
        ),
        Code.NOT_YET: DeclineRow(
            decline_class=DeclineClass.SOFT,
            retry=RetryAdvice.AFTER_FIX,  # when the dispute is over: no attempt of the engine's comes to that
            message="The gateway does not allow it while the payment is pending or disputed.",
        ),
    }
)


def error_for(
    signal: Signal, *, gateway_code: str | None = None, detail: str | None = None, retry_after_ms: int | None = None
) -> OperationError:
    """Return the error of a signal, in the table's words.

    Args:
        signal: what was seen.
        gateway_code: the gateway's own code or the HTTP status, as it came.
        detail: more for a person; it must not hold what was sent.
        retry_after_ms: how long the gateway asks to wait, milliseconds.
    """
    row = SIGNALS[signal]
    return OperationError(
        code=row.code,
        decline_class=None,
        gateway_code=gateway_code,
        message=row.message if detail is None else f"{row.message} ({detail})",
        advice=None,
        retry=row.retry,
        retry_after_ms=retry_after_ms,
    )


def decline_for(code: Code, *, gateway_code: str | None, advice: str | None = None) -> OperationError:
    """Return the error of a decline, in the words of `DECLINES`.

    Args:
        code: what the decline is called here.
        gateway_code: the gateway's own code, as it came; kept for a person.
        advice: what the issuer or the network advises, as it came.

    Raises:
        KeyError: the code is not one of a decline.
    """
    row = DECLINES[code]
    return OperationError(
        code=code,
        decline_class=row.decline_class,
        gateway_code=gateway_code,
        message=row.message,
        advice=advice,
        retry=row.retry,
        retry_after_ms=None,
    )
