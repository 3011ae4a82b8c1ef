"""What goes over the wire to and from Adyen's Checkout API v71: the shapes of the endpoints used, as pydantic models.

Called by `client`, `translate` and `webhooks`. What we send is strict: a field that is not here cannot be sent, and one
that is None is left out. What we read is loose: fields that nobody needs are passed over, and the words that Adyen may
add to (`resultCode`, `eventCode`) are plain texts. Names are Adyen's, in snake case.

Sources: CheckoutService-v71.json and Webhooks-v1.json of https://github.com/Adyen/adyen-openapi.
"""

from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

KEY_HEADER: Final = "Idempotency-Key"
MAX_KEY_CHARS: Final = 64
"""Longest idempotency key (https://docs.adyen.com/development-resources/api-idempotency)."""

API_KEY_HEADER: Final = "X-API-Key"
TRANSIENT_HEADER: Final = "transient-error"
"""`true` in an answer: the same call may be made again with its key, and comes to something else perhaps."""

MAX_REFERENCE_CHARS: Final = 80
"""Longest `reference`: the document says so in a sentence, not as a limit that a validator would see."""


MAX_METADATA_NAME_CHARS: Final = 20
MAX_METADATA_VALUE_CHARS: Final = 80
"""Of `metadata`, also in a sentence; a longer one is refused with the payment."""


class WireError(ValueError):
    """A payload that is not what this page describes; the message names the fields, never their values."""


class Sent(BaseModel):
    """A body, or part of one, that we send."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    def encoded(self) -> bytes:
        """Return the body as JSON, without what was not given: always the same bytes for the same call."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


class Amount(Sent):
    """Money as Adyen counts it, which is not in every currency as ISO does: see `amounts`."""

    currency: str
    value: int


class BrowserInfo(Sent):
    """What 3-D Secure asks about the payer's browser; Adyen wants all of it or nothing."""

    accept_header: str
    color_depth: int
    java_enabled: bool
    language: str
    screen_height: int
    screen_width: int
    time_zone_offset: int
    user_agent: str


class PaymentRequest(Sent):
    """POST /payments."""

    amount: Amount
    merchant_account: str
    reference: str
    return_url: str
    payment_method: dict[str, str]
    shopper_reference: str | None = None
    shopper_interaction: str
    recurring_processing_model: str | None = None
    additional_data: dict[str, str] | None = None
    capture_delay_hours: int | None = None
    shopper_email: str | None = None
    shopper_ip: Annotated[str | None, Field(alias="shopperIP")] = None
    country_code: str | None = None
    browser_info: BrowserInfo | None = None
    shopper_statement: str | None = None
    metadata: dict[str, str] | None = None


class DetailsRequest(Sent):
    """POST /payments/details."""

    details: dict[str, str]
    payment_data: str | None = None


class ModificationRequest(Sent):
    """POST /payments/{paymentPspReference}/captures, …/refunds, and …/cancels, which takes no amount."""

    amount: Amount | None = None
    merchant_account: str
    reference: str


class StandaloneCancelRequest(Sent):
    """POST /cancels: of a payment that Adyen has not named to us; by the reference that we gave it."""

    merchant_account: str
    payment_reference: str
    reference: str


class Read(BaseModel):
    """A body, or part of one, that Adyen sends. Types are exact: no text is taken for a number."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
    )


class Money(Read):
    """An amount as Adyen tells it."""

    currency: str
    value: int


class Action(Read):
    """What the payer has to do next."""

    type: str | None = None
    url: str | None = None


class PaymentAnswer(Read):
    """Of /payments and /payments/details."""

    result_code: str
    psp_reference: str | None = None  # absent of some answers that make the payer act
    merchant_reference: str | None = None
    amount: Money | None = None
    action: Action | None = None
    refusal_reason: str | None = None
    refusal_reason_code: str | None = None
    additional_data: dict[str, object] | None = None


class ModificationAnswer(Read):
    """Of captures, cancels and refunds: that the request was received, and no more."""

    psp_reference: str
    payment_psp_reference: str
    status: str
    reference: str | None = None
    amount: Money | None = None


class StandaloneCancelAnswer(Read):
    """Of /cancels: that the request was received, and no more."""

    psp_reference: str
    payment_reference: str
    status: str
    reference: str | None = None


class ErrorAnswer(Read):
    """ServiceError: what Adyen answers with a status of 400 and above."""

    error_code: str | None = None
    error_type: str | None = None


class NoticeItem(Read):
    """NotificationRequestItem of a standard webhook. The first seven members and `amount` are signed, no other is."""

    psp_reference: str
    original_reference: str | None = None
    merchant_account_code: str
    merchant_reference: str | None = None
    amount: Money
    event_code: str
    success: str
    event_date: str | None = None
    reason: str | None = None
    additional_data: dict[str, object] | None = None


class _Wrapped(Read):
    item: NoticeItem = Field(alias="NotificationRequestItem")


class Notification(Read):
    """A standard webhook: one item as a rule, and several by contract."""

    live: str | None = None
    notification_items: list[_Wrapped] = Field(min_length=1)

    @property
    def items(self) -> tuple[NoticeItem, ...]:
        """The items in Adyen's order."""
        return tuple(each.item for each in self.notification_items)


R = TypeVar("R", bound=Read)


def read(shape: type[R], body: object) -> R:
    """Return the parsed JSON as this shape. Raises: WireError: it is not of this shape."""
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        fields = sorted({".".join(str(part) for part in each["loc"]) for each in error.errors(include_input=False)})
        raise WireError(f"{shape.__name__}: {', '.join(fields[:5]) or 'not an object'}") from None
