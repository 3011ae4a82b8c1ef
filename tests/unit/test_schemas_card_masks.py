"""Card data is taken out of bytes that must be kept, and nothing else of them is touched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.card_disguises import holds_card_data
from schemas.card_masks import mask_card_data


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        (b"4111111111111111", b"9999999999991111"),
        (b'{"n":4111111111111111}', b'{"n":9999999999991111}'),
        (b"pay 4111-1111-1111-1111 now", b"pay 9999-9999-9999-1111 now"),
        (b'{"cvv": "12\\"3", "CVC":7,"cvn":null}', b'{"cvv": "***", "CVC":"***","cvn":null}'),
        (b"a=1&cvv2=123&b=2", b"a=1&cvv2=***&b=2"),
        (b"cvv=123", b"cvv=***"),
        (b'"id":"a4111111-1111-4111-8111-411111111111"', b'"id":"a4111111-1111-4111-8111-411111111111"'),
        (b"\xc3\xa94111111111111111", b"\xc3\xa99999999999991111"),
        (b"", b""),
    ],
)
def test_card_data_is_masked_and_the_rest_stays(raw: bytes, masked: bytes) -> None:
    assert mask_card_data(raw) == masked
    assert mask_card_data(masked) == masked


@given(raw=st.binary(max_size=300))
def test_bytes_stay_as_they_are_when_they_hold_no_card_data(raw: bytes) -> None:
    assert mask_card_data(raw) == raw or holds_card_data(raw)


@given(
    members=st.dictionaries(
        st.sampled_from(["a", "cvv", "number", "id"]), st.text(max_size=20) | st.integers(), max_size=4
    ),
    number=st.sampled_from(["4111111111111111", "378282246310005"]),
)
def test_json_stays_json_of_the_same_members(members: dict[str, object], number: str) -> None:
    body = {**members, "card": number, "as_number": int(number)}
    masked = json.loads(mask_card_data(json.dumps(body).encode()))
    assert masked.keys() == body.keys()
    assert masked["card"] != number
    assert masked["as_number"] != int(number)
