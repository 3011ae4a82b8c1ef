"""What the shell of every agent turns into a dead letter, and what it lets through."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from schemas import topics
from schemas.decode_errors import SchemaAwaitedError
from schemas.identifiers import GatewayName, IdempotencyKey, OrderId, OriginId
from schemas.messages import MessageCodec, Record
from schemas.records.claims import ClaimRequested, ClaimRow
from schemas.records.commands import Payer, PaymentRequested, PaymentToken
from schemas.records.dead_letters import DeadLetter
from schemas.releases import PACKAGED_IDS, UPGRADE_IT, OutdatedError
from schemas.schema_ids import SchemaIds, newest_schemas
from schemas.vocabulary import DeadLetterReason
from streams.agents.intake import Intake
from streams.agents.shell import AgentShell
from streams.cli.exits import ExitCode, exit_of
from streams.kafka.errors import LocalRowsBrokenError
from streams.kafka.step import InputEvent, RowReader, Step
from tests.support.golden_messages import envelope_of, example
from tests.support.metric_pages import observed_in, page, rise_of

CODEC = MessageCodec(SchemaIds.packaged())
EVENT = InputEvent(
    topic=topics.CLAIMS,
    partition=3,
    offset=1,
    timestamp_ms=1,
    key=b"k",
    value=b"v",
    headers=(),
    possible_replay=False,
)


def _reads(_event: InputEvent, read: RowReader) -> Step:
    read("claims", b"k")
    return Step(rows=(), speak=())


def _has_a_defect(_event: InputEvent, _read: RowReader) -> Step:
    raise ZeroDivisionError


def _is_damaged(_table: str, _key: bytes) -> bytes | None:
    raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002 -- what rocksdict raises


def test_shell_lets_it_through_when_a_row_cannot_be_read() -> None:
    """It is no fault of the record: every record of the partition would become a dead letter."""
    shell = AgentShell(_reads, codec=CODEC, component="claims")
    with pytest.raises(LocalRowsBrokenError, match="claims in partition 3"):
        shell.handle(EVENT, _is_damaged)


def test_shell_makes_a_dead_letter_when_the_agent_has_a_defect() -> None:
    step = AgentShell(_has_a_defect, codec=CODEC, component="claims").handle(EVENT, lambda _table, _key: None)
    assert step.rows == ()
    assert [message.topic for message in step.speak] == [topics.DLQ]


@pytest.mark.parametrize("take", [lambda _event, _read: Step(rows=(), speak=()), _has_a_defect])
def test_shell_counts_each_record_and_how_long_it_lay_whatever_became_of_it(
    take: Callable[[InputEvent, RowReader], Step],
) -> None:
    handled = rise_of("inputs_handled", topic=topics.CLAIMS)
    before_ms = observed_in(page(), "input_lag_ms", topic=topics.CLAIMS)
    shell = AgentShell(take, codec=CODEC, component="claims", now_ms=lambda: EVENT.timestamp_ms + 250)
    shell.handle(EVENT, lambda _table, _key: None)
    assert handled() == 1
    assert observed_in(page(), "input_lag_ms", topic=topics.CLAIMS) == before_ms + 250


def test_shell_counts_no_record_that_stops_the_worker() -> None:
    handled = rise_of("inputs_handled", topic=topics.CLAIMS)
    with pytest.raises(LocalRowsBrokenError):
        AgentShell(_reads, codec=CODEC, component="claims").handle(EVENT, _is_damaged)
    assert handled() == 0


def test_record_waits_and_is_no_dead_letter_when_a_registry_is_asked_for_its_schema() -> None:
    async def answered() -> None: ...

    def ask(_schema_id: int) -> Callable[[], Awaitable[None]]:
        return answered

    packaged = SchemaIds.packaged()
    ids = SchemaIds(own_ids={name: packaged.own_id(name) for name in newest_schemas()}, writers={}, ask=ask)
    intake = Intake(MessageCodec(ids), partitions=1)
    command = example(PaymentRequested)
    message = CODEC.encode(command, envelope_of(command))
    event = replace(EVENT, topic=topics.COMMANDS, value=message.value, headers=message.headers)

    def take(event: InputEvent, _read: RowReader) -> Step:
        intake.decode(event)
        raise AssertionError("it was read")

    with pytest.raises(SchemaAwaitedError) as awaited:
        AgentShell(take, codec=CODEC, component="orders").handle(event, lambda _table, _key: None)
    assert awaited.value.wait is answered


LATER = b"\x00" + (PACKAGED_IDS.stop - 1).to_bytes(4, "big")


def _decoding(event: InputEvent, _read: RowReader) -> Step:
    Intake(CODEC, partitions=4).decode(event)
    raise AssertionError("it was read")


def _of_a_later_release(topic: str, record: Record) -> InputEvent:
    message = CODEC.encode(record, envelope_of(record))
    return replace(EVENT, topic=topic, value=LATER + message.value[5:], headers=message.headers)


def test_worker_stops_and_names_the_place_when_a_later_release_wrote_where_nobody_else_writes() -> None:
    event = _of_a_later_release(topics.CLAIMS, example(ClaimRequested))
    place = f"{topics.CLAIMS}, partition 3, offset 1: .*{UPGRADE_IT}"
    with pytest.raises(OutdatedError, match=place) as stopped:
        AgentShell(_decoding, codec=CODEC, component="claims").handle(event, lambda _table, _key: None)
    told = exit_of(stopped.value)
    assert told is not None
    assert told[0] is ExitCode.OUTDATED


def test_command_of_an_unknown_schema_is_a_dead_letter_since_strangers_write_there_too() -> None:
    event = _of_a_later_release(topics.COMMANDS, PLAIN)
    (said,) = AgentShell(_decoding, codec=CODEC, component="orders").handle(event, lambda _table, _key: None).speak
    _, letter = CODEC.decode(said.value, said.headers)
    assert isinstance(letter, DeadLetter)
    assert letter.reason is DeadLetterReason.UNKNOWN_SCHEMA
    assert UPGRADE_IT in letter.detail


def test_worker_stops_when_a_later_release_wrote_a_row_that_an_input_needs() -> None:
    def needs_its_row(_event: InputEvent, read: RowReader) -> Step:
        CODEC.decode_row(ClaimRow, read("claims", b"k") or b"")
        raise AssertionError("it was read")

    with pytest.raises(OutdatedError, match="offset 1"):
        AgentShell(needs_its_row, codec=CODEC, component="claims").handle(EVENT, lambda _table, _key: LATER)


def _letter_of(command: PaymentRequested | None, *, value: bytes | None = None, structured: bool = False) -> DeadLetter:
    message = CODEC.encode(command or PLAIN, envelope_of(command or PLAIN))
    headers = (("content-type", b"application/cloudevents+json"),) if structured else message.headers
    event = replace(EVENT, topic=topics.COMMANDS, value=value or message.value, headers=headers)
    (said,) = AgentShell(_has_a_defect, codec=CODEC, component="orders").handle(event, lambda _table, _key: None).speak
    _, letter = CODEC.decode(said.value, said.headers)
    assert isinstance(letter, DeadLetter)
    assert letter.reason is DeadLetterReason.HANDLER_FAILED
    return letter


PLAIN = PaymentRequested(
    origin_id=OriginId("originA"),
    order_id=OrderId("order-1"),
    idempotency_key=IdempotencyKey("idem-1"),
    amount_minor=1999,
    currency="USD",
    token="tok_123",
    capture=True,
)
TELLING = (
    replace(PLAIN, payer=Payer(email="anna@example.com")),
    replace(PLAIN, token=None, tokens=(PaymentToken(gateway=GatewayName("mock"), kind="stored", value="tok_1"),)),
)


@pytest.mark.parametrize("command", TELLING, ids=["payer", "tokens"])
def test_dead_letter_leaves_out_a_command_that_tells_what_only_its_gateway_may_know(command: PaymentRequested) -> None:
    letter = _letter_of(command)
    assert (letter.value, letter.withheld, letter.key, letter.offset) == (None, True, EVENT.key, EVENT.offset)
    assert "anna" not in repr(letter)


def test_dead_letter_leaves_out_json_that_names_a_payer_when_it_cannot_be_decoded() -> None:
    value = b'{"data": {"payer": {"email": "anna@example.com"}}}'
    assert _letter_of(None, value=value, structured=True).value is None


def test_dead_letter_holds_a_command_whole_when_it_tells_nothing_of_the_kind() -> None:
    assert _letter_of(None).value is not None
    assert _letter_of(None, value=b"garbage").value == b"garbage"
