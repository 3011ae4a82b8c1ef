"""A record's time is its sender's word: whatever it is, it can be written as text."""

import pytest

from schemas import rfc3339
from streams.kafka.worker import record_time_ms


@pytest.mark.parametrize(
    ("timestamp_s", "expected_ms"),
    [(1_763_850_000.123, 1_763_850_000_123), (0.001, 1), (-0.001, 0), (2**63 / 1000, 253_402_300_799_000)],
)
def test_record_time_is_within_the_years_that_can_be_written_when_the_sender_says_any(
    timestamp_s: float, expected_ms: int
) -> None:
    assert record_time_ms(timestamp_s) == expected_ms
    assert rfc3339.ms_of(rfc3339.text_of(expected_ms)) == expected_ms
