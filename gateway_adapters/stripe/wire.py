"""Stripe's objects as far as they matter here: payment intent, charge, refund, dispute, event. Pure.

Hand-written readers of JSON. A member that is absent and needed, or of another type, is a `WireError`: what cannot be
read says nothing. Shapes are those of API version 2026-08-26.dahlia (https://docs.stripe.com/api). Amounts stay as
Stripe counts them; times are seconds since the epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

import orjson

MAX_TEXT_CHARS: Final = 4096
"""Longest text that is read: a page that the payer is sent to may have 2,048 and more."""

MAX_ID_CHARS: Final = 255
"""Of Stripe's ids, as it says itself."""

MAX_METADATA: Final = 50
"""Entries of one object's metadata, as Stripe has it."""

MAX_MOVEMENTS: Final = 100
"""Balance transactions of one dispute that are read; Stripe tells two at most."""

EXPIRED_HOLD: Final = "expired_uncaptured_charge"
"""The reason that Stripe itself gives to the refund by which it lets a hold go that ran out."""

_PAGE_MEMBERS: Final = ("url", "hosted_voucher_url", "hosted_instructions_url")
"""Where the kinds of `next_action` name the payer's page."""

Json = Mapping[str, object]


class WireError(ValueError):
    """A payload that is not what this page describes; the message names the member, never its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a payment attempt failed: `last_payment_error`, or the error of an answer."""

    code: str | None
    decline_code: str | None
    advice: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a payment intent's attempt came to, where an answer tells it in full."""

    id: str
    status: str  # also of one that is only held: succeeded
    created_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentIntent:
    """One payment."""

    id: str
    status: str
    amount: int
    capturable: int
    received: int
    currency: str  # ISO 4217, upper case
    created_s: int
    canceled_s: int | None
    cancellation_reason: str | None
    manual: bool  # captured by a call of its own
    action_url: str | None
    failure: Failure | None
    charge: Charge | None  # None where it is not told in full
    charge_id: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """One refund."""

    id: str
    status: str
    amount: int
    currency: str  # ISO 4217, upper case
    created_s: int
    payment: str | None  # None: of a charge without a payment intent, which this adapter never makes
    failure_reason: str | None
    released: bool  # of money that was held and never taken
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A balance transaction: money that has left the account, or has come back to it."""

    amount: int  # below 0: it has left
    currency: str  # ISO 4217, upper case; of the account's balance, which may be another than the payment's


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A payer's bank that takes a payment back, or asks about it."""

    id: str
    status: str
    amount: int
    currency: str  # ISO 4217, upper case
    payment: str | None
    case_type: str | None  # of a card's: chargeback, inquiry, resolution, block, …
    movements: tuple[Movement, ...] | None  # None: not told


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a webhook says."""

    id: str
    type: str
    created_s: int
    account: str | None  # a connected account's id; None: of the account that is called
    object: Json
    previous: Json  # what its members were before, of those that changed


def object_of(raw: bytes) -> Json:
    """Return the JSON object in these bytes. Raises: WireError."""
    try:
        parsed: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise WireError("body is not JSON") from error
    return _object(parsed, "body")


def payment_intent(body: Json) -> PaymentIntent:
    """Return the payment intent. Raises: WireError."""
    _is_a(body, "payment_intent")
    told, amount, status = body.get("latest_charge"), _amount(body, "amount"), _text(body, "status")
    charge = _charge(_object(told, "latest_charge")) if isinstance(told, Mapping) else None
    failure = body.get("last_payment_error")
    return PaymentIntent(
        id=_text(body, "id"),
        status=status,
        amount=amount,
        # Old versions of the API do not tell these two.
        capturable=_amount(body, "amount_capturable", default=amount if status == "requires_capture" else 0),
        received=_amount(body, "amount_received", default=amount if status == "succeeded" else 0),
        currency=_currency(body),
        created_s=_integer(body, "created"),
        canceled_s=None if body.get("canceled_at") is None else _integer(body, "canceled_at"),
        cancellation_reason=_optional(body, "cancellation_reason"),
        manual=_text(body, "capture_method") == "manual",
        action_url=_action_url(body.get("next_action")),
        failure=None if failure is None else failure_of(_object(failure, "last_payment_error")),
        charge=charge,
        charge_id=_optional(body, "latest_charge") if charge is None else charge.id,
        metadata=_metadata(body),
    )


def refund(body: Json) -> Refund:
    """Return the refund. Raises: WireError."""
    _is_a(body, "refund")
    return Refund(
        id=_text(body, "id"),
        status=_text(body, "status"),
        amount=_amount(body, "amount"),
        currency=_currency(body),
        created_s=_integer(body, "created"),
        payment=_reference(body, "payment_intent"),
        failure_reason=_optional(body, "failure_reason"),
        released=_optional(body, "reason") == EXPIRED_HOLD or _moved_nothing(body),
        metadata=_metadata(body),
    )


def dispute(body: Json) -> Dispute:
    """Return the dispute. Raises: WireError."""
    _is_a(body, "dispute")
    return Dispute(
        id=_text(body, "id"),
        status=_text(body, "status"),
        amount=_amount(body, "amount"),
        currency=_currency(body),
        payment=_reference(body, "payment_intent"),
        case_type=_case_type(body.get("payment_method_details")),
        movements=_movements(body.get("balance_transactions")),
    )


def event(body: Json) -> Event:
    """Return the event. Raises: WireError."""
    data = _object(body.get("data"), "data")
    previous = data.get("previous_attributes")
    return Event(
        id=_text(body, "id", max_chars=MAX_ID_CHARS),
        type=_text(body, "type"),
        created_s=_integer(body, "created"),
        account=_optional(body, "account"),
        object=_object(data.get("object"), "data.object"),
        previous={} if previous is None else _object(previous, "data.previous_attributes"),
    )


def event_type(body: Json) -> str:
    """Return an event's type, of which there are many that say nothing to us. Raises: WireError."""
    _text(body, "id", max_chars=MAX_ID_CHARS)
    return _text(body, "type")


def is_live(raw: bytes) -> bool | None:
    """Return whether an event is about real money; None: it does not say, or cannot be read."""
    try:
        told = object_of(raw).get("livemode")
    except WireError:
        return None
    return told if isinstance(told, bool) else None


def failure_of(error: Json) -> Failure:
    """Return why it failed, of an error's members. Raises: WireError."""
    return Failure(
        code=_optional(error, "code"),
        decline_code=_optional(error, "decline_code"),
        advice=_optional(error, "advice_code"),
    )


def error_of(body: Json) -> Json:
    """Return the error in an answer. Raises: WireError."""
    return _object(body.get("error"), "error")


def listed(body: Json) -> tuple[list[Json], bool]:
    """Return the objects of a list or search result, and whether there are more. Raises: WireError."""
    data = body.get("data")
    if not isinstance(data, list):
        raise WireError("data must be a list")
    return [_object(each, "data") for each in data], body.get("has_more") is True


def metadata_of(body: Json) -> Mapping[str, str]:
    """Return an object's metadata. Raises: WireError."""
    return _metadata(body)


def text(body: Json, member: str) -> str | None:
    """Return a member that may be absent. Raises: WireError: it is no text."""
    return _optional(body, member)


def _moved_nothing(refund: Json) -> bool:
    """Return whether the refund let go of money that was only held: done, and nothing of it is in the balance."""
    told = "balance_transaction" in refund and refund["balance_transaction"] is None
    return told and refund.get("status") == "succeeded"


def _is_a(body: Json, kind: str) -> None:
    if body.get("object") != kind:
        raise WireError(f"object must be {kind}")


def _charge(body: Json) -> Charge:
    return Charge(id=_text(body, "id"), status=_text(body, "status"), created_s=_integer(body, "created"))


def _case_type(details: object) -> str | None:
    card = details.get("card") if isinstance(details, Mapping) else None
    return _optional(card, "case_type") if isinstance(card, Mapping) else None


def _movements(told: object) -> tuple[Movement, ...] | None:
    if told is None:
        return None
    if not isinstance(told, list) or len(told) > MAX_MOVEMENTS:
        raise WireError(f"balance_transactions must be a list of at most {MAX_MOVEMENTS}")
    each = [_object(one, "balance_transactions") for one in told]
    return tuple(Movement(amount=_integer(one, "amount"), currency=_currency(one)) for one in each)


def _action_url(action: object) -> str | None:
    if action is None:
        return None
    kind = _text(_object(action, "next_action"), "type")
    details = _object(action, "next_action").get(kind)
    if not isinstance(details, Mapping):
        return None
    return next((url for name in _PAGE_MEMBERS if _is_page(url := details.get(name))), None)


def _is_page(url: object) -> TypeGuard[str]:
    return isinstance(url, str) and url.startswith("https://") and len(url) <= MAX_TEXT_CHARS


def _metadata(body: Json) -> Mapping[str, str]:
    given = body.get("metadata")
    told = {} if given is None else _object(given, "metadata")
    if len(told) > MAX_METADATA or not all(isinstance(value, str) for value in told.values()):
        raise WireError(f"metadata must hold at most {MAX_METADATA} texts")
    return {name: str(value) for name, value in told.items()}


def _reference(body: Json, member: str) -> str | None:
    """Return the id of an object that is named or told in full."""
    told = body.get(member)
    return _text(_object(told, member), "id") if isinstance(told, Mapping) else _optional(body, member)


def _currency(body: Json) -> str:
    return _text(body, "currency").upper()


def _text(body: Json, member: str, *, max_chars: int = MAX_TEXT_CHARS) -> str:
    value = body.get(member)
    if not isinstance(value, str) or not 1 <= len(value) <= max_chars:
        raise WireError(f"{member} must be a text of 1 to {max_chars} characters")
    return value


def _optional(body: Json, member: str) -> str | None:
    return None if body.get(member) is None else _text(body, member)


def _integer(body: Json, member: str) -> int:
    value = body.get(member)
    if type(value) is not int:  # a bool is an int to isinstance, and 1999.0 is no amount
        raise WireError(f"{member} must be an integer")
    return value


def _amount(body: Json, member: str, *, default: int | None = None) -> int:
    if default is not None and body.get(member) is None:
        return default
    value = _integer(body, member)
    if value < 0:
        raise WireError(f"{member} must not be below 0")
    return value


def _object(value: object, member: str) -> Json:
    if not isinstance(value, dict):
        raise WireError(f"{member} must be an object")
    return value
