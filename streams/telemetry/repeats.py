"""One line a minute for each cause that repeats itself, with the count of what was left out.

Called by `logs`: a filter of the one handler. While the brokers are away aiokafka, Faust and our own clients say so at
every try, 160 lines a second from one worker: the disk fills, and nobody sees anything else. The first line of a cause
is shown at once. The next one a minute later says how many were left out (`repeated`), at the end of the text of a
library's line, as a field of ours.

A library's cause is its logger, level, the first line of its text before anything is put into it, without numbers, and
the class of the error: the same for every broker, partition and try. A line of ours is left out only if it says of
itself that it repeats (`repeats=True`): most tell of one record each, and none of those may be lost.
"""

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Final

QUIET_S: Final = 60.0
"""Between two lines of one cause."""

MAX_CAUSES: Final = 512
"""Causes remembered at once; the one that was shown longest ago is forgotten, and is shown again when it comes."""

MAX_CAUSE_CHARS: Final = 200
"""Of a text that tells one cause from another."""

MARK: Final = "repeats"
"""The field by which a line of ours says that it may be left out."""

COUNT_FIELD: Final = "repeated"

_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(slots=True)
class _Cause:
    shown_at_s: float
    left_out: int = 0


class RepeatFilter(logging.Filter):
    """Lets the first line of a cause pass, then one a minute. Any thread may log: Faust fetches in one of its own."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Remember nothing yet; `monotonic_s` is a clock that never goes back, seconds."""
        super().__init__()
        self._monotonic_s = monotonic_s
        self._causes: OrderedDict[Hashable, _Cause] = OrderedDict()
        self._lock = Lock()  # a handler takes its own only after its filters

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is shown; one that stands for others is given their count."""
        key = _cause_of(record)
        if key is None:
            return True
        with self._lock:
            left_out = self._left_out_before(key)
        if left_out:
            _tell(record, left_out)
        return left_out is not None

    def _left_out_before(self, key: Hashable) -> int | None:
        """Return how many lines of the cause this one stands for beside itself; None: it is left out, too."""
        now_s = self._monotonic_s()
        known = self._causes.get(key)
        if known is not None and now_s - known.shown_at_s < QUIET_S:
            known.left_out += 1
            return None
        self._causes[key] = _Cause(shown_at_s=now_s)
        self._causes.move_to_end(key)
        if len(self._causes) > MAX_CAUSES:
            self._causes.popitem(last=False)
        return 0 if known is None else known.left_out


def _cause_of(record: logging.LogRecord) -> Hashable | None:
    """Return what makes two lines the same; None: a line that is shown whenever it comes."""
    if isinstance(record.msg, dict):  # a line of ours, as structlog hands it over
        event = record.msg
        if not event.pop(MARK, False):
            return None
        return record.name, record.levelno, event.get("event"), event.get("error"), event.get("error_type")
    if record.levelno < logging.WARNING:
        return None
    error = record.exc_info[0] if record.exc_info else None
    classes = tuple(type(each) for each in _values(record) if isinstance(each, BaseException))
    text = _NUMBER.sub("#", str(record.msg).partition("\n")[0][:MAX_CAUSE_CHARS])
    return record.name, record.levelno, text, error, classes


def _values(record: logging.LogRecord) -> tuple[object, ...]:
    return record.args if isinstance(record.args, tuple) else ()


def _tell(record: logging.LogRecord, left_out: int) -> None:
    if isinstance(record.msg, dict):
        record.msg = {**record.msg, COUNT_FIELD: left_out}
    else:
        # The text is made here, so that a template with `%` in it is not filled in twice.
        record.msg, record.args = f"{record.getMessage()} ({COUNT_FIELD} {left_out} times since)", ()
