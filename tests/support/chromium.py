"""Debian's Chromium, headless, for tests that look at a page as a person would. Skipped where there is none."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

REQUIRE_VARIABLE = "TESTS_REQUIRE_CHROMIUM"
"""Set to 1 where a page that no browser has shown counts for nothing (continuous integration)."""

LIMIT_S = 120.0
PAGE_TIME_MS = 15_000
"""Of the page's own clock, which runs ahead as long as nothing is loaded: no wait on the wall."""
FLAGS = (
    "--headless",
    "--no-sandbox",  # a test may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_or_skip() -> str:
    """Return the browser; without one the test is skipped with the reason, or fails where nothing may be skipped."""
    found = shutil.which("chromium")
    if found is None:
        missing = "no Chromium: install Debian's package chromium"
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(f"{REQUIRE_VARIABLE}=1, but {missing}", pytrace=False)
        pytest.skip(missing)
    return found


async def page_in_chromium(url: str, profile: Path) -> str:
    """Return the page as it stands once its scripts have run: its markup."""
    process = await asyncio.create_subprocess_exec(
        chromium_or_skip(),
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--virtual-time-budget={PAGE_TIME_MS}",
        "--dump-dom",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        markup, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return markup.decode()
