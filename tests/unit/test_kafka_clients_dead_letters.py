"""Whatever a record holds, its dead letter can be appended: a letter that cannot stops the partition for good."""

import random

import pytest

from schemas import topics
from schemas.messages import MessageCodec
from schemas.records.dead_letters import DeadLetter
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import DeadLetterReason
from streams.kafka.pipeline import oversize
from streams.kafka.step import Outgoing, Step
from streams.kafka_clients.dead_letters import MAX_RAW_BYTES, dead_letter_of, letter_message
from streams.kafka_clients.log_reader import LogRecord

CODEC = MessageCodec(SchemaIds.packaged())
HALF = MAX_RAW_BYTES // 2
NAME_OF_TEN = "\N{POUND SIGN}" * 5


def letter_of(key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> DeadLetter:
    record = LogRecord(
        topic=topics.COMMANDS, partition=1, offset=2, timestamp_ms=3, key=key, value=value, headers=headers
    )
    return dead_letter_of(record, component="orders", reason=DeadLetterReason.UNDECODABLE, detail="noise")


def avro_long(number: int) -> bytes:
    zigzag, encoded = number << 1, bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes(encoded) + bytes([zigzag])


def test_letter_is_whole_when_its_bytes_mean_nothing() -> None:
    chance = random.Random(3)
    noise = [b"\x00" + chance.randbytes(1_000) for _ in range(300)]
    assert not any(letter_of(b"k", each).withheld for each in noise)


def fault_of(letter: DeadLetter) -> str | None:
    """Return why a worker could not append the letter."""
    message = letter_message(CODEC, letter)
    said = Outgoing(topic=topics.DLQ, key=letter.key, value=message.value, headers=message.headers)
    return oversize(Step(rows=(), speak=(said,)))


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"\xff" * 1_048_400, b"v", ()),
        (b"k", b"\xff" * 2_000_000, ()),
        (b"k", b"v", [("n", b"\xff" * 100_000)] * 30),
        (b"k", b"v", [(r"\xff" * 1_000_000, b"")]),
        (b"k", b"v", [("\N{POUND SIGN}" * 1_000_000, b"")]),
        (b"k", b"v", [("", b"")] * 160_000),
        (b"\xff" * 700_000, b"\xff" * 700_000, [("n", b"\xff" * 700_000)]),
    ],
    ids=["key", "value", "header values", "escaped name", "long name", "many headers", "all together"],
)
def test_letter_can_be_appended_and_says_that_bytes_are_missing_when_the_record_is_too_large_for_one(
    key: bytes, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    letter = letter_of(key, value, *headers)
    assert fault_of(letter) is None
    assert letter.withheld
    assert letter.reason is DeadLetterReason.UNDECODABLE


def test_letter_is_whole_when_the_record_is_just_small_enough() -> None:
    letter = letter_of(b"\xff" * 100, b"\xff" * (HALF - 200), (NAME_OF_TEN, b"\xff" * (HALF - 20)))
    assert fault_of(letter) is None
    assert not letter.withheld
    assert (len(letter.key or b""), len(letter.value or b""), len(letter.headers)) == (100, HALF - 200, 1)


def test_letter_keeps_key_and_headers_when_the_value_is_a_byte_too_much() -> None:
    letter = letter_of(b"\xff" * 100, b"\xff" * (HALF - 199), (NAME_OF_TEN, b"\xff" * (HALF - 20)))
    assert (letter.withheld, letter.value) == (True, None)
    assert (len(letter.key or b""), len(letter.headers)) == (100, 1)


def test_letter_has_neither_key_nor_headers_when_they_alone_are_a_byte_too_much() -> None:
    letter = letter_of(b"\xff" * HALF, None, ("", b""))
    assert (letter.withheld, letter.key, letter.headers) == (True, None, ())


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", b"v", [("4111111111111111", b"")]),
        (b"k", b"v", [("CVV", b"")]),
        (b"k", b"v", [("n", b"4111111111111111")]),
        (b"k", b"v", [("n", b"NDExMTExMTExMTExMTExMQ==")]),
        (b"4111 1111 1111 1111", b"v", []),
        (b"k", b'{"data":{"token":"tok_1","cvv":"123"}}', []),
        (b"k", b'{"data":{"token":"tok_1","\\u0063vc":"123"}}', []),
        (b"k", b'{"data":{"track-2 data":"x"}', []),
        (b"k", b"\x00\x00\x00\x00\x01\x20" + b"4111111111111111" + b"\x02", []),
        (b"k", b"\x00\x00\x00\x00\x01\x02x" + avro_long(4111111111111111) + b"\x06USD", []),
    ],
)
def test_letter_keeps_its_position_alone_when_there_is_card_data_anywhere_in_the_record(
    key: bytes, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    letter = letter_of(key, value, *headers)
    assert (letter.topic, letter.partition, letter.offset) == (topics.COMMANDS, 1, 2)
    assert letter.withheld
    assert (letter.reason, letter.key, letter.value, letter.headers) == (DeadLetterReason.CARD_NUMBER, None, None, ())
