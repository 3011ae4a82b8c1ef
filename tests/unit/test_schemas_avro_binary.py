"""The corners of Avro's binary encoding that no writer of ours makes, but that the log may hold."""

import pytest

from schemas.avro_binary import MAX_LONG, MIN_LONG, reader_of, writer_of
from schemas.records.dead_letters import RawHeader
from schemas.records.policies import AmountLimit, OriginPolicy

POLICY = OriginPolicy(origin_id="o", version=1, gateways=(), fallback=True, max_attempts=1, limits=(), updated_at_ms=0)
HEAD = b"\x02o\x02"  # origin id and version


def policy_with(gateways: bytes) -> bytes:
    return HEAD + gateways + b"\x01\x02\x00\x00\x00" + b"\x00\x00\x00"  # no time for payers, and what is planned


def test_list_is_read_when_its_blocks_have_sizes_or_are_several() -> None:
    one_sized = policy_with(b"\x03\x08\x02a\x02b\x00")
    two_blocks = policy_with(b"\x02\x02a\x02\x02b\x00")
    for raw in (one_sized, two_blocks):
        policy, end = reader_of(OriginPolicy)(raw, 0)
        assert policy.gateways == ("a", "b")
        assert end == len(raw)


@pytest.mark.parametrize(
    "raw",
    [
        policy_with(b"\xfe\xff\xff\xff\x0f"),  # two thousand million items
        policy_with(b"\x02"),  # an item that is not there
        HEAD + b"\x00\x02",  # a boolean that is neither
        b"\x01o",  # a length below zero
        b"\x10o" + bytes(6),  # a string that goes on after the end
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length of 63 bits
        b"\x02o" + b"\xff" * 11,  # a long without an end
        b"\x02o" + b"\xff" * 9 + b"\x7f",  # a long of more than 64 bits
        b"\x02\xff\x02",  # no UTF-8
        b"",
    ],
)
def test_bytes_that_hold_no_record_are_refused(raw: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        reader_of(OriginPolicy)(raw, 0)


@pytest.mark.parametrize("number", [0, 1, -1, 63, 64, -64, -65, 2**31, MAX_LONG, MIN_LONG])
def test_long_comes_back_when_it_is_at_an_edge(number: int) -> None:
    limit = AmountLimit(currency="USD", max_amount_minor=number)
    out = writer_of(AmountLimit)(limit)
    assert reader_of(AmountLimit)(out, 0) == (limit, len(out))


@pytest.mark.parametrize("size", [0, 63, 64, 10_000])
def test_texts_and_bytes_come_back_when_their_length_takes_more_than_a_byte(size: int) -> None:
    header = RawHeader(name="é" * size, value=b"\x00" * size)
    out = writer_of(RawHeader)(header)
    assert reader_of(RawHeader)(out, 0) == (header, len(out))


def test_overlong_but_right_numbers_are_read() -> None:
    limit, end = reader_of(AmountLimit)(b"\x06USD\x82\x00", 0)
    assert (limit.max_amount_minor, end) == (1, 6)


def test_number_that_is_no_integer_is_refused_when_its_integer_was_written_before() -> None:
    writer_of(AmountLimit)(AmountLimit(currency="USD", max_amount_minor=1_764_117_000_000))
    with pytest.raises(TypeError):
        writer_of(AmountLimit)(AmountLimit(currency="USD", max_amount_minor=1_764_117_000_000.0))  # type: ignore[arg-type]


def test_number_is_written_right_when_more_were_written_than_are_remembered() -> None:
    for number in (*range(1_000, 10_000), *range(1_000, 1_010)):
        out = writer_of(AmountLimit)(AmountLimit(currency="USD", max_amount_minor=number))
        assert reader_of(AmountLimit)(out, 0)[0].max_amount_minor == number
