"""The HMACs of Adyen's webhooks: by Adyen's published vectors, and what a forger, a rotation or a broken body meets."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.adyen import signature, wire
from gateway_adapters.adyen.wire import Notification
from gateway_adapters.errors import UnauthenticError
from tests.simulators.adyen_post import HMAC_KEY, body_of, signed

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "adyen_webhook_signatures.json").read_bytes()
)
OF_ITEMS = [each for each in VECTORS if each["kind"] != "payload"]
OTHER_KEY = "6B" * 32
ITEM = {
    "pspReference": "7914073381342284",
    "merchantAccountCode": "TestMerchant",
    "merchantReference": "op_1.sale",
    "amount": {"currency": "EUR", "value": 1130},
    "eventCode": "AUTHORISATION",
    "success": "true",
    "eventDate": "2026-12-01T10:00:00+01:00",
}


def first_item(vector: dict[str, Any]) -> dict[str, Any]:
    if "item" in vector:
        return dict(vector["item"])
    body = json.loads(vector["body"])
    if "notificationItems" in body:
        body = body["notificationItems"][0]["NotificationRequestItem"]
    return dict(body)


def verify(body: bytes, *secrets: str, **headers: str) -> None:
    signature.verify(headers, body, secrets=secrets or (HMAC_KEY,))


@pytest.mark.parametrize("vector", OF_ITEMS, ids=lambda vector: vector["name"])
def test_item_is_signed_as_adyens_own_vectors_say(vector: dict[str, Any]) -> None:
    wrapped = {"notificationItems": [{"NotificationRequestItem": first_item(vector)}]}
    item = wire.read(Notification, wrapped).items[0]
    assert signature.signed_text(item) == vector["signed_string"]
    assert signature.sign(vector["signed_string"].encode(), secret=vector["hmac_key"]) == vector["signature"]


@pytest.mark.parametrize("vector", OF_ITEMS, ids=lambda vector: vector["name"])
def test_item_of_adyens_vectors_is_authentic_whatever_its_reference_holds(vector: dict[str, Any]) -> None:
    item = {**first_item(vector), "additionalData": {"hmacSignature": vector["signature"]}}
    verify(body_of([item]), vector["hmac_key"])
    with pytest.raises(UnauthenticError, match="item"):
        verify(body_of([item]), OTHER_KEY)


@pytest.mark.parametrize("vector", [each for each in VECTORS if each["kind"] == "payload"])
def test_body_that_is_signed_as_a_whole_is_authentic_by_its_header(vector: dict[str, Any]) -> None:
    body = vector["body"].encode()
    verify(body, vector["hmac_key"], hmacsignature=vector["signature"])
    with pytest.raises(UnauthenticError, match="body"):
        verify(body + b" ", vector["hmac_key"], hmacsignature=vector["signature"])


def test_every_item_of_a_batch_is_authenticated() -> None:
    good, other = signed(ITEM), signed({**ITEM, "pspReference": "X"}, secret=OTHER_KEY)
    verify(body_of([good, good]))
    for batch in ([good, other], [other, good], [good, ITEM]):
        with pytest.raises(UnauthenticError, match="item"):
            verify(body_of(batch))


@pytest.mark.parametrize(
    "change",
    [
        {"pspReference": "8"},
        {"originalReference": "8"},
        {"merchantAccountCode": "Another"},
        {"merchantReference": "op_2.sale"},
        {"amount": {"currency": "EUR", "value": 1131}},
        {"amount": {"currency": "USD", "value": 1130}},
        {"eventCode": "REFUND"},
        {"success": "false"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_signed_value_can_be_changed(change: dict[str, object]) -> None:
    verify(body_of([signed(ITEM)]))
    with pytest.raises(UnauthenticError, match="item"):
        verify(body_of([{**signed(ITEM), **change}]))


def test_each_of_several_secrets_is_good_while_one_is_replaced() -> None:
    old, new = signed(ITEM, secret=OTHER_KEY), signed(ITEM)
    verify(body_of([old, new]), OTHER_KEY, HMAC_KEY)
    with pytest.raises(UnauthenticError):
        verify(body_of([old, new]), HMAC_KEY)


def test_header_that_does_not_match_is_refused_though_the_items_are_authentic() -> None:
    with pytest.raises(UnauthenticError, match="body"):
        verify(body_of([signed(ITEM)]), hmacsignature=base64.b64encode(b"x" * 32).decode())


def test_no_webhook_is_authentic_when_there_is_no_secret() -> None:
    with pytest.raises(UnauthenticError, match="no secret"):
        signature.verify({}, body_of([signed(ITEM)]), secrets=[])


@pytest.mark.parametrize(
    "given",
    [None, 17, "", "é" * 44, "A" * 10_000, ["coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="], {}],
    ids=repr,
)
def test_signature_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(UnauthenticError):
        verify(body_of([{**ITEM, "additionalData": {"hmacSignature": given}}]))


@pytest.mark.parametrize(
    "change",
    [
        {"success": True},
        {"amount": {"currency": "EUR", "value": "1130"}},
        {"amount": {"currency": "EUR", "value": True}},
        {"amount": {"currency": "EUR", "value": 1130.0}},
        {"amount": None},
        {"pspReference": None},
        {"merchantReference": 17},
    ],
    ids=repr,
)
def test_value_of_another_type_is_refused_and_not_read_as_its_text(change: dict[str, object]) -> None:
    with pytest.raises(UnauthenticError, match="neither"):
        verify(body_of([{**signed(ITEM), **change}]))


@pytest.mark.parametrize("absent", [{"merchantReference": None}, {"originalReference": None}], ids=repr)
def test_value_that_is_null_is_signed_as_one_that_is_absent(absent: dict[str, object]) -> None:
    without = {name: value for name, value in ITEM.items() if name not in absent}
    verify(body_of([{**signed(without), **absent}]))


@given(body=st.binary(max_size=200) | st.sampled_from([b"[]", b"{}", b'{"notificationItems":[]}', b"[" * 10_000]))
def test_body_that_is_no_webhook_is_refused(body: bytes) -> None:
    with pytest.raises(UnauthenticError):
        verify(body)


@given(text=st.text(max_size=40), key=st.binary(min_size=16, max_size=64))
def test_what_a_key_signs_it_verifies(text: str, key: bytes) -> None:
    secret = key.hex()
    try:
        item = signed({**ITEM, "merchantReference": text}, secret=secret)
    except UnicodeEncodeError:  # half of a surrogate pair, which no JSON of Adyen's holds
        return
    verify(body_of([item]), secret)


def test_unfinished_surrogate_is_refused() -> None:
    body = body_of([signed(ITEM)]).replace(b"op_1.sale", b"\\ud800")
    with pytest.raises(UnauthenticError):
        verify(body)
