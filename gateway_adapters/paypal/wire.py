"""What goes over the wire to and from PayPal: the dozen endpoints that are used, as models. Pure.

Named and limited as in PayPal's own documents (`@paypal/paypal-rest-api-specifications` 1.0.0: checkout_orders_v2,
payments_payment_v2). What we send is checked here and refuses what it does not know. Of what PayPal sends those members
are read that something follows from: others are nobody's business, and PayPal adds some at any time.
"""

from typing import Annotated, Final, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

REQUEST_ID_HEADER: Final = "PayPal-Request-Id"
MAX_REQUEST_ID_CHARS: Final = 108
TOKEN_PATH: Final = "/v1/oauth2/token"  # noqa: S105 - a path
ORDERS_PATH: Final = "/v2/checkout/orders"
MAX_ITEMS: Final = 100
"""Most objects of one list that are read: a payment has ten captures at most, and each a handful of refunds."""


VERIFICATION_PATH: Final = "/v1/notifications/verify-webhook-signature"
VERIFIED: Final = "SUCCESS"
ACTION_LINKS: Final = frozenset({"payer-action", "approve", "redirect"})
"""Relations of the links that lead a payer on."""


class WireError(ValueError):
    """It is not what PayPal's documents describe; the message names members, never values."""


# What we send


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def encoded(self) -> bytes:
        """Return it as JSON, without what was not given."""
        return self.model_dump_json(exclude_none=True).encode()


class SentMoney(_Sent):
    """An amount."""

    currency_code: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    value: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+([.][0-9]+)?$")]


class SentUnit(_Sent):
    """What is paid: one a payment."""

    amount: SentMoney
    custom_id: Annotated[str, Field(min_length=1, max_length=127)]
    invoice_id: Annotated[str, Field(min_length=1, max_length=127)]
    soft_descriptor: Annotated[str | None, Field(max_length=22)] = None


class ExperienceContext(_Sent):
    """Where the payer comes back to."""

    return_url: Annotated[str, Field(max_length=4000)]
    cancel_url: Annotated[str, Field(max_length=4000)]


class StoredCredential(_Sent):
    """That the payer is not there."""

    payment_initiator: Literal["MERCHANT"]
    payment_type: Literal["UNSCHEDULED"] | None = None  # of a card
    usage: Literal["SUBSEQUENT"]


class PaymentMethod(_Sent):
    """A method from PayPal's vault, or one that the payer chooses."""

    vault_id: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    experience_context: ExperienceContext | None = None
    stored_credential: StoredCredential | None = None


class PaymentSource(_Sent):
    """How it is paid: one of these."""

    paypal: PaymentMethod | None = None
    card: PaymentMethod | None = None


class OrderRequest(_Sent):
    """`POST /v2/checkout/orders`."""

    intent: Literal["AUTHORIZE", "CAPTURE"]
    purchase_units: tuple[SentUnit]
    payment_source: PaymentSource


class CaptureRequest(_Sent):
    """`POST /v2/payments/authorizations/{id}/capture`."""

    amount: SentMoney
    invoice_id: Annotated[str, Field(min_length=1, max_length=127)]
    final_capture: Literal[True] | None = None


class RefundRequest(_Sent):
    """`POST /v2/payments/captures/{id}/refund`."""

    amount: SentMoney
    custom_id: Annotated[str, Field(min_length=1, max_length=127)]
    invoice_id: Annotated[str, Field(min_length=1, max_length=127)]


# What PayPal sends

Id = Annotated[str, Field(min_length=1, max_length=255)]
Word = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[str, Field(max_length=4096)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def read(cls, value: object) -> Self:
        """Return the model of a parsed value. Raises: WireError."""
        try:
            return cls.model_validate(value, strict=False)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            raise WireError(f"{cls.__name__}: {where or 'all of it'} is not as described") from None


class Money(_Read):
    """An amount, as PayPal writes it."""

    currency_code: Word
    value: Word


class Link(_Read):
    """Where to go on."""

    href: Text
    rel: Word


class ProcessorResponse(_Read):
    """What a card's processor said."""

    response_code: Word | None = None
    payment_advice_code: Word | None = None


class StatusDetails(_Read):
    """Why a status is what it is."""

    reason: Word | None = None


class RelatedIds(_Read):
    """The objects that an object belongs to."""

    order_id: Id | None = None
    authorization_id: Id | None = None


class SupplementaryData(_Read):
    """Where the related ids stand."""

    related_ids: RelatedIds | None = None


class Made(_Read):
    """An authorization, a capture or a refund."""

    id: Id
    status: Word
    amount: Money
    custom_id: Text | None = None
    invoice_id: Text | None = None
    create_time: Word | None = None
    update_time: Word | None = None
    expiration_time: Word | None = None  # of an authorization
    processor_response: ProcessorResponse | None = None
    status_details: StatusDetails | None = None
    supplementary_data: SupplementaryData | None = None
    links: Annotated[tuple[Link, ...], Field(max_length=MAX_ITEMS)] = ()

    @property
    def order_id(self) -> str | None:
        """The order that it belongs to, if it says so."""
        return self._related().order_id or self.up("orders")

    @property
    def authorization_id(self) -> str | None:
        """The authorization that a capture was made of; None: it was captured at once, or it does not say."""
        return self._related().authorization_id or self.up("authorizations")

    def _related(self) -> RelatedIds:
        data = self.supplementary_data
        return RelatedIds() if data is None or data.related_ids is None else data.related_ids

    def up(self, collection: str) -> str | None:
        """Return the id of what it was made from, if its link `up` leads to one of this collection."""
        for link in self.links:
            path = link.href.partition("?")[0].rstrip("/").split("/")
            if link.rel == "up" and len(path) > 1 and path[-2] == collection and path[-1]:
                return path[-1]
        return None


class Payments(_Read):
    """What was made for a purchase unit."""

    authorizations: Annotated[tuple[Made, ...], Field(max_length=MAX_ITEMS)] = ()
    captures: Annotated[tuple[Made, ...], Field(max_length=MAX_ITEMS)] = ()


class Unit(_Read):
    """One purchase unit."""

    custom_id: Text | None = None
    invoice_id: Text | None = None
    amount: Money | None = None
    payments: Payments | None = None


class Order(_Read):
    """An order."""

    id: Id
    status: Word
    intent: Word | None = None
    purchase_units: Annotated[tuple[Unit, ...], Field(max_length=MAX_ITEMS)] = ()
    links: Annotated[tuple[Link, ...], Field(max_length=MAX_ITEMS)] = ()

    @property
    def unit(self) -> Unit:
        """Its purchase unit: we never make an order of several. Raises: WireError: it has none."""
        if len(self.purchase_units) != 1:
            raise WireError("Order: purchase_units must hold one")
        return self.purchase_units[0]

    @property
    def payments(self) -> Payments:
        """What was made for it so far."""
        return self.unit.payments or Payments()

    @property
    def action_url(self) -> str | None:
        """Where the payer acts."""
        return next((link.href for link in self.links if link.rel in ACTION_LINKS), None)


class ErrorDetail(_Read):
    """One thing that was wrong."""

    issue: Word | None = None


class ErrorAnswer(_Read):
    """An answer that refuses."""

    name: Word | None = None
    error: Word | None = None  # of the token's endpoint (RFC 6749)
    details: Annotated[tuple[ErrorDetail, ...], Field(max_length=MAX_ITEMS)] = ()
    links: Annotated[tuple[Link, ...], Field(max_length=MAX_ITEMS)] = ()

    @property
    def action_url(self) -> str | None:
        """Where the payer acts once more."""
        return next((link.href for link in self.links if link.rel in ACTION_LINKS), None)

    @property
    def issues(self) -> tuple[str, ...]:
        """Every word that says what was wrong, the closest first."""
        issues = (detail.issue for detail in self.details)
        return tuple(each for each in (*issues, self.name, self.error) if each is not None)


class TokenAnswer(_Read):
    """`POST /v1/oauth2/token`."""

    access_token: Annotated[str, Field(min_length=1, max_length=8192, repr=False)]
    expires_in: Annotated[int, Field(gt=0, le=10**8)]


class VerificationAnswer(_Read):
    """`POST /v1/notifications/verify-webhook-signature`."""

    verification_status: Word


class Event(_Read):
    """A webhook."""

    id: Id
    event_type: Word
    create_time: Word
    resource: dict[str, object]


class DisputedTransaction(_Read):
    """What a dispute is about."""

    seller_transaction_id: Id | None = None
    invoice_number: Text | None = None
    custom: Text | None = None


class DisputeOutcome(_Read):
    """How it ended."""

    outcome_code: Word | None = None
    amount_refunded: Money | None = None  # to the buyer; it may be a part of what was disputed


class Dispute(_Read):
    """A dispute, in any stage."""

    dispute_id: Id
    status: Word | None = None
    dispute_amount: Money | None = None
    dispute_outcome: DisputeOutcome | None = None
    disputed_transactions: Annotated[tuple[DisputedTransaction, ...], Field(max_length=MAX_ITEMS)] = ()


class ApprovalReversed(_Read):
    """An approval that nobody made use of in time."""

    order_id: Id
    purchase_units: Annotated[tuple[Unit, ...], Field(max_length=MAX_ITEMS)] = ()


def order_path(order_id: str, step: Literal["", "/authorize", "/capture"] = "") -> str:
    """Return the path of an order, or of a step of it."""
    return f"{ORDERS_PATH}/{_part(order_id)}{step}"


def authorization_path(authorization_id: str, step: Literal["", "/capture", "/void"] = "") -> str:
    """Return the path of an authorization, or of a step of it."""
    return f"/v2/payments/authorizations/{_part(authorization_id)}{step}"


def capture_path(capture_id: str, step: Literal["", "/refund"] = "") -> str:
    """Return the path of a capture, or of its refunds."""
    return f"/v2/payments/captures/{_part(capture_id)}{step}"


def refund_path(refund_id: str) -> str:
    """Return the path of a refund."""
    return f"/v2/payments/refunds/{_part(refund_id)}"


def _part(name: str) -> str:
    return quote(name, safe="")
