"""What a request body may hold, and the command that it asks for.

The models are also the request schemas of `/openapi.json`. Validation is strict: no coercion, unknown fields refused,
so that a client's typing error cannot change what a payment does. Called by `http_ingress.money.endpoints`. Pure.
"""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from http_ingress.limits import MAX_FIELD_ERRORS, MAX_POINTER_CHARS
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError
from schemas import money
from schemas.card_disguises import hides_card_number
from schemas.identifiers import MAX_ORDER_ID_CHARS, MAX_ORIGIN_ID_CHARS, MAX_TOKEN_CHARS, PAYMENT_PREFIX
from schemas.money import MAX_AMOUNT_MINOR

# Visible ASCII without space and '|', as `schemas.identifiers` has it; here for the published schema.
_VISIBLE = "^[!-{}-~]+$"
VISIBLE_WORDS = "Visible ASCII characters without space and `|`"
_PAYMENT_ID = f"^{PAYMENT_PREFIX}[A-Za-z0-9_-]{{2,240}}$"
_CURRENCY = "^[A-Z]{3}$"
# What a client is told instead of the pattern that a member does not match.
_IN_WORDS = {
    _VISIBLE: "Input should be visible ASCII characters without space and '|'",
    _PAYMENT_ID: f"Input should be a payment's id: {PAYMENT_PREFIX}, then letters, digits, '_' and '-'",
    _CURRENCY: "Input should be an ISO 4217 code: three capital letters",
}

OriginField = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=MAX_ORIGIN_ID_CHARS,
        pattern=_VISIBLE,
        description="The merchant. May be left out when the API key or `X-Origin-Id` says it; must agree with them. "
        f"{VISIBLE_WORDS}, at most {MAX_ORIGIN_ID_CHARS}.",
    ),
]
AmountField = Annotated[
    int, Field(ge=1, le=MAX_AMOUNT_MINOR, description="Minor units, written as an integer: 1999 is 19.99 USD.")
]
CurrencyField = Annotated[
    str,
    Field(
        pattern=_CURRENCY,
        description="ISO 4217 code, upper case.",
        json_schema_extra={"enum": sorted(money.exponents())},
    ),
]
PaymentIdField = Annotated[str, Field(pattern=_PAYMENT_ID, description="The payment's id, as this engine gave it.")]


class Body(BaseModel):
    """What every request body has in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)

    origin_id: OriginField = None


class PaymentBody(Body):
    """Open the payment of an order."""

    amount: AmountField
    currency: CurrencyField
    token: str = Field(
        min_length=1,
        max_length=MAX_TOKEN_CHARS,
        pattern=_VISIBLE,
        description="The gateway's token for the payment method. A card number is refused with 422. "
        f"{VISIBLE_WORDS}, at most {MAX_TOKEN_CHARS}.",
    )
    order_id: str = Field(
        min_length=1,
        max_length=MAX_ORDER_ID_CHARS,
        pattern=_VISIBLE,
        description=f"The merchant's order. {VISIBLE_WORDS}, at most {MAX_ORDER_ID_CHARS}.",
    )
    capture: bool = Field(True, description="true, or left out: authorize and capture at once. false: authorize only.")


class CaptureBody(Body):
    """Capture some or all of what is authorized."""

    amount: AmountField | None = Field(None, description="Minor units; left out: all that is left.")
    currency: CurrencyField | None = Field(None, description="Must be the payment's, when given.")
    final: bool = Field(False, description="true: what is left of the authorization is released. Left out: false.")


class VoidBody(Body):
    """Release or cancel a payment of which nothing was captured."""


class RefundBody(Body):
    """Give back some or all of what was captured."""

    payment_id: PaymentIdField
    amount: AmountField | None = Field(None, description="Minor units; left out: all that is left.")
    currency: CurrencyField | None = Field(None, description="Must be the payment's, when given.")


B = TypeVar("B", bound=BaseModel)


def parse_body(model: type[B], members: Mapping[str, object]) -> B:
    """Return the validated body. Raises: ProblemError (400), with a JSON pointer for each fault and no values."""
    try:
        return model.model_validate(members)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = tuple(
            FieldFault(pointer=_pointer(each["loc"]), detail=_detail(each)) for each in found[:MAX_FIELD_ERRORS]
        )
        raise ProblemError(ProblemCode.INVALID_BODY, f"{len(found)} fault(s) in the body", faults=faults) from None


def _detail(fault: ErrorDetails) -> str:
    pattern = fault.get("ctx", {}).get("pattern", "")
    return _IN_WORDS.get(pattern, fault["msg"])


def _pointer(location: tuple[int | str, ...]) -> str:
    # RFC 6901 section 3: '~' and '/' inside a name are escaped. A client's own name may hide what must not come back.
    words = (str(word).replace("~", "~0").replace("/", "~1") for word in location)
    pointer = ("#/" + "/".join(words))[:MAX_POINTER_CHARS]
    return "#" if hides_card_number(pointer) else pointer
