"""Dead letters as a table and as JSON. Called by `dlq`."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from streams.cli.terminal import console, say
from streams.cli.times import shown_time

if TYPE_CHECKING:
    from schemas.records.dead_letters import DeadLetter
    from streams.operator_tools.dead_letters import Letter
    from streams.operator_tools.redrive import Done, Plan

MAX_TEXT_BYTES = 4_000
_SENSITIVE_HEADERS = frozenset({"authorization", "cookie", "x-api-key"})

Json = dict[str, object]


def as_json(letter: "Letter") -> Json:
    """Return the letter without its raw bytes."""
    return {
        "position": str(letter.position),
        "state": letter.state.value,
        "dead_at": shown_time(letter.dead_at_ms),
        "reason": letter.reason.value,
        "detail": letter.detail,
        "component": letter.component,
        "topic": letter.topic,
        "original": str(letter.original),
        "key": _text(letter.key),
        "origin_id": letter.origin_id,
        "value_bytes": letter.value_bytes,
        "withheld": letter.withheld,
        "redrives": letter.redrives,
        "copies": [str(position) for position in sorted(letter.copies)],
        "handled": [
            {
                "action": handled.action,
                "operator": handled.operator,
                "note": handled.note,
                "at": shown_time(handled.handled_at_ms),
            }
            for handled in letter.handlings
        ],
    }


def whole_as_json(letter: "DeadLetter", *, raw: bool) -> Json:
    """Return the dead record's headers and, if asked for, its bytes; credentials among the headers are masked."""
    headers = [
        {"name": each.name, "value": "[redacted]" if each.name.lower() in _SENSITIVE_HEADERS else _text(each.value)}
        for each in letter.headers
    ]
    whole: Json = {"headers": headers}
    if raw and letter.value is not None:
        whole["value_base64"] = base64.b64encode(letter.value).decode()
        whole["value_text"] = _text(letter.value[:MAX_TEXT_BYTES])
    return whole


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", errors="backslashreplace")


def draw(letters: Sequence["Letter"], *, total: int) -> None:
    """Print a table of letters."""
    if not letters:
        say("no dead letters")
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("at", "died", "reason", "topic", "original", "key", "origin", "state", "detail", box=None)
    for letter in letters:
        cells = (
            str(letter.position),
            shown_time(letter.dead_at_ms),
            letter.reason.value,
            letter.topic,
            str(letter.original),
            _text(letter.key) or "",
            letter.origin_id or "",
            letter.state.value + (f" (redriven {letter.redrives}x before)" if letter.redrives else ""),
            letter.detail,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(table)
    if total > len(letters):
        say(f"the newest {len(letters)} of {total}; see --limit")


def draw_whole(answer: Mapping[str, object]) -> None:
    """Print one letter, a line a field."""
    for name, value in answer.items():
        if isinstance(value, list):
            for each in value:
                line = " ".join(f"{key}={part}" for key, part in each.items()) if isinstance(each, dict) else str(each)
                say(printable(f"{name:<14}{line}"))
        else:
            say(printable(f"{name:<14}{'' if value is None else value}"))


def printable(text: str) -> str:
    """Return the text without control characters: what a stranger sent must not steer a terminal."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def plan_as_json(plan: "Plan") -> Json:
    """Return what a run would do."""
    return {
        "chosen": [str(letter.position) for letter in plan.chosen],
        "left": [{"position": str(letter.position), "why": why.value} for letter, why in plan.left],
    }


def report_as_json(plan: "Plan", done: Sequence["Done"], *, action: str, dry_run: bool) -> Json:
    """Return what a run did."""
    return {
        "action": action,
        "dry_run": dry_run,
        **plan_as_json(plan),
        "done": [
            {
                "position": str(each.letter.position),
                "topic": each.letter.topic if each.appended_at else None,
                "appended_at": None if each.appended_at is None else str(each.appended_at),
            }
            for each in done
        ],
    }


def say_left(plan: "Plan") -> None:
    """Print how many letters were left, by reason."""
    for why, count in Counter(why for _, why in plan.left).items():
        say(f"{count} left: {why.value.replace('_', ' ')}")
