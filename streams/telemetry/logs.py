"""Logs: one JSON line an event, by structlog, redacted by an allow-list.

Called once by each program's start (`configure`). A field reaches the log only when its name is in `ALLOWED_FIELDS`
and its value is a plain scalar; anything else shows as `[redacted]`. So a new field is silent until somebody has
thought about it, and a token, key or body cannot leak by being passed along. What an allowed field shows depends on who
makes up its values: what this engine does (ids, codes, positions) is shown as it is, so that an id in an answer is
found in the log; an id of a merchant's is masked when it is a card number or a token; free text is masked in part.
Exceptions show their class and where they were raised, never their text, which may hold what was being handled.

Libraries that use the standard library's logging (aiokafka, Faust, aiohttp) come out in the same form, from WARNING up:
aiokafka prints keys and values at DEBUG.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from enum import Enum
from types import TracebackType
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from schemas.card_numbers import holds_card_number
from schemas.vocabulary import DeadLetterReason
from streams.telemetry.repeats import RepeatFilter

REDACTED = "[redacted]"
MAX_VALUE_CHARS = 500
MAX_FRAMES = 8

ALLOWED_FIELDS = frozenset(
    {
        # who and where
        "event", "level", "timestamp", "logger", "component", "instance", "version", "pid",
        # the log itself
        "topic", "partition", "partitions", "offset", "offsets", "group", "generation", "key_bytes", "value_bytes",
        "records", "lag", "percent", "topics", "action", "wanted", "actual",
        # the payment, by identifiers that the merchant or this engine made up
        "origin_id", "order_id", "payment_id", "refund_id", "op_id", "command_id", "event_id", "request_id", "kind",
        "state", "status", "outcome", "transition", "attempt", "call_number", "gateway", "account",
        "policy_version", "rejection", "release", "sequence", "amount_minor", "currency",
        # what happened
        "reason", "code", "error", "error_type", "error_where", "retry", "retry_after_s", "timeout_s", "duration_ms",
        "due_at_ms", "calls", "in_flight", "abandoned", "limit", "count", "attempts", "host", "port", "route", "method",
        "http_status", "trace_id", "span_id", "signal", "setting", "path", "mode", "repeats", "repeated",
        # a worker's memory: its tables, their files, what is remembered of results
        "app", "table", "rows", "folder", "age_ms", "local_offset", "results", "wanted_from_ms", "known_from_ms",
    }
)  # fmt: skip
"""The only fields whose values are shown."""

MERCHANTS_FIELDS = frozenset({"origin_id", "order_id"})
"""Made up by merchants: masked as a whole when it could be a card number or a gateway's token."""

TEXT_FIELDS = frozenset({"event", "reason", "error", "wanted", "actual", "path", "setting"})
"""Sentences, of ours or of a library: what could be a card number or a token is masked where it stands."""

# What a library's free text may hold all the same: card numbers and gateway tokens. Not the id of a request, a member
# or an event, and not a code of ours that begins like a token.
_MACHINE_ID = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})(?![0-9A-Za-z])"
)
_DIGIT_RUN = re.compile(r"(?:\d[ -]?){12,19}")
_TOKEN = re.compile(rf"\b(?!{DeadLetterReason.CARD_NUMBER}\b)(?:tok|pm|src|card|seti|whsec|sk|rk|pk)_\w+")


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Return the event with every field that is not allowed, or not a scalar, masked."""
    return {name: _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: object) -> object:
    if name not in ALLOWED_FIELDS:
        return REDACTED
    if isinstance(value, bool | int | float) or value is None:
        return value
    if not isinstance(value, str):
        return REDACTED
    text = str(value)[:MAX_VALUE_CHARS]
    if isinstance(value, Enum) or name not in _MADE_UP_ELSEWHERE:
        return text
    if name in MERCHANTS_FIELDS:
        return REDACTED if holds_card_number(text) or _TOKEN.search(text) else text
    return masked(text)


_MADE_UP_ELSEWHERE = MERCHANTS_FIELDS | TEXT_FIELDS


def masked(text: str) -> str:
    """Return the text cut to its limit, without runs of digits as long as a card number and without gateway tokens.

    An id that a machine made (a UUID, 32 hexadecimal digits with a letter) stays: it is what one searches the log for.
    """
    text = text[:MAX_VALUE_CHARS]
    parts, start = [], 0
    for found in _MACHINE_ID.finditer(text):  # at most one for each 32 characters of MAX_VALUE_CHARS
        if not found[0].replace("-", "").isdecimal():
            parts += [_masked(text[start : found.start()]), found[0]]
            start = found.end()
    return "".join([*parts, _masked(text[start:])])


def _masked(text: str) -> str:
    return _TOKEN.sub(REDACTED, _DIGIT_RUN.sub(REDACTED, text))


def describe_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the exception's class and the innermost places it came through."""
    raw = event.pop("exc_info", None)
    error = sys.exc_info()[1] if raw is True else raw[1] if isinstance(raw, tuple) else raw
    event.pop("exc_text", None)
    event.pop("stack_info", None)
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__qualname__
        event["error_where"] = _places(error.__traceback__)
    return event


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        describe_exception,
        redact,
    ]


def configure(
    *,
    component: str,
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO",
    form: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Set up logging for this process; calling it again replaces what was set up before.

    Args:
        component: the program's name, on every line.
        level: least level of the engine's own lines; libraries are kept at WARNING or above.
        form: JSON lines, or lines for a person.
        stream: where lines go; standard error by default, so that standard output stays for answers.
        fields: further fields on every line.
    """
    renderer: Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    for room in ("streams", "http_ingress", "gateway_adapters", "schemas"):
        logging.getLogger(room).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(component=component, **(fields or {}))
