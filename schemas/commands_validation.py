"""The rules of a command's values that its types cannot say.

Called by the ingress and, for direct producers, by the orders agent, so that both refuse the same. Calls
`schemas.identifiers`, `schemas.money` and the card guard. What depends on the order (amounts against sums,
states) is the domain's, not this module's.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from schemas import identifiers
from schemas.card_disguises import hides_card_number, is_split_over
from schemas.card_numbers import holds_card_number, is_secret_key
from schemas.identifiers import InvalidIdentifierError, OrderId, PaymentId
from schemas.money import MAX_AMOUNT_MINOR, is_payable
from schemas.records.commands import (
    BrowserFacts,
    CaptureRequested,
    Command,
    CompletionRequested,
    NamedText,
    Payer,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)

MAX_COMMAND_BYTES: Final = 96 * 1024
"""Of all texts of a command together, in UTF-8: the four encrypted fields of an Adyen card, and half as much again for
all the rest. A tenth of what the broker takes in one record."""

MAX_TOKENS: Final = 10
"""A policy names no more gateways."""

MAX_GATEWAY_NAME_CHARS: Final = 64
MAX_TOKEN_KIND_CHARS: Final = 64
MAX_TOKEN_VALUE_CHARS: Final = 64_000
"""Adyen's encrypted card fields: four of up to 15,000 characters, and their names."""

MAX_PAYER_REFERENCE_CHARS: Final = 256  # Adyen's shopperReference
MAX_EMAIL_CHARS: Final = 254  # RFC 5321, with its angle brackets taken away
MAX_IP_CHARS: Final = 45  # RFC 4291, an IPv6 address that ends as an IPv4 one
MAX_BROWSER_HEADER_CHARS: Final = 2_048  # EMV 3-D Secure 2: browserAcceptHeader, browserUserAgent
MAX_LANGUAGE_CHARS: Final = 35  # RFC 5646 section 4.4.1
MAX_COLOR_DEPTH_BITS: Final = 48
MAX_SCREEN_PX: Final = 999_999  # EMV 3-D Secure 2: six digits
MAX_TIME_ZONE_OFFSET_MIN: Final = 14 * 60
MAX_URL_CHARS: Final = 2_048
MAX_STATEMENT_DESCRIPTOR_CHARS: Final = 22  # Stripe's, Adyen's and PayPal's
MAX_METADATA_ENTRIES: Final = 20
MAX_METADATA_NAME_CHARS: Final = 40
MAX_METADATA_VALUE_CHARS: Final = 200
MAX_RETURN_PARAMETERS: Final = 20
MAX_RETURN_NAME_CHARS: Final = 64
MAX_RETURN_VALUE_CHARS: Final = 32_000  # a PaRes of 3-D Secure 1 is below 16 KiB, and so is Adyen's redirectResult

_VISIBLE: Final = re.compile(r"[!-~]+")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_ABSOLUTE_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]")
# Stripe refuses the brackets, the quotation marks, the backslash and the star; nobody wants characters beyond ASCII.
_DESCRIPTOR: Final = re.compile(r"[ !#-&(-)+-;=?-\[\]-~]*[A-Za-z][ !#-&(-)+-;=?-\[\]-~]*")
_DESCRIPTOR_RULE: Final = "must be ASCII with at least one letter, and without < > \\ ' \" *"


class InvalidCommandError(ValueError):
    """A command breaks a rule.

    `field` is the record's field, or the dotted path to it (`tokens.0.value`); the message never holds the value.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class CardDataError(InvalidCommandError):
    """A field holds what looks like a card number: nothing of the command may be kept."""


def validate(command: Command) -> None:
    """Return if the command keeps every rule. Raises: InvalidCommandError (CardDataError for card data)."""
    _check_identity(command)
    match command:
        case PaymentRequested():
            _check_amount(command.amount_minor)
            _check_currency(command.currency)
            _check_payment_method(command)
            _check_beside(command)
        case CaptureRequested() | RefundRequested():
            _check_payment_id(command.payment_id, command.order_id)
            if command.amount_minor is not None:
                _check_amount(command.amount_minor)
            if command.currency is not None:
                _check_currency(command.currency)
        case VoidRequested():
            _check_payment_id(command.payment_id, command.order_id)
        case CompletionRequested():
            _check_payment_id(command.payment_id, command.order_id)
            _check_map(
                "parameters",
                command.parameters,
                max_entries=MAX_RETURN_PARAMETERS,
                max_name_chars=MAX_RETURN_NAME_CHARS,
                max_value_chars=MAX_RETURN_VALUE_CHARS,
            )
            _check_size(command, "parameters")
        case _:
            assert_never(command)


def _check_identity(command: Command) -> None:
    field = "origin_id"
    try:
        identifiers.origin_id(command.origin_id)
        field = "order_id"
        identifiers.order_id(command.order_id)
        field = "idempotency_key"
        identifiers.idempotency_key(command.idempotency_key)
    except InvalidIdentifierError as error:
        raise InvalidCommandError(field, str(error)) from None
    # These travel further than the token: into events, tables, logs and to the gateway. The order of a payment that
    # exists was let in once, and what it may be captured by must not become stricter.
    order_holds = hides_card_number if isinstance(command, PaymentRequested) else holds_card_number
    for field, text, holds in (
        ("origin_id", command.origin_id, holds_card_number),
        ("order_id", command.order_id, order_holds),
        ("idempotency_key", command.idempotency_key, hides_card_number),
    ):
        if holds(text):
            raise CardDataError(field, "looks like a card number")


def _check_amount(amount_minor: int) -> None:
    if not 0 < amount_minor <= MAX_AMOUNT_MINOR:
        raise InvalidCommandError("amount_minor", f"must be from 1 to {MAX_AMOUNT_MINOR} minor units")


def _check_currency(currency: str) -> None:
    if not is_payable(currency):
        raise InvalidCommandError("currency", "must be an ISO 4217 code, in upper case, that can be paid in")


def _check_payment_method(command: PaymentRequested) -> None:
    if (command.token is None) == (not command.tokens):
        raise InvalidCommandError("token", "exactly one of the token, and a token for each gateway, must be given")
    if command.token is not None:
        _check_token(command, "token", command.token, max_chars=identifiers.MAX_TOKEN_CHARS)
    _check_count("tokens", len(command.tokens), MAX_TOKENS)
    if len({token.gateway for token in command.tokens}) < len(command.tokens):
        raise InvalidCommandError("tokens", "at most one for each gateway")
    for number, token in enumerate(command.tokens):
        at = f"tokens.{number}"
        _check_visible(f"{at}.gateway", token.gateway, MAX_GATEWAY_NAME_CHARS)
        _check_visible(f"{at}.kind", token.kind, MAX_TOKEN_KIND_CHARS)
        _check_token(command, f"{at}.value", token.value, max_chars=MAX_TOKEN_VALUE_CHARS)
        if token.payer_reference is not None:
            _check_visible(f"{at}.payer_reference", token.payer_reference, MAX_PAYER_REFERENCE_CHARS)


def _check_token(command: PaymentRequested, field: str, token: str, *, max_chars: int) -> None:
    try:
        identifiers.gateway_token(token, max_chars=max_chars)
    except InvalidIdentifierError as error:
        raise InvalidCommandError(field, str(error)) from None
    others = (command.order_id, command.idempotency_key, command.origin_id, str(command.amount_minor))
    if hides_card_number(token) or is_split_over(token, others):
        raise CardDataError(field, "must be a gateway's token, and this looks like a card number")


def _check_beside(command: PaymentRequested) -> None:
    """Check what a payment may say beside its amount and its token: most say nothing."""
    if command.return_url is not None:
        _check_url("return_url", command.return_url)
    if command.statement_descriptor is not None:
        _check_text("statement_descriptor", command.statement_descriptor, MAX_STATEMENT_DESCRIPTOR_CHARS)
        if not _DESCRIPTOR.fullmatch(command.statement_descriptor):
            raise InvalidCommandError("statement_descriptor", _DESCRIPTOR_RULE)
    if command.metadata:
        _check_map(
            "metadata",
            command.metadata,
            max_entries=MAX_METADATA_ENTRIES,
            max_name_chars=MAX_METADATA_NAME_CHARS,
            max_value_chars=MAX_METADATA_VALUE_CHARS,
        )
    if command.payer is not None:
        _check_payer(command.payer)
    if command.tokens or command.metadata or command.payer is not None:
        _check_size(command, "tokens")


def _check_payer(payer: Payer) -> None:
    if payer.email is not None:
        _check_text("payer.email", payer.email, MAX_EMAIL_CHARS)
        if not _EMAIL.fullmatch(payer.email):
            raise InvalidCommandError("payer.email", "must be an e-mail address")
    if payer.reference is not None:
        _check_visible("payer.reference", payer.reference, MAX_PAYER_REFERENCE_CHARS)
    if payer.ip is not None:
        _check_text("payer.ip", payer.ip, MAX_IP_CHARS)
        try:
            ipaddress.ip_address(payer.ip)
        except ValueError:
            raise InvalidCommandError("payer.ip", "must be an IPv4 or IPv6 address") from None
    if payer.browser is not None:
        _check_browser(payer.browser)
    if payer.country is not None and not _COUNTRY.fullmatch(payer.country):
        raise InvalidCommandError("payer.country", "must be an ISO 3166-1 code of two letters, in upper case")


def _check_browser(browser: BrowserFacts) -> None:
    for name, text, max_chars in (
        ("accept_header", browser.accept_header, MAX_BROWSER_HEADER_CHARS),
        ("user_agent", browser.user_agent, MAX_BROWSER_HEADER_CHARS),
        ("language", browser.language, MAX_LANGUAGE_CHARS),
    ):
        if text is not None:
            _check_text(f"payer.browser.{name}", text, max_chars)
    for name, number, least, most in (
        ("color_depth_bits", browser.color_depth_bits, 1, MAX_COLOR_DEPTH_BITS),
        ("screen_height_px", browser.screen_height_px, 0, MAX_SCREEN_PX),
        ("screen_width_px", browser.screen_width_px, 0, MAX_SCREEN_PX),
        ("time_zone_offset_min", browser.time_zone_offset_min, -MAX_TIME_ZONE_OFFSET_MIN, MAX_TIME_ZONE_OFFSET_MIN),
    ):
        if number is not None and not least <= number <= most:
            raise InvalidCommandError(f"payer.browser.{name}", f"must be from {least} to {most}")


def _check_map(
    field: str, entries: Sequence[NamedText], *, max_entries: int, max_name_chars: int, max_value_chars: int
) -> None:
    _check_count(field, len(entries), max_entries)
    if len({entry.name for entry in entries}) < len(entries):
        raise InvalidCommandError(field, "must not name an entry twice")
    for entry in entries:  # a client's own name is never told: it may hold what must not come back
        _check_visible(field, entry.name, max_name_chars)
        if is_secret_key(entry.name):
            raise CardDataError(field, "is named like a card's security code")
        _check_text(field, entry.value, max_value_chars, may_be_empty=True)


def _check_count(field: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidCommandError(field, f"must be at most {most}")


def _check_visible(field: str, text: str, max_chars: int) -> None:
    if not _VISIBLE.fullmatch(text):
        raise InvalidCommandError(field, "must be visible ASCII without space")
    _check_text(field, text, max_chars)


def _check_url(field: str, url: str) -> None:
    _check_visible(field, url, MAX_URL_CHARS)
    if not _ABSOLUTE_URL.match(url):
        raise InvalidCommandError(field, "must be an absolute URL, such as https://shop.example/back")


def _check_text(field: str, text: str, max_chars: int, *, may_be_empty: bool = False) -> None:
    if len(text) > max_chars or not (text or may_be_empty):
        raise InvalidCommandError(field, f"must have {0 if may_be_empty else 1} to {max_chars} characters")
    if not text.isprintable():
        raise InvalidCommandError(field, "must not hold control characters")
    if hides_card_number(text):
        raise CardDataError(field, "looks like a card number")


def _check_size(command: Command, field: str) -> None:
    size = sum(len(text.encode()) for text in _texts_of(command))
    if size > MAX_COMMAND_BYTES:
        raise InvalidCommandError(field, f"the command's texts must have at most {MAX_COMMAND_BYTES} bytes together")


def _texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts_of(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts_of(getattr(value, field.name))


def _check_payment_id(payment: PaymentId, order: OrderId) -> None:
    try:
        carried = identifiers.order_of_payment(payment)
    except InvalidIdentifierError:
        raise InvalidCommandError("payment_id", "is not a payment id of this engine") from None
    if carried != order:
        raise InvalidCommandError("payment_id", "is not the id of a payment of this order")
