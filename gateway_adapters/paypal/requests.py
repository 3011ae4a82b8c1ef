"""The engine's calls as PayPal's requests. Pure.

What sort of token a payment has its command says, in these words: `paypal` and `card` are methods in PayPal's vault,
`approval` is none: the payer logs in at PayPal and agrees. Without a word a token is a wallet in the vault.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from gateway_adapters.paypal import wire
from gateway_adapters.paypal.money import UnfitAmountError, to_value
from gateway_adapters.paypal.references import reference_of
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind

WALLET: Final = "paypal"
CARD: Final = "card"
APPROVAL: Final = "approval"
TOKEN_KINDS: Final = frozenset({WALLET, CARD, APPROVAL})
MAX_DESCRIPTOR_CHARS: Final = 22
RETURNED_ORDER: Final = "token"
"""What PayPal names the order with when it sends the payer back."""

INTENTS: Final[Mapping[str, CallKind]] = MappingProxyType({"AUTHORIZE": CallKind.AUTHORIZE, "CAPTURE": CallKind.SALE})


class UnsendableError(Exception):
    """The call lacks what PayPal needs, or holds what it does not take; the message holds no value of it."""


def order_request(request: GatewayCallRequested) -> wire.OrderRequest:
    """Return the order of an authorize or a sale. Raises: UnsendableError."""
    details = request.details or CallDetails()
    reference = reference_of(request.kind, request.op_id)
    descriptor = details.statement_descriptor
    try:
        unit = wire.SentUnit(
            amount=_money(request),
            custom_id=reference,
            invoice_id=reference,
            soft_descriptor=None if descriptor is None else descriptor[:MAX_DESCRIPTOR_CHARS],
        )
        return wire.OrderRequest(
            intent="AUTHORIZE" if request.kind is CallKind.AUTHORIZE else "CAPTURE",
            purchase_units=(unit,),
            payment_source=_source(request, details),
        )
    except ValidationError as error:
        raise _unsendable(error) from None


def capture_request(request: GatewayCallRequested) -> wire.CaptureRequest:
    """Return a capture. Raises: UnsendableError."""
    return wire.CaptureRequest(
        amount=_money(request),
        invoice_id=reference_of(request.kind, request.op_id),
        final_capture=True if request.final else None,
    )


def refund_request(request: GatewayCallRequested) -> wire.RefundRequest:
    """Return a refund. Raises: UnsendableError."""
    reference = reference_of(request.kind, request.op_id)
    return wire.RefundRequest(amount=_money(request), custom_id=reference, invoice_id=reference)


def order_to_complete(request: GatewayCallRequested) -> str:
    """Return the order that a completion goes on with.

    Raises:
        UnsendableError: no order is known, or the payer has come back from another one.
    """
    order = request.order_reference or request.payment_reference
    if order is None:
        raise UnsendableError("no order of PayPal's is known")
    details = request.details or CallDetails()
    if any(entry.name == RETURNED_ORDER and entry.value != order for entry in details.return_parameters):
        raise UnsendableError("the payer came back from another order")
    return order


def request_id(request: GatewayCallRequested) -> str:
    """Return what PayPal knows the call by, when it is made again. Raises: UnsendableError."""
    if len(request.gateway_key) > wire.MAX_REQUEST_ID_CHARS:
        raise UnsendableError(f"the idempotency key has more than {wire.MAX_REQUEST_ID_CHARS} characters")
    return request.gateway_key


def _money(request: GatewayCallRequested) -> wire.SentMoney:
    try:
        value = to_value(request.amount_minor, request.currency)
    except UnfitAmountError as error:
        raise UnsendableError(str(error)) from None
    return wire.SentMoney(currency_code=request.currency, value=value)


def _source(request: GatewayCallRequested, details: CallDetails) -> wire.PaymentSource:
    kind = details.token_kind or WALLET
    if kind not in TOKEN_KINDS:
        raise UnsendableError(f"PayPal has tokens of the kinds {', '.join(sorted(TOKEN_KINDS))}")
    back = details.return_url
    if kind == APPROVAL and back is None:
        raise UnsendableError("a payer who is to approve needs a return URL")
    method = wire.PaymentMethod(
        vault_id=None if kind == APPROVAL else request.token,
        experience_context=None if back is None else wire.ExperienceContext(return_url=back, cancel_url=back),
        stored_credential=_without_payer(kind) if details.merchant_initiated else None,
    )
    return wire.PaymentSource(card=method) if kind == CARD else wire.PaymentSource(paypal=method)


def _without_payer(kind: str) -> wire.StoredCredential:
    return wire.StoredCredential(
        payment_initiator="MERCHANT", payment_type="UNSCHEDULED" if kind == CARD else None, usage="SUBSEQUENT"
    )


def _unsendable(error: ValidationError) -> UnsendableError:
    where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
    return UnsendableError(f"{where} is not what PayPal takes")
