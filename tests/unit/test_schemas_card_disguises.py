"""A card number is found in its usual disguises, and a dead letter's bytes in every form that they come in."""

import base64
import json
import string
import urllib.parse
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import card_numbers
from schemas.card_disguises import hides_card_number, holds_card_data, is_split_over, without_card_number

VISA = "4111111111111111"
AMEX = "378282246310005"


def in_base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        VISA,
        "4111a1111b1111c1111",
        "4111 and 1111 and 1111 and 1111",
        "x4111xxxxxxxx1111xx1111x1111y",
        "3782x822463xx10005",
        "4z1z1z1z1z1z1z1z1z1z1z1z1z1z1z1z",
        "41xx11xx11xx11xx11xx11xx11xx11",
        "411z111z111z111z111z1",
        urllib.parse.quote("4111 1111 1111 1111"),
        "".join(f"%{ord(digit):02x}" for digit in VISA),
        "".join(f"%25{ord(digit):02X}" for digit in VISA),
        VISA.encode().hex(),
        "0x" + b"4111-1111-1111-1111".hex().upper(),
        f"pay_{in_base64(VISA)}_AAAAAAAAAAAAAAAA",
        in_base64("4111 1111 1111 1111"),
        base64.b64encode(json.dumps({"number": VISA}).encode()).decode(),
    ],
)
def test_number_is_found_in_its_disguise(text: str) -> None:
    assert hides_card_number(text)
    assert hides_card_number(f"order-{text}")


@given(
    number=st.sampled_from([VISA, AMEX, "6200000000000005", "36227206271667"]),
    before=st.text(string.printable, max_size=7),
    after=st.text(string.printable, max_size=7),
)
def test_number_is_found_in_base64_and_hexadecimal_wherever_it_stands(number: str, before: str, after: str) -> None:
    text = f"{before}x{number}x{after}"
    assert hides_card_number(base64.b64encode(text.encode()).decode())
    assert hides_card_number(in_base64(text))
    assert hides_card_number(text.encode().hex())
    assert hides_card_number(urllib.parse.quote(text))


@pytest.mark.parametrize(
    "text",
    [
        "4111a1111b1111c1112",  # Luhn
        "4111aaaaaaaaa1111b1111c1111",  # a gap of nine
        "4111a111b1111c11111",  # no card's groups
        "a4111111-1111-4111-8111-411111111111",
        str(uuid.UUID(int=0x4111_1111_1111_4111_8111_1111_1111_111A)),
        "tok_visa",
        "%zz%1",
        "",
    ],
)
def test_text_is_let_through_when_it_only_resembles_a_disguise(text: str) -> None:
    assert not hides_card_number(text)


def test_number_is_found_when_it_is_split_over_a_token_and_another_field() -> None:
    assert is_split_over("41111111", ["11111111"])
    assert is_split_over("11111111", ["order", "4111-1111"])
    assert not is_split_over("41111111", ["11111112"])
    assert not is_split_over("tok_41111111", ["11111111"])  # a gateway's token, and an order number
    assert not is_split_over("4111111", ["111"])


def test_trace_context_is_given_up_when_one_of_its_ids_is_a_card_number() -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
    assert without_card_number(good) == good
    assert without_card_number(None) is None
    assert without_card_number(f"00-{VISA.zfill(32)}-00f067aa0ba902b7-01") is None
    assert without_card_number(f"00-0af7651916cd43dd8448eb211c80319c-{VISA}-01") is None


def as_avro_long(number: int) -> bytes:
    zigzag, encoded = number << 1, bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes(encoded) + bytes([zigzag])


@pytest.mark.parametrize(
    "raw",
    [
        VISA.encode(),
        b'{"cvv":"123"}',
        b'{"card": {"CVC2" : 123}}',
        b'{"\\u0063vv":"123"}',
        b'{"data":"{\\"cvv\\":\\"123\\"}"}',
        b'{"track-1 data": "x"',
        b"amount=1&cvv2=123",
        b"<card><cvv>123</cvv></card>",
        b'{"number":"\\u00344111111111111111"}'.replace(b"44111", b"4111"),
        b"\x00\x00\x00\x00\x01\x20" + VISA.encode() + b"\x02",
        b"\x00\x00\x00\x00\x01\x0eoriginA" + as_avro_long(int(VISA)) + b"\x06USD",
        json.dumps({"data_base64": base64.b64encode(b"\x00\x00\x00\x00\x01\x20" + VISA.encode()).decode()}).encode(),
        b"\xff" + VISA.encode().hex().encode(),
        json.dumps({"a": [0] * 60_000}).encode(),
    ],
)
def test_bytes_hold_card_data_in_whatever_form_they_come(raw: bytes) -> None:
    assert holds_card_data(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"amount":1999,"validation":true,"tracking":"1Z999AA10123456784"}',
        b"\x00\x00\x00\x00\x01\x0eoriginA\x0eorder-1" + as_avro_long(1_764_000_000_123) + b"\x06USD",
        '{"name":"\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587"}'.encode(),
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
)
def test_bytes_are_let_through_when_they_hold_none(raw: bytes) -> None:
    assert not holds_card_data(raw)


@pytest.mark.parametrize("name", sorted(card_numbers._SECRET_KEYS))
def test_every_name_of_a_secret_is_found_in_text_of_any_form(name: str) -> None:
    for text in (f'"{name}": 1', f"a=1&{name.upper()}=2", f"the {name}: 3", f"<card><{name}>4</{name}></card>"):
        assert holds_card_data(text.encode())


def test_names_of_several_words_are_found_and_others_are_not() -> None:
    assert holds_card_data(b"the card's security code: 123")
    assert holds_card_data(b"track 1 data=x")
    assert not holds_card_data(b"tracking number: 123, pinned=true, valid=yes")
