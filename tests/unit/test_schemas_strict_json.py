"""Strict JSON takes what its caller asked for, and says why it took nothing else."""

import json

import pytest

from schemas.strict_json import MAX_INTEGER_DIGITS, BadJsonError, TooDeepError, parse

DEPTH = 4


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\xff", "UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'[{"a": {"b": 1, "b": 2}}]', "twice"),
        (b"NaN", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"1" * (MAX_INTEGER_DIGITS + 1), "digits"),
        (b"1.0", "not an integer"),
        (b"1e3", "not an integer"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"[" * 100_000, "deeper"),
    ],
)
def test_json_is_refused_and_said_why_when_readers_could_differ(raw: bytes, why: str) -> None:
    with pytest.raises(BadJsonError, match=why):
        parse(raw, max_depth=DEPTH)


@pytest.mark.parametrize("raw", [b"[" * DEPTH + b"1" + b"]" * DEPTH, b'{"a": ' * DEPTH + b"{}" + b"}" * DEPTH])
def test_json_is_too_deep_when_what_stands_innermost_is(raw: bytes) -> None:
    with pytest.raises(TooDeepError):
        parse(raw, max_depth=DEPTH)
    assert parse(raw, max_depth=DEPTH + 1) == json.loads(raw)


def test_fractions_and_surrogates_are_taken_when_the_caller_judges_them() -> None:
    assert parse(b"[1.5, 1e3, 2]", max_depth=DEPTH, fractions=True) == [1.5, 1000.0, 2]
    assert parse(b'{"\\ud800": "\\ud800"}', max_depth=DEPTH, lone_surrogates=True) == {"\ud800": "\ud800"}
