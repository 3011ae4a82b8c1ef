# ruff: noqa: RUF001 -- digits that only look like ours are what is tested
"""What looks like card data is found however it is spelled, and what merely has many digits is not."""

import contextlib
import json
import string
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.card_numbers import MAX_GROUPS, MAX_NODES, TooMuchToCheckError, find_card_number, holds_card_number
from schemas.record_shapes import RECORD_CLASSES, Record, name_of
from schemas.records.commands import Command, PaymentRequested
from tests.support.golden_messages import example
from tests.support.record_strategies import commands

# The schemes' and gateways' own test numbers.
TEST_NUMBERS = [
    *("4111111111111111", "4242424242424242", "4222222222222", "5555555555554444", "2223003122003222"),
    *("378282246310005", "371449635398431", "6011111111111117", "3530111333300000", "30569309025904"),
    *("36227206271667", "38520000023237", "6200000000000005", "6205500000000000004", "6759649826438453"),
    *("2200000000000004", "6304000000000000", "5019717010103742", "6062826786276634", "9792030394440796"),
]


@pytest.mark.parametrize("number", TEST_NUMBERS)
def test_number_is_found_when_it_is_one_of_the_schemes_test_numbers(number: str) -> None:
    assert holds_card_number(number)


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111\u00a01111\u00a01111\u00a01111",
        "4111\u20091111\u20091111\u20091111",
        "4111\u20131111\u20131111\u20131111",
        "4\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "4111\n1111\t1111\r\n1111",
        "4111_1111_1111_1111",
        "4111/1111/1111/1111",
        "4111 - 1111 - 1111 - 1111",
        "３７８２８２２４６３１０００５",
        "４１１１　１１１１　１１１１　１１１１",
        "٤١١١١١١١١١١١١١١١",
        "④①①①①①①①①①①①①①①①",
        "my card is 4111111111111111, thanks",
        "card4111111111111111x",
        "order 12 4111 1111 1111 1111",
        "4111 1111 1111 1111 12/29",
        ";4111111111111111=29121010000012300000?",
        "%B4111111111111111^DOE/JANE^2912101?",
        '{"number":"4111111111111111"}',
        "12345678-1234-1234-1234-123456789012 4111111111111111",
        "550e8400-e29b-41d4-a716-446655440000 4111111111111111",
        "4111(1111)1111(1111)",
        "(4111) [1111] {1111} <1111>",
        "4111----1111----1111----1111",
        "4111 -=-=-=-=- 1111 ... 1111 \\ 1111",
        "4111\u200b\u200b\u200b\u200b\u200b1111\u200b1111\u200b1111",
    ],
)
def test_number_is_found_when_something_stands_between_or_around_its_digits(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "1234567812345670",  # passes Luhn, no issuer
        "411111111111111",  # too short for its issuer
        "41111111111111111111111111111111",  # a run of digits that is longer than any card number
        "0000000000000000",
        "2026-11-22T10:15:30.250Z",
        "1795342530250",
        "order-20261122-000123",
        "550e8400-e29b-41d4-a716-446655440000",
        "a4111111-1111-4111-8111-411111111111",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "de0b6b3a7640000ad78ebc5ac620000a4111111111111111bcdefabcdefabcdef",
        "tok_1NwXyz4111",
        "",
        "12",
    ],
)
def test_text_is_let_through_when_it_merely_has_many_digits(text: str) -> None:
    assert not holds_card_number(text)


def test_random_uuids_and_digests_are_let_through() -> None:
    # Without the rule for ids that machines make, some of these would be refused by chance.
    for index in range(20_000):
        name = uuid.uuid5(uuid.NAMESPACE_URL, str(index))
        if any(letter in "abcdef" for letter in str(name)):
            assert not holds_card_number(str(name))
            assert not holds_card_number(name.hex)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"token": "4111111111111111"}, "$.token"),
        ({"a": [{"b": {"c": "4111 1111 1111 1111"}}]}, "$.a[0].b.c"),
        ({"4111111111111111": 1}, "$.<key>"),
        ({"a": {"4111-1111-1111-1111": {}}}, "$.a.<key>"),
        ({"number": 4111111111111111}, "$.number"),
        ({"number": -4111111111111111}, "$.number"),
        ({"number": 4111111111111111.0}, "$.number"),
        ({"raw": b"4111111111111111"}, "$.raw"),
        (["x", 378282246310005], "$[1]"),
        ("4111111111111111", "$"),
        ({"cvv": None}, "$.cvv"),
        ({"card": {"CVC2": ""}}, "$.card.CVC2"),
        ({"security_code": 1}, "$.security_code"),
        ({"ｃｖｖ": "1"}, "$.ｃｖｖ"),
        ({"track-1 data": "x"}, "$.track-1 data"),
        ({"Track2": "x"}, "$.Track2"),
        ({"cardVerificationValue": 1}, "$.cardVerificationValue"),
    ],
)
def test_card_data_is_told_by_its_path(body: object, path: str) -> None:
    assert find_card_number(body) == path


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 1999, "currency": "USD", "token": "tok_123", "orderId": "order-1", "capture": True},
        {"trackingNumber": "1Z999AA10123456784", "tracking": 1},
        {"amount": 10**40, "rate": float("nan"), "limit": float("inf"), "share": 0.5},
        [4111, 1111, 1111, 1111],
        None,
        True,
    ],
)
def test_body_is_let_through_when_it_has_no_card_data(body: object) -> None:
    assert find_card_number(body) is None


@pytest.mark.parametrize("cls", RECORD_CLASSES, ids=name_of)
def test_records_are_looked_through_field_by_field(cls: type[Record]) -> None:
    assert find_card_number(example(cls)) is None
    command = example(PaymentRequested)
    poisoned: Any = [command, type(command)(**{**_fields(command), "token": "4111111111111111"})]
    assert find_card_number(poisoned) == "$[1].token"


def _fields(command: PaymentRequested) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__slots__}


def test_body_is_refused_when_it_holds_more_than_anybody_looks_at() -> None:
    with pytest.raises(TooMuchToCheckError):
        find_card_number([0] * MAX_NODES)
    assert holds_card_number("1 " * (MAX_GROUPS + 1))


def test_depth_costs_nothing_and_paths_stay_short() -> None:
    deep: object = "4111111111111111"
    for _ in range(5_000):
        deep = {"a" * 100: [deep]}
    path = find_card_number(deep, max_nodes=20_000)
    assert path is not None
    assert len(path) < 1_000


WORST_UNITS = [
    *(
        "4 ",
        "41",
        "1-",
        "4111 ",
        "a4",
        "4111111111111111-",
        "\u200b4",
        "１ ",
        "f" * 31 + "-",
        "4" * 15 + "a",
        "0-",
        "(4",
    ),
    *(" " * 11 + "|", "4111 1111 1111 1112|", "1 1 1 1 1 1|", "4111111111111112|", "4000 " * 3 + "4000|", "⑳", "٤١١١ "),
    *("550e8400-e29b-41d4-a716-446655440000 ", "ffff4111111111111111ffffffffffff ", "\ufdfa", "9" * 20 + " ", "é4 "),
]
BODY_BYTES = 64 * 1024
MAX_GUARD_S = 0.02  # on a quiet machine at most 0.002: ten times that for one that is not


def least_time_s(look: Callable[[], object]) -> float:
    """Return the CPU time of the quickest of five runs."""

    def once() -> float:
        before_s = time.process_time()
        look()
        return time.process_time() - before_s

    return min(once() for _ in range(5))


@pytest.mark.parametrize("unit", WORST_UNITS)
def test_work_stays_small_when_a_text_is_made_to_hurt(unit: str) -> None:
    text = unit * (BODY_BYTES // len(unit.encode()))
    assert least_time_s(lambda: holds_card_number(text)) < MAX_GUARD_S


@pytest.mark.parametrize(
    "body",
    [
        [0] * (BODY_BYTES // 2),
        [{"a": 1}] * (BODY_BYTES // 8),
        ["4 " * 32] * (MAX_NODES - 100),
        {f"{number} " + "c4" * 30: "4 " * 3 + "x" * 50 for number in range(480)},
        {f"{number}": 4111111111111112 for number in range(480)},
        ["\uff14 1 " * 9] * (MAX_NODES - 100),
    ],
    ids=["numbers", "objects", "strings", "keys", "candidates", "wide"],
)
def test_work_stays_small_when_a_body_is_made_to_hurt(body: object) -> None:
    def look() -> None:
        with contextlib.suppress(TooMuchToCheckError):
            find_card_number(body)

    assert least_time_s(look) < MAX_GUARD_S


def luhn_digit(digits: str) -> str:
    return next(last for last in string.digits if _luhn(digits + last))


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(sum(map(int, str(number))) for number in doubled) % 10 == 0


SEPARATORS = st.sampled_from(["", " ", "-", ".", "\u00a0", " - ", "\u2009", "\u200b"])
HEADS = [
    ("4", 16),
    ("51", 16),
    ("2221", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("3528", 16),
    ("36", 14),
    ("62", 19),
]


@st.composite
def spelled_numbers(draw: st.DrawFn) -> str:
    head, length = draw(st.sampled_from(HEADS))
    rest = draw(st.text(string.digits, min_size=length - len(head) - 1, max_size=length - len(head) - 1))
    number = head + rest + luhn_digit(head + rest)
    wide = str.maketrans(string.digits, "０１２３４５６７８９") if draw(st.booleans()) else {}
    separator = draw(SEPARATORS)
    size = draw(st.integers(1, 6))
    groups = [number[at : at + size] for at in range(0, len(number), size)]
    return separator.join(groups).translate(wide)


@given(number=spelled_numbers(), words=st.lists(st.text('abcxyz{}":,', max_size=8), min_size=2, max_size=2))
def test_every_number_is_found_in_keys_and_values_at_any_depth(number: str, words: list[str]) -> None:
    text = f"{words[0]}x{number}x{words[1]}"
    assert find_card_number({"a": [{"b": text}]}) == "$.a[0].b"
    assert find_card_number({"a": [{text: "b"}]}) == "$.a[0].<key>"
    assert find_card_number(json.loads(json.dumps({"a": [text]}))) == "$.a[0]"


@given(command=commands())
def test_valid_commands_hold_no_card_number_unless_a_merchant_put_one_there(command: Command) -> None:
    path = find_card_number(command)
    assert path in {None, "$.order_id", "$.idempotency_key", "$.origin_id"}
