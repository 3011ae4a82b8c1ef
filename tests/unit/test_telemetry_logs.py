"""What reaches the log: only what somebody thought about."""

import io
import json
import logging
import random
import uuid
from collections.abc import Iterator
from enum import StrEnum

import pytest
import structlog

from http_ingress.representation.problems import ProblemCode
from schemas.vocabulary import DeadLetterReason, Rejection
from streams.telemetry import logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure(component="test", stream=stream)
    yield stream
    root.handlers, root.level = before, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def parsed(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log_shows_allowed_fields_and_masks_the_others(lines: io.StringIO) -> None:
    structlog.get_logger("streams.x").info("call_done", op_id="op_1", token="tok_visa", idempotency_key="k", offset=7)
    (line,) = parsed(lines)
    assert (line["event"], line["op_id"], line["offset"], line["component"]) == ("call_done", "op_1", 7, "test")
    assert (line["token"], line["idempotency_key"]) == (logs.REDACTED, logs.REDACTED)


def test_log_masks_an_allowed_field_when_its_value_is_no_scalar(lines: io.StringIO) -> None:
    structlog.get_logger("streams.x").info("odd", reason={"token": "tok_visa"})
    assert parsed(lines)[0]["reason"] == logs.REDACTED


def test_log_shows_where_and_not_what_when_an_exception_is_logged(lines: io.StringIO) -> None:
    def refuse() -> None:
        raise ValueError("tok_visa 4111111111111111")

    try:
        refuse()
    except ValueError:
        structlog.get_logger("streams.x").exception("failed")
    (line,) = parsed(lines)
    assert line["error_type"] == "ValueError"
    assert "refuse" in str(line["error_where"])
    assert "tok_visa" not in lines.getvalue()
    assert "4111" not in lines.getvalue()


def test_log_masks_cards_and_tokens_when_a_library_writes_free_text(lines: io.StringIO) -> None:
    logging.getLogger("aiokafka").warning("cannot send %s for 4111 1111 1111 1111", "tok_visa")
    logging.getLogger("aiokafka").debug("Sending (key=k value=tok_visa)")
    (line,) = parsed(lines)
    assert line["event"] == f"cannot send {logs.REDACTED} for {logs.REDACTED}"


def test_log_cuts_a_text_when_it_is_too_long(lines: io.StringIO) -> None:
    structlog.get_logger("streams.x").info("long", reason="x" * 10_000)
    assert len(str(parsed(lines)[0]["reason"])) == logs.MAX_VALUE_CHARS


IDS = 2_000  # of random request ids one in 29 has twelve digits in a row


@pytest.mark.parametrize(
    "field", ["request_id", "command_id", "event_id", "payment_id", "op_id", "trace_id", "span_id"]
)
def test_log_shows_every_id_of_ours_whatever_its_digits_are(field: str) -> None:
    chance = random.Random(7)
    for _ in range(IDS):
        made = uuid.UUID(int=chance.getrandbits(128), version=4)
        for text in (made.hex, str(made), made.hex[:16]):
            assert logs.redact(None, "info", {field: text}) == {field: text}


def test_log_shows_ids_that_machines_made_in_free_text(lines: io.StringIO) -> None:
    member = "aiokafka-0.13.0-00000000-0000-4000-8000-00000000000a"
    logging.getLogger("aiokafka").warning("Heartbeat of %s failed for 41111111111111114111111111111a11", member)
    (line,) = parsed(lines)
    assert line["event"] == f"Heartbeat of {member} failed for 41111111111111114111111111111a11"


@pytest.mark.parametrize("code", [*ProblemCode, *DeadLetterReason, *Rejection])
def test_log_shows_every_code_of_ours(code: StrEnum) -> None:
    for field in ("code", "reason", "rejection"):
        assert logs.redact(None, "info", {field: code}) == {field: code.value}
    assert logs.redact(None, "info", {"reason": str(code), "code": str(code)}) == {"reason": code, "code": code}


def test_log_finds_a_card_incident_by_its_code_and_its_request(lines: io.StringIO) -> None:
    request_id = "41111111111111110000000000000000"
    structlog.get_logger("streams.x").info("request", code="card_number", request_id=request_id)
    (line,) = parsed(lines)
    assert (line["code"], line["request_id"]) == ("card_number", request_id)


@pytest.mark.parametrize("field", sorted(logs.MERCHANTS_FIELDS))
@pytest.mark.parametrize("value", ["4111111111111111", "4111(1111)1111(1111)", "order-4111-1111-1111-1111", "tok_visa"])
def test_log_masks_an_id_of_a_merchants_as_a_whole_when_it_is_a_card_number_or_a_token(field: str, value: str) -> None:
    assert logs.redact(None, "info", {field: value}) == {field: logs.REDACTED}
    assert logs.redact(None, "info", {field: "order-20261122-000123"}) == {field: "order-20261122-000123"}
