"""What is sent to Adyen and read of it stands in Adyen's own document. A validator lets unknown members pass."""

import json
from typing import Any

import pytest

from gateway_adapters.adyen import translate, wire
from tests.peers import ADYEN_DOCUMENT

SCHEMAS: dict[str, dict[str, Any]] = json.loads(ADYEN_DOCUMENT.read_bytes())["components"]["schemas"]


def members_of(shape: type[wire.Sent] | type[wire.Read]) -> set[str]:
    return {str(field.alias or name) for name, field in shape.model_fields.items()}


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        (wire.PaymentRequest, ("PaymentRequest",)),
        (wire.DetailsRequest, ("PaymentDetailsRequest",)),
        (wire.ModificationRequest, ("PaymentCaptureRequest", "PaymentRefundRequest")),
        (wire.Amount, ("Amount",)),
        (wire.BrowserInfo, ("BrowserInfo",)),
        (wire.PaymentAnswer, ("PaymentResponse",)),
        (wire.ModificationAnswer, ("PaymentCaptureResponse", "PaymentRefundResponse")),
        (wire.ErrorAnswer, ("ServiceError",)),
        (wire.Action, ("CheckoutRedirectAction",)),
    ],
)
def test_every_member_stands_in_adyens_document(
    shape: type[wire.Sent] | type[wire.Read], names: tuple[str, ...]
) -> None:
    for name in names:
        assert members_of(shape) <= set(SCHEMAS[name]["properties"])


@pytest.mark.parametrize("name", ["PaymentRequest", "PaymentDetailsRequest", "BrowserInfo", "Amount"])
def test_every_member_that_adyen_wants_is_there(name: str) -> None:
    shape = {"PaymentDetailsRequest": wire.DetailsRequest}.get(name) or getattr(wire, name)
    needed = {str(field.alias or own) for own, field in shape.model_fields.items() if field.is_required()}
    assert set(SCHEMAS[name]["required"]) <= needed


def test_cancel_is_a_modification_without_an_amount() -> None:
    assert members_of(wire.ModificationRequest) - {"amount"} <= set(SCHEMAS["PaymentCancelRequest"]["properties"])
    assert "amount" not in SCHEMAS["PaymentCancelRequest"]["properties"]


def test_results_are_those_of_adyens_document() -> None:
    told = set(SCHEMAS["PaymentResponse"]["properties"]["resultCode"]["enum"])
    # Of authentication alone, which is never asked for; and one that its own description does not explain.
    unexplained = {"AuthenticationFinished", "AuthenticationNotRequired", "Success"}
    assert told == set(translate.OUTCOMES) | unexplained


def test_completion_members_are_those_of_adyens_document() -> None:
    assert set(SCHEMAS["PaymentCompletionDetails"]["properties"]) - {"resultCode"} == translate.COMPLETION_MEMBERS


def test_modification_is_received_and_nothing_else() -> None:
    for name in ("PaymentCaptureResponse", "PaymentCancelResponse", "PaymentRefundResponse"):
        assert SCHEMAS[name]["properties"]["status"]["enum"] == [translate.RECEIVED]


def test_hold_is_told_by_a_member_of_adyens_document() -> None:
    assert "manualCapture" in SCHEMAS["AdditionalDataCommon"]["properties"]
