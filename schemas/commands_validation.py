"""The rules of a command's values that its types cannot say.

Called by the ingress and, for direct producers, by the orders agent, so that both refuse the same. Calls
`schemas.identifiers`, `schemas.money` and the card guard. What depends on the order (amounts against sums,
states) is the domain's, not this module's.
"""

from typing import assert_never

from schemas import identifiers
from schemas.card_disguises import hides_card_number, is_split_over
from schemas.card_numbers import holds_card_number
from schemas.identifiers import InvalidIdentifierError, OrderId, PaymentId
from schemas.money import MAX_AMOUNT_MINOR, is_payable
from schemas.records.commands import CaptureRequested, Command, PaymentRequested, RefundRequested, VoidRequested


class InvalidCommandError(ValueError):
    """A command breaks a rule. `field` is the record's field; the message never holds the value."""

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
            _check_token(command)
        case CaptureRequested() | RefundRequested():
            _check_payment_id(command.payment_id, command.order_id)
            if command.amount_minor is not None:
                _check_amount(command.amount_minor)
            if command.currency is not None:
                _check_currency(command.currency)
        case VoidRequested():
            _check_payment_id(command.payment_id, command.order_id)
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


def _check_token(command: PaymentRequested) -> None:
    try:
        identifiers.gateway_token(command.token)
    except InvalidIdentifierError as error:
        raise InvalidCommandError("token", str(error)) from None
    others = (command.order_id, command.idempotency_key, command.origin_id, str(command.amount_minor))
    if hides_card_number(command.token) or is_split_over(command.token, others):
        raise CardDataError("token", "must be a gateway's token, and this looks like a card number")


def _check_payment_id(payment: PaymentId, order: OrderId) -> None:
    try:
        carried = identifiers.order_of_payment(payment)
    except InvalidIdentifierError:
        raise InvalidCommandError("payment_id", "is not a payment id of this engine") from None
    if carried != order:
        raise InvalidCommandError("payment_id", "is not the id of a payment of this order")
