"""The reader of the gateways' decline codes: what is known, what is not, and what is no file of codes."""

import orjson
import pytest

from gateway_adapters.declines import MAX_CODES, read_codes
from gateway_adapters.errors import DECLINES, Code
from schemas.vocabulary import DeclineClass, RetryAdvice

FILE = {
    "source": "https://gateway.example/codes",
    "version": "v7",
    "codes": {"no_money": "insufficient_funds", "stolen": "lost_or_stolen"},
}


def file_with(**changes: object) -> bytes:
    return orjson.dumps({**FILE, **changes})


def test_code_of_the_gateway_gets_the_unified_one_and_is_kept() -> None:
    codes = read_codes(file_with())
    error = codes.decline_of("no_money", advice="try_again_later")
    assert (error.code, error.gateway_code, error.advice) == (Code.INSUFFICIENT_FUNDS, "no_money", "try_again_later")
    assert error.decline_class is DECLINES[Code.INSUFFICIENT_FUNDS].decline_class
    assert (codes.source, codes.version) == ("https://gateway.example/codes", "v7")


@pytest.mark.parametrize("code", ["brand_new", "", None])
def test_code_that_is_not_listed_is_kept_and_means_nothing(code: str | None) -> None:
    error = read_codes(file_with()).decline_of(code)
    assert (error.code, error.gateway_code) == (Code.UNKNOWN, code)
    assert (error.decline_class, error.retry) == (DeclineClass.UNKNOWN, RetryAdvice.NEVER)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"[]", "must hold source, version and codes"),
        (orjson.dumps({"source": "x", "codes": {}}), "must hold source, version and codes"),
        (file_with(source=""), "must be texts"),
        (file_with(version=7), "must be texts"),
        (file_with(codes=[]), "1 to 1000 codes"),
        (file_with(codes={}), "1 to 1000 codes"),
        (file_with(codes={str(number): "unknown" for number in range(MAX_CODES + 1)}), "1 to 1000 codes"),
        (file_with(codes={"a": "no_such_word"}), "meant by a"),
        (file_with(codes={"a": "gateway_timeout"}), "meant by a"),  # a unified code, and of no decline
        (file_with(codes={"a": None}), "meant by a"),
    ],
)
def test_file_that_is_not_one_is_refused_with_what_is_wrong(raw: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_codes(raw)
