"""CloudEvents times: milliseconds since the epoch as RFC 3339 text, and back. Called by `schemas.cloud_event` only."""

import functools
import re
from datetime import UTC, datetime, timedelta

MAX_TIME_CHARS = 64
MAX_CACHED_SECONDS = 16  # messages of one moment share their second

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}):(\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_LEAP_SECOND = 60
_OWN_CHARS = len("2026-11-22T10:15:30.250Z")  # the form that `text_of` writes, which nearly every message has


@functools.lru_cache(maxsize=MAX_CACHED_SECONDS)
def _second(epoch_s: int) -> str:
    return (_EPOCH + timedelta(seconds=epoch_s)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")


def text_of(time_ms: int) -> str:
    """Return the time in UTC with milliseconds, such as `2026-11-22T10:15:30.250Z`.

    Raises: OverflowError outside the years 1 to 9999.
    """
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


def ms_of(text: str) -> int:
    """Return the time in milliseconds; finer digits are cut off, a leap second counts as the one after it.

    Raises: ValueError for what is not RFC 3339.
    """
    if len(text) == _OWN_CHARS and text[19] == "." and text[23] == "Z" and text.isascii() and text[20:23].isdigit():
        return _second_ms(text[:19]) + int(text[20:23])
    return _any_ms(text)


@functools.lru_cache(maxsize=MAX_CACHED_SECONDS)
def _second_ms(text: str) -> int:
    return _any_ms(text + "Z")


def _any_ms(text: str) -> int:
    match = _RFC3339.fullmatch(text) if len(text) <= MAX_TIME_CHARS else None
    if match is None:
        raise ValueError("not an RFC 3339 time")
    day, minute, second, fraction, sign, offset_h, offset_min = match.groups()
    leap = int(second) == _LEAP_SECOND
    moment = datetime.fromisoformat(f"{day}T{minute}:{'59' if leap else second}+00:00")
    since_epoch = moment - _EPOCH + timedelta(seconds=int(leap))
    if sign is not None:
        since_epoch -= _offset(sign, int(offset_h), int(offset_min))
    return since_epoch // _MILLISECOND + int((fraction or "")[:3].ljust(3, "0"))


def _offset(sign: str, hours: int, minutes: int) -> timedelta:
    if hours > 23 or minutes > 59:  # noqa: PLR2004 -- the clock's own limits
        raise ValueError("not an RFC 3339 offset")
    distance = timedelta(hours=hours, minutes=minutes)
    return distance if sign == "+" else -distance
