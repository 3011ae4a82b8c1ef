"""Times as an operator types and reads them. Called by the command modules."""

import re
from datetime import UTC, datetime

import typer

from streams.kafka_clients.log_clock import wall_clock_ms

_AGO = re.compile(r"(\d{1,6})(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

WHEN_HELP = "2026-11-22T10:00:00Z, or how long ago: 90s, 15m, 2h, 7d."


def parse_when(text: str | None) -> int | None:
    """Return the time meant, milliseconds since the epoch. Raises: typer.BadParameter."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return wall_clock_ms() - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; write {WHEN_HELP}") from None
    # Without an offset it is UTC, as all times of the engine are shown.
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def shown_time(at_ms: int) -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
