"""PayPal's amounts and currencies, held to ISO's data; and our reference there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.paypal.money import EXPONENTS, MAX_CHARS, UnfitAmountError, to_minor, to_value
from gateway_adapters.paypal.references import MAX_CHARS as MAX_REFERENCE_CHARS
from gateway_adapters.paypal.references import operation_in, reference_of
from schemas.identifiers import MAX_OP_ID_CHARS, OpId
from schemas.money import MAX_AMOUNT_MINOR, exponents
from schemas.vocabulary import CallKind


def test_currencies_are_isos_and_differ_in_the_two_that_paypal_counts_in_whole_units() -> None:
    iso = exponents()
    assert set(EXPONENTS) <= set(iso)
    assert {code for code in EXPONENTS if EXPONENTS[code] != iso[code]} == {"HUF", "TWD"}
    assert {code for code, decimals in EXPONENTS.items() if decimals == 0} == {"HUF", "JPY", "TWD"}


@pytest.mark.parametrize(
    ("minor", "currency", "value"),
    [
        (1, "USD", "0.01"),
        (10_000, "USD", "100.00"),
        (500, "JPY", "500"),
        (50_000, "HUF", "500"),
        (50_000, "TWD", "500"),
        (MAX_AMOUNT_MINOR, "EUR", "10000000000.00"),
    ],
)
def test_amount_is_written_and_read_with_paypals_decimals(minor: int, currency: str, value: str) -> None:
    assert to_value(minor, currency) == value
    assert to_minor(value, currency) == minor


@given(st.integers(1, MAX_AMOUNT_MINOR // 100), st.sampled_from(sorted(EXPONENTS)))
def test_amount_that_can_be_said_comes_back_as_it_was(units: int, currency: str) -> None:
    minor = units * 10 ** (exponents()[currency] - EXPONENTS[currency])
    assert to_minor(to_value(minor, currency), currency) == minor


@pytest.mark.parametrize(("minor", "currency"), [(50_001, "HUF"), (1, "TWD"), (100, "INR"), (100, "XXX")])
def test_amount_that_paypal_does_not_take_is_not_said(minor: int, currency: str) -> None:
    with pytest.raises(UnfitAmountError):
        to_value(minor, currency)


@pytest.mark.parametrize(
    ("value", "currency"),
    [
        ("", "USD"),
        ("-1.00", "USD"),
        ("1,00", "USD"),
        ("1e3", "USD"),
        (".5", "USD"),
        ("1.", "USD"),
        ("1.001", "USD"),
        ("0.5", "JPY"),
        ("1.00", "INR"),
        ("\u0661.00", "USD"),
        ("1" * (MAX_CHARS + 1), "USD"),
        ("10000000000.01", "USD"),
        (" 1.00", "USD"),
    ],
)
def test_what_is_no_amount_is_not_read(value: str, currency: str) -> None:
    with pytest.raises(UnfitAmountError):
        to_minor(value, currency)


@pytest.mark.parametrize(
    ("value", "currency", "minor"),
    [("1.5", "USD", 150), ("1", "USD", 100), ("1.000", "USD", 100), ("500.00", "JPY", 500), ("500.5", "HUF", 50_050)],
)
def test_decimals_are_read_as_they_come(value: str, currency: str, minor: int) -> None:
    assert to_minor(value, currency) == minor


LONGEST = OpId("o" * MAX_OP_ID_CHARS)


@pytest.mark.parametrize("kind", [CallKind.AUTHORIZE, CallKind.SALE, CallKind.CAPTURE, CallKind.REFUND])
def test_reference_names_kind_and_operation_and_fits(kind: CallKind) -> None:
    reference = reference_of(kind, LONGEST)
    assert len(reference) <= MAX_REFERENCE_CHARS
    assert operation_in(reference) == (kind, LONGEST)


@pytest.mark.parametrize(
    "foreign", [None, "", "1234", "sale", "sale:", "sale:with space", "sale:" + "o" * 65, "void:op_1", "SALE:op_1"]
)
def test_reference_of_somebody_else_is_none_of_ours(foreign: str | None) -> None:
    assert operation_in(foreign) is None
    assert operation_in(foreign, "sale:op_1") == (CallKind.SALE, "op_1")
