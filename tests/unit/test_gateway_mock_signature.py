import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.errors import UnauthenticError
from gateway_adapters.mock.signature import sign, verify

SECRET = "whsec_1"
MORE = ["v1" * 1000, "t=-1,v1=ab", "t=1000,v1=é", "t=1000,v1=\udcff"]


@given(body=st.binary(max_size=200), at_s=st.integers(0, 10**11), away_s=st.integers(-300, 300))
def test_signature_holds_for_its_own_bytes_within_the_tolerance(body: bytes, at_s: int, away_s: int) -> None:
    verify(sign(body, secret=SECRET, at_s=at_s), body, secrets=[SECRET], now_s=at_s + away_s, tolerance_s=300)


@given(body=st.binary(max_size=50), other=st.binary(max_size=50))
def test_signature_holds_for_no_other_bytes(body: bytes, other: bytes) -> None:
    header = sign(body, secret=SECRET, at_s=1000)
    if body != other:
        with pytest.raises(UnauthenticError, match="match"):
            verify(header, other, secrets=[SECRET], now_s=1000, tolerance_s=300)


@pytest.mark.parametrize("now_s", [699, 1301])
def test_signature_is_refused_when_it_is_too_old_or_from_the_future(now_s: int) -> None:
    with pytest.raises(UnauthenticError, match="old"):
        verify(sign(b"{}", secret=SECRET, at_s=1000), b"{}", secrets=[SECRET], now_s=now_s, tolerance_s=300)


def test_time_cannot_be_changed_without_the_secret() -> None:
    header = sign(b"{}", secret=SECRET, at_s=1000).replace("t=1000", "t=2000")
    with pytest.raises(UnauthenticError, match="match"):
        verify(header, b"{}", secrets=[SECRET], now_s=2000, tolerance_s=300)


def test_one_of_several_signatures_is_enough_while_a_secret_is_rotated() -> None:
    old, new = (sign(b"{}", secret=secret, at_s=1000) for secret in ("old", "new"))
    header = f"{old},{new.partition(',')[2]}"
    verify(header, b"{}", secrets=["new"], now_s=1000, tolerance_s=300)
    verify(header, b"{}", secrets=["old"], now_s=1000, tolerance_s=300)
    with pytest.raises(UnauthenticError):
        verify(header, b"{}", secrets=["another"], now_s=1000, tolerance_s=300)


def test_each_of_several_secrets_is_good_while_one_is_replaced() -> None:
    header = sign(b"{}", secret="new", at_s=1000)
    verify(header, b"{}", secrets=["old", "new"], now_s=1000, tolerance_s=300)
    with pytest.raises(UnauthenticError, match="match"):
        verify(header, b"{}", secrets=["old", "older"], now_s=1000, tolerance_s=300)


def test_no_webhook_is_authentic_when_there_is_no_secret() -> None:
    with pytest.raises(UnauthenticError, match="match"):
        verify(sign(b"{}", secret="", at_s=1000), b"{}", secrets=[], now_s=1000, tolerance_s=300)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1=ab",
        "t=1000",
        "t=,v1=ab",
        "t=x,v1=ab",
        "t=1000,t=1000,v1=ab",
        "t=9999999999999,v1=ab",
        "t=٣,v1=ab",
        *MORE,
    ],
)
def test_malformed_header_is_refused_and_nothing_else_happens(header: str) -> None:
    with pytest.raises(UnauthenticError):
        verify(header, b"{}", secrets=[SECRET], now_s=1000, tolerance_s=300)


@given(header=st.text(max_size=100), body=st.binary(max_size=20))
def test_arbitrary_header_is_refused_and_nothing_else_happens(header: str, body: bytes) -> None:
    with pytest.raises(UnauthenticError):
        verify(header, body, secrets=[SECRET], now_s=1000, tolerance_s=300)
