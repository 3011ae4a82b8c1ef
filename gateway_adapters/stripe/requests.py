"""The engine's requests in Stripe's words: parameters of its calls. Pure.

Optional parameters are sent when they are asked for or needed, and not else. What Stripe gives back in every word about
an object, its metadata, holds whose it is: origin, order, operation, and the gateway key, which tells attempts apart.

Captures of one payment share its payment intent, so each leaves an entry of its own there: `cap_<operation>`, with its
amount and the time of its request. That is how an inquiry finds it, and how an event tells which capture it is about.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway_adapters.stripe.amounts import to_stripe
from schemas.identifiers import OpId
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind

Params = dict[str, object]

CARD: Final = "card"
"""The kind of payment method, where the token's kind says no other."""

ORIGIN: Final = "origin_id"
ORDER: Final = "order_id"
OPERATION: Final = "op_id"
KEY: Final = "gateway_key"

_CAPTURE: Final = re.compile(r"cap_(?P<op>.{1,36})")
_CAPTURED: Final = re.compile(r"(?P<amount>[0-9]{1,16}) (?P<at_ms>[0-9]{1,16})")


class CaptureNote(NamedTuple):
    """What a capture left in its payment's metadata."""

    op_id: OpId
    amount: int  # as Stripe counts
    requested_at_ms: int  # of its first request, by our clock


def creation(request: GatewayCallRequested, *, multicapture: bool) -> Params:
    """Return the parameters of a payment intent, confirmed at once.

    Args:
        request: an authorize or a sale.
        multicapture: whether the account may capture a hold several times.

    Raises:
        UncountableError: Stripe has no number for the amount.
    """
    details = request.details or CallDetails()
    kind = details.token_kind or CARD
    params: Params = {
        "amount": to_stripe(request.amount_minor, request.currency),
        "currency": request.currency.lower(),
        "confirm": True,
        "payment_method_types": [kind],
        "metadata": {each.name: each.value for each in details.metadata} | _ours(request),
        "expand": ["latest_charge"],
    }
    params |= _method(request.token or "")
    if request.kind is CallKind.AUTHORIZE:
        params["capture_method"] = "manual"
        if multicapture and kind == CARD:
            params["payment_method_options"] = {CARD: {"request_multicapture": "if_available"}}
    if details.payer_reference is not None:
        params["customer"] = details.payer_reference
    if details.return_url is not None:
        params["return_url"] = details.return_url
    if details.statement_descriptor is not None:
        # Of a card payment Stripe refuses the whole descriptor: the account's prefix stands before this.
        name = "statement_descriptor_suffix" if kind == CARD else "statement_descriptor"
        params[name] = details.statement_descriptor
    if details.merchant_initiated:
        params["off_session"] = True
    return params


def capture(request: GatewayCallRequested, *, multicapture: bool) -> Params:
    """Return the parameters of a capture. Raises: UncountableError."""
    amount = to_stripe(request.amount_minor, request.currency)
    params: Params = {
        "amount_to_capture": amount,
        "metadata": {capture_name(request.op_id): f"{amount} {request.first_requested_at_ms}"},
        "expand": ["latest_charge"],
    }
    if multicapture and not request.final:
        params["final_capture"] = False  # Stripe lets the rest go otherwise
    return params


def refund(request: GatewayCallRequested) -> Params:
    """Return the parameters of a refund. Raises: UncountableError."""
    return {
        "payment_intent": request.payment_reference,
        "amount": to_stripe(request.amount_minor, request.currency),
        "metadata": _ours(request),
    }


def search(request: GatewayCallRequested) -> str:
    """Return the search for the payment that this inquiry is about, by the key of its attempt."""
    quoted = request.gateway_key.replace("\\", "\\\\").replace('"', '\\"')
    return f'metadata["{KEY}"]:"{quoted}"'


def capture_name(op_id: str) -> str:
    """Return the name under which a capture stands in its payment's metadata: at most Stripe's 40 characters."""
    return f"cap_{op_id}"


def capture_notes(metadata: Mapping[str, str]) -> list[CaptureNote]:
    """Return what captures have left in a payment's metadata. A merchant's own entries are none."""
    notes = []
    for name, value in metadata.items():
        named, said = _CAPTURE.fullmatch(name), _CAPTURED.fullmatch(value)
        if named is not None and said is not None:
            notes.append(CaptureNote(OpId(named["op"]), int(said["amount"]), int(said["at_ms"])))
    return notes


def _ours(request: GatewayCallRequested) -> dict[str, str]:
    return {
        ORIGIN: request.origin_id,
        ORDER: request.order_id,
        OPERATION: request.op_id,
        KEY: request.gateway_key,
    }


def _method(token: str) -> Params:
    if token.startswith("ctoken_"):  # what Stripe's page in the payer's browser makes: method and consent in one
        return {"confirmation_token": token}
    return {"payment_method": token}
