"""Does this machine's clock agree with the log's? Called by `examination`.

Kafka has no question for the time. Without writing, the doctor can only see that records come from the future. Asked to
(`probe`), it writes one record to a topic of its own with LogAppendTime, whose time the broker's clock gives.
"""

from collections.abc import Iterator

from schemas.topics import COMMANDS, EVENTS, GATEWAY_RESULTS
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.operator_tools.log import Log

WARN_SKEW_MS = 1_000
FAIL_SKEW_MS = 30_000
"""Past it, time-outs, retries and gateway key windows are judged wrongly."""

TAIL_RECORDS = 1
_STAMPED_TOPICS = (COMMANDS, GATEWAY_RESULTS, EVENTS)
_WHY = "Timers, gateway key windows and the life of claims are counted by record times."
_FIX = "Run NTP (chrony, systemd-timesyncd) on this machine and on the brokers."


def judge_log(log: Log, *, now_ms: int) -> Iterator[Finding]:
    """Yield whether the newest records are stamped in this machine's future. Raises: as `Log.read`."""
    newest = (record.timestamp_ms for topic in _STAMPED_TOPICS for record in log.read(topic, tail=TAIL_RECORDS))
    newest_ms = max(newest, default=None)
    if newest_ms is None:
        yield ok(Subject.CLOCK, "no record on the log to compare this clock with; `--probe` asks the broker's clock")
    elif newest_ms > now_ms + WARN_SKEW_MS:
        yield _ahead(newest_ms - now_ms)
    else:
        yield ok(Subject.CLOCK, "no record on the log is from this clock's future; `--probe` asks the broker's clock")


def _ahead(skew_ms: int) -> Finding:
    say = failure if skew_ms > FAIL_SKEW_MS else warning
    return say(
        Subject.CLOCK,
        f"the newest record is {skew_ms / 1000:.1f} s in the future: this clock is behind, or a producer's ahead",
        why=_WHY,
        fix=_FIX,
    )


def judge_probe(*, sent_ms: int, stamped_ms: int, acknowledged_ms: int) -> Finding:
    """Return how far the broker's clock is from this one, given when a record was sent, stamped and acknowledged."""
    # The broker stamped it between sending and acknowledgement; outside of that span the clocks differ for sure.
    skew_ms = max(sent_ms - stamped_ms, stamped_ms - acknowledged_ms, 0)
    if skew_ms <= WARN_SKEW_MS:
        return ok(Subject.CLOCK, f"the broker's clock and this one agree within {WARN_SKEW_MS} ms")
    side = "behind" if stamped_ms > acknowledged_ms else "ahead of"
    say = failure if skew_ms > FAIL_SKEW_MS else warning
    return say(Subject.CLOCK, f"this clock is {skew_ms / 1000:.1f} s {side} the broker's", why=_WHY, fix=_FIX)
