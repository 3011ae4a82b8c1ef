"""The strict JSON reader: it agrees with the library where that is strict, and refuses where readers could differ."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_ingress.door.request_bodies import parse_object
from http_ingress.limits import MAX_JSON_DEPTH
from http_ingress.money.bodies import PaymentBody, parse_body
from http_ingress.representation.problems import ProblemError
from schemas.strict_json import BadJsonError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=20
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=6)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((depth_of(each) for each in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(each) for each in value), default=0)
    return 1


def refusal_of(raw: bytes) -> BadJsonError | None:
    """The reader's own error for these bytes, or None when they are taken. Any other error fails the test."""
    try:
        assert isinstance(parse_object(raw), dict)
    except BadJsonError as error:
        return error
    return None


@given(OBJECTS)
def test_reader_returns_what_was_written_when_it_is_shallow_enough(value: dict[str, object]) -> None:
    raw = json.dumps(value, ensure_ascii=False).encode()
    if depth_of(value) > MAX_JSON_DEPTH:
        with pytest.raises(BadJsonError):
            parse_object(raw)
    else:
        assert parse_object(raw) == value


@given(st.binary(max_size=200))
def test_reader_raises_only_its_own_error_whatever_the_bytes_are(raw: bytes) -> None:
    assert len(str(refusal_of(raw))) < 200


@given(st.binary(max_size=60))
def test_reader_never_quotes_the_body(noise: bytes) -> None:
    assert "secret" not in str(refusal_of(b'{"secret-token-value":' + noise))


@given(OBJECTS, st.floats())
def test_reader_refuses_numbers_that_are_not_integers(value: dict[str, object], number: float) -> None:
    raw = json.dumps({**value, "amount": number}).encode()
    with pytest.raises(BadJsonError):
        parse_object(raw)


@given(TEXT, SCALARS, SCALARS)
def test_reader_refuses_duplicate_keys_at_any_depth(key: str, first: object, second: object) -> None:
    name = json.dumps(key)
    inner = f"{{{name}:{json.dumps(first)},{name}:{json.dumps(second)}}}"
    for raw in (inner, f'{{"x":[{inner}]}}'):
        with pytest.raises(BadJsonError, match="twice"):
            parse_object(raw.encode())


@given(st.dictionaries(st.sampled_from(["amount", "currency", "token", "orderId", "capture", "other"]), VALUES))
def test_body_raises_only_problems_whatever_the_members_are(members: dict[str, object]) -> None:
    problem, body = None, None
    try:
        body = parse_body(PaymentBody, members)
    except ProblemError as error:
        problem = error
    if body is not None:
        assert type(body.amount) is int
    else:
        assert problem is not None
        assert problem.status == 400
        assert problem.faults
