"""What a request body may hold, and the command that it asks for.

The models are also the request schemas of `/openapi.json`. Validation is strict: no coercion, unknown fields refused,
so that a client's typing error cannot change what a payment does. Called by `http_ingress.money.endpoints`. Pure.
"""

from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails

from http_ingress.limits import MAX_FIELD_ERRORS, MAX_POINTER_CHARS
from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError
from schemas import money
from schemas.card_disguises import hides_card_number
from schemas.commands_validation import (
    MAX_BROWSER_HEADER_CHARS,
    MAX_COLOR_DEPTH_BITS,
    MAX_EMAIL_CHARS,
    MAX_GATEWAY_NAME_CHARS,
    MAX_IP_CHARS,
    MAX_LANGUAGE_CHARS,
    MAX_METADATA_ENTRIES,
    MAX_METADATA_NAME_CHARS,
    MAX_METADATA_VALUE_CHARS,
    MAX_PAYER_REFERENCE_CHARS,
    MAX_RETURN_NAME_CHARS,
    MAX_RETURN_PARAMETERS,
    MAX_RETURN_VALUE_CHARS,
    MAX_SCREEN_PX,
    MAX_STATEMENT_DESCRIPTOR_CHARS,
    MAX_TIME_ZONE_OFFSET_MIN,
    MAX_TOKEN_KIND_CHARS,
    MAX_TOKEN_VALUE_CHARS,
    MAX_TOKENS,
    MAX_URL_CHARS,
)
from schemas.identifiers import MAX_ORDER_ID_CHARS, MAX_ORIGIN_ID_CHARS, MAX_TOKEN_CHARS, PAYMENT_PREFIX
from schemas.money import MAX_AMOUNT_MINOR

# Visible ASCII without space and '|', as `schemas.identifiers` has it; here for the published schema.
_VISIBLE = "^[!-{}-~]+$"
VISIBLE_WORDS = "Visible ASCII characters without space and `|`"
_PAYMENT_ID = f"^{PAYMENT_PREFIX}[A-Za-z0-9_-]{{2,240}}$"
_CURRENCY = "^[A-Z]{3}$"
_COUNTRY = "^[A-Z]{2}$"
# What a client is told instead of the pattern that a member does not match.
_IN_WORDS = {
    _VISIBLE: "Input should be visible ASCII characters without space and '|'",
    _PAYMENT_ID: f"Input should be a payment's id: {PAYMENT_PREFIX}, then letters, digits, '_' and '-'",
    _CURRENCY: "Input should be an ISO 4217 code: three capital letters",
    _COUNTRY: "Input should be an ISO 3166-1 code: two capital letters",
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


MetadataName = Annotated[str, Field(min_length=1, max_length=MAX_METADATA_NAME_CHARS)]
MetadataValue = Annotated[str, Field(max_length=MAX_METADATA_VALUE_CHARS)]
ReturnName = Annotated[str, Field(min_length=1, max_length=MAX_RETURN_NAME_CHARS)]
ReturnValue = Annotated[str, Field(max_length=MAX_RETURN_VALUE_CHARS)]


class Body(BaseModel):
    """What every request body has in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)

    origin_id: OriginField = None


class Part(BaseModel):
    """What every part of a body has in common."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class TokenBody(Part):
    """What one gateway knows the payment method by."""

    gateway: str = Field(
        min_length=1,
        max_length=MAX_GATEWAY_NAME_CHARS,
        pattern=_VISIBLE,
        description="The gateway, or `gateway/account`. Without an account it is good for each one there.",
    )
    kind: str = Field(
        min_length=1,
        max_length=MAX_TOKEN_KIND_CHARS,
        pattern=_VISIBLE,
        description="What sort of token it is, in that gateway's words.",
    )
    value: str = Field(
        min_length=1,
        max_length=MAX_TOKEN_VALUE_CHARS,
        pattern=_VISIBLE,
        description=f"The token. A card number is refused with 422. {VISIBLE_WORDS}, at most {MAX_TOKEN_VALUE_CHARS}.",
    )
    payer_reference: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PAYER_REFERENCE_CHARS,
        description="Whose token it is, where the gateway wants to know.",
    )


class BrowserBody(Part):
    """What 3-D Secure asks about the payer's browser, as the browser says it."""

    accept_header: str | None = Field(None, min_length=1, max_length=MAX_BROWSER_HEADER_CHARS)
    color_depth: int | None = Field(None, ge=1, le=MAX_COLOR_DEPTH_BITS, description="Bits a pixel.")
    java_enabled: bool | None = None
    language: str | None = Field(None, min_length=1, max_length=MAX_LANGUAGE_CHARS, description="IETF BCP 47.")
    screen_height: int | None = Field(None, ge=0, le=MAX_SCREEN_PX, description="Pixels.")
    screen_width: int | None = Field(None, ge=0, le=MAX_SCREEN_PX, description="Pixels.")
    time_zone_offset: int | None = Field(
        None,
        ge=-MAX_TIME_ZONE_OFFSET_MIN,
        le=MAX_TIME_ZONE_OFFSET_MIN,
        description="Minutes, UTC minus local time, as `Date.getTimezoneOffset()` has it.",
    )
    user_agent: str | None = Field(None, min_length=1, max_length=MAX_BROWSER_HEADER_CHARS)


class PayerBody(Part):
    """Who pays. Goes to the gateway, and is kept nowhere but in the request on the log, for 7 days."""

    email: str | None = Field(
        None,
        min_length=3,
        max_length=MAX_EMAIL_CHARS,
        json_schema_extra={"format": "email", "pattern": "^[!-?A-~]+@[!-?A-~]+$"},
    )
    reference: str | None = Field(
        None, min_length=1, max_length=MAX_PAYER_REFERENCE_CHARS, description="The merchant's own id of the payer."
    )
    ip: str | None = Field(
        None,
        min_length=2,
        max_length=MAX_IP_CHARS,
        description="IPv4 or IPv6. It may differ when the same request is sent again with its key.",
    )
    browser: BrowserBody | None = Field(
        None, description="It may differ when the same request is sent again with its key."
    )
    country: str | None = Field(
        None,
        min_length=2,
        max_length=2,
        pattern=_COUNTRY,
        description="The payer's country: ISO 3166-1, two capital letters. Routing may ask for it.",
    )


def _texts_by_name(*, most: int, name_chars: int, value_chars: int) -> dict[str, object]:
    return {
        "type": "object",
        "propertyNames": {"minLength": 1, "maxLength": name_chars, "pattern": "^[!-~]+$"},
        "additionalProperties": {"type": "string", "maxLength": value_chars},
        "maxProperties": most,
    }


Metadata = Annotated[
    dict[MetadataName, MetadataValue],
    Field(max_length=MAX_METADATA_ENTRIES),
    WithJsonSchema(
        _texts_by_name(
            most=MAX_METADATA_ENTRIES, name_chars=MAX_METADATA_NAME_CHARS, value_chars=MAX_METADATA_VALUE_CHARS
        )
    ),
]
ReturnParameters = Annotated[
    dict[ReturnName, ReturnValue],
    Field(max_length=MAX_RETURN_PARAMETERS),
    WithJsonSchema(
        _texts_by_name(most=MAX_RETURN_PARAMETERS, name_chars=MAX_RETURN_NAME_CHARS, value_chars=MAX_RETURN_VALUE_CHARS)
    ),
]


_ONE_TOKEN: Final[JsonDict] = {
    "oneOf": [
        {"required": ["token"], "properties": {"token": {"type": "string"}, "tokens": {"type": "null"}}},
        {"required": ["tokens"], "properties": {"tokens": {"type": "array"}, "token": {"type": "null"}}},
    ]
}


class PaymentBody(Body):
    """Open the payment of an order."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, json_schema_extra=_ONE_TOKEN
    )

    amount: AmountField
    currency: CurrencyField
    token: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_TOKEN_CHARS,
        pattern=_VISIBLE,
        description="The token for the payment method, of the first gateway that the policy names: it is sent to no "
        "other. Exactly one of `token` and `tokens` must be there. A card number is refused with 422. "
        f"{VISIBLE_WORDS}, at most {MAX_TOKEN_CHARS}.",
    )
    tokens: list[TokenBody] | None = Field(
        None,
        min_length=1,
        max_length=MAX_TOKENS,
        description="A token for each gateway that the payment may go to, at most one for each; others are passed "
        "over.",
    )
    order_id: str = Field(
        min_length=1,
        max_length=MAX_ORDER_ID_CHARS,
        pattern=_VISIBLE,
        description=f"The merchant's order. {VISIBLE_WORDS}, at most {MAX_ORDER_ID_CHARS}.",
    )
    capture: bool = Field(True, description="true, or left out: authorize and capture at once. false: authorize only.")
    allow_partial: bool = Field(
        False, description="true: an approval of less than the amount will do. Left out: it is voided, and declined."
    )
    merchant_initiated: bool = Field(False, description="true: the payer is not there. Left out: false.")
    return_url: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_URL_CHARS,
        description="Where the payer comes back to from a page of the bank or the gateway: an absolute URL.",
        json_schema_extra={"pattern": r"^[A-Za-z][A-Za-z0-9+.\-]*://[!\"$-.0->@-~][!-~]*$"},
    )
    payer: PayerBody | None = None
    statement_descriptor: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_STATEMENT_DESCRIPTOR_CHARS,
        description="What the payer reads on the statement: ASCII with a letter, without `<>\\'\"*`.",
        json_schema_extra={"pattern": r"^[ !#-&(-)+-;=?-\[\]-~]*[A-Za-z][ !#-&(-)+-;=?-\[\]-~]*$"},
    )
    metadata: Metadata | None = Field(None, description="For the gateway's own records; no card data, no secrets.")


class CaptureBody(Body):
    """Capture some or all of what is authorized."""

    amount: AmountField | None = Field(None, description="Minor units; left out: all that is left.")
    currency: CurrencyField | None = Field(None, description="Must be the payment's, when given.")
    final: bool = Field(False, description="true: what is left of the authorization is released. Left out: false.")


class VoidBody(Body):
    """Release or cancel a payment of which nothing was captured."""


class CompleteBody(Body):
    """Go on with a payment whose payer has acted."""

    parameters: ReturnParameters | None = Field(
        None,
        description="What the payer came back with, in the gateway's words, such as `redirectResult`; no card data. "
        "Left out: nothing.",
    )


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
