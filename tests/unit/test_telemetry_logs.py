"""What reaches the log: only what somebody thought about."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

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
