"""Rows are remembered by their bytes, within limits, and a remembered row is never taken for another class."""

import dataclasses

import pytest

from schemas.decode_errors import DecodeError
from schemas.messages import MessageCodec, SchemaIds
from schemas.records.claims import ClaimRow
from schemas.records.timers import OpenTimer
from schemas.row_cache import MAX_ROWS_PER_GENERATION, RowCache
from tests.support.golden_messages import example

TIMER = example(OpenTimer)


def test_row_is_not_decoded_again_when_its_bytes_are_known() -> None:
    codec = MessageCodec(SchemaIds.packaged())
    value = codec.encode_row(TIMER)
    assert codec.decode_row(OpenTimer, bytes(bytearray(value))) is TIMER
    other = MessageCodec(SchemaIds.packaged())
    first = other.decode_row(OpenTimer, value)
    assert first == TIMER
    assert other.decode_row(OpenTimer, value) is first


def test_row_is_refused_when_another_class_is_asked_for() -> None:
    codec = MessageCodec(SchemaIds.packaged())
    value = codec.encode_row(TIMER)
    with pytest.raises(DecodeError):
        codec.decode_row(ClaimRow, value)


def test_rows_are_forgotten_when_there_are_too_many() -> None:
    cache = RowCache()
    cache.put(b"first", TIMER)
    cache.put(b"used", TIMER)
    for number in range(MAX_ROWS_PER_GENERATION):
        cache.put(b"%d" % number, dataclasses.replace(TIMER, number=number))
    assert cache.get(b"used") is TIMER  # of the old generation, and young again
    for number in range(MAX_ROWS_PER_GENERATION):
        cache.put(b"again %d" % number, TIMER)
    assert cache.get(b"first") is None
    assert cache.get(b"used") is TIMER
    assert cache.get(b"nobody") is None


def test_row_that_is_replaced_is_not_kept_any_longer() -> None:
    codec = MessageCodec(SchemaIds.packaged())
    value = codec.encode_row(TIMER)
    following = dataclasses.replace(TIMER, number=TIMER.number + 1)

    codec.encode_row(following, replaced=value)

    again = codec.decode_row(OpenTimer, value)
    assert again == TIMER
    assert again is not TIMER


def test_row_is_known_still_when_it_is_written_once_more_in_its_own_place() -> None:
    codec = MessageCodec(SchemaIds.packaged())
    value = codec.encode_row(TIMER)

    assert codec.encode_row(TIMER, replaced=value) == value

    assert codec.decode_row(OpenTimer, value) is TIMER


def test_row_of_the_old_generation_is_forgotten_when_it_is_replaced() -> None:
    cache = RowCache()
    cache.put(b"first", TIMER)
    for number in range(MAX_ROWS_PER_GENERATION):
        cache.put(b"%d" % number, TIMER)

    cache.forget(b"first")
    cache.forget(b"nobody")

    assert cache.get(b"first") is None
    assert cache.get(b"0") is TIMER
