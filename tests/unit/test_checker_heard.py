"""Of which operations the checker holds that their gateway has told what became of them."""

from dataclasses import replace

from schemas import topics
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.gateway import GatewayCallCompleted
from schemas.schema_ids import SchemaIds
from streams.kafka_clients.log_reader import LogRecord
from tests.support.evidence import heard_of
from tests.support.order_desk import PENDING, SUCCESS, UNKNOWN, Desk, Said, completed, sale

CODEC = MessageCodec(SchemaIds.packaged())


def result_of(said: Said) -> tuple[str, LogRecord]:
    desk = Desk()
    op_id = desk.send(sale())
    desk.grant()
    result = completed(desk.requests[0], said, now_ms=desk.now_ms)
    envelope = Envelope(id="r1", source="test", type=TYPES[GatewayCallCompleted], time_ms=desk.now_ms)
    message = CODEC.encode(result, envelope)
    return op_id, replace(body(""), value=message.value, headers=tuple(message.headers))


def body(text: str) -> LogRecord:
    """A webhook that says this, as far as the checker looks."""
    return LogRecord(
        topic=topics.WEBHOOKS,
        partition=0,
        offset=0,
        timestamp_ms=0,
        key=None,
        value=text.encode(),
        headers=(),
    )


def test_operation_is_heard_of_by_its_last_word_or_by_a_notice_that_names_it() -> None:
    op_id, success = result_of(SUCCESS)
    _, nothing = result_of(UNKNOWN)
    assert heard_of(CODEC, {op_id}, [success], []) == {op_id}
    assert heard_of(CODEC, {op_id}, [nothing], []) == set()
    assert heard_of(CODEC, {op_id}, [nothing], [body(f'"op_id":"{op_id}"')]) == {op_id}


def test_operation_is_heard_of_by_a_notice_of_the_gateways_own_name_which_a_result_has_told() -> None:
    op_id, pending = result_of(PENDING)
    _, nothing = result_of(UNKNOWN)
    assert heard_of(CODEC, {op_id}, [pending], [body('"id":"ref"')]) == {op_id}
    assert heard_of(CODEC, {op_id}, [nothing], [body('"id":"ref"')]) == set()
