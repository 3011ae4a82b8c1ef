"""The figures of tables in short: every row that is due goes, and no other. How long it takes is the command line's."""

from pathlib import Path

import pytest

from streams.agents import sweep
from tests.faults.figures import expiry, timers
from tests.faults.figures.expiry import Table
from tests.faults.figures.report import Report

pytestmark = [pytest.mark.slow, pytest.mark.untraced, pytest.mark.timeout(300)]


@pytest.mark.parametrize("table", ["orders", "claims"])
async def test_rows_that_are_due_go_and_the_others_stay(
    tmp_path: Path, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "ROWS_A_SECOND", 100_000)
    monkeypatch.setattr(sweep, "REQUESTS_A_SECOND", 100_000)
    monkeypatch.setattr(sweep, "CPU_SHARE", 1.0)
    report = Report()
    await expiry.measure(report, tmp_path, table=table, rows=8_000, due=1_600, strict=False)
    assert report.misses == []


def test_rows_wait_longer_each_day_when_fewer_are_asked_for_than_come_due() -> None:
    ten_s, hundred_s = (expiry.longest_wait_s(days, rows_a_second=1_000, asked_a_second=900) for days in (10, 100))
    assert hundred_s - ten_s == pytest.approx(90 * 24 * 3_600 * 100 / 900)


def test_rows_wait_for_the_night_at_most_when_as_many_are_asked_for_as_come_due() -> None:
    kept_up_s, month_s = (expiry.longest_wait_s(days, rows_a_second=1_000, asked_a_second=1_100) for days in (3, 30))
    assert kept_up_s == pytest.approx(month_s)
    assert 0 < month_s < 12 * 3_600
    assert expiry.longest_wait_s(30, rows_a_second=1_000, asked_a_second=1_801) == 0


async def test_timers_come_and_go_with_their_partitions(tmp_path: Path) -> None:
    report = Report()
    await timers.measure(report, tmp_path, timers=20_000, partitions=4, strict=False)
    assert report.misses == []
