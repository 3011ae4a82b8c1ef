"""The whole suite in two halves that run side by side (`make test`).

Much of it waits: for brokers, groups and leases. So two halves fill two cores, and take little more than half of the
time. Each is a pytest of its own: the broker of `tests.conftest.kafka` belongs to the half that asks for it.

The output of the longer half is shown as it comes, that of the other once both have ended: they never mix. Coverage is
of both together; `pyproject.toml` says what it must reach.

Usage: `python -m tests.side_by_side [pytest's options]`, then `coverage report`.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

TESTS: Final = Path(__file__).parent
FIRST: Final = frozenset({"contract", "faults", "property", "unit", "upgrade"})
"""Folders of one half; all others are the other, so that none can be forgotten."""

HALVES: Final[Mapping[str, tuple[Path, ...]]] = {
    "the other folders": tuple(
        sorted(TESTS / name for name in {each.relative_to(TESTS).parts[0] for each in TESTS.rglob("test_*.py")} - FIRST)
    ),
    ", ".join(sorted(FIRST)): tuple(sorted(TESTS / name for name in FIRST)),
}
"""The one that is shown as it comes, then the one that is told at the end."""

STOP_TIMEOUT_S = 60.0
"""What a half may take to end its processes when it is interrupted."""

INTERRUPTED = 128 + signal.SIGINT


def main(options: Sequence[str] = ()) -> int:
    """Run both halves with these options of pytest; returns 0 when both passed."""
    coverage("erase")
    started_s = time.monotonic()
    with tempfile.TemporaryFile() as told, running(options, told) as halves:
        codes = {name: half.wait() for name, half in halves.items()}
        told.seek(0)
        say(told.read().decode(errors="replace"))
    coverage("combine", "--quiet")
    for name, code in codes.items():
        say(f"{name}: {'passed' if code == 0 else f'failed, pytest ended with {code}'}\n")
    say(f"both halves took {time.monotonic() - started_s:.0f} s\n")
    return 0 if not any(codes.values()) else 1


@contextlib.contextmanager
def running(options: Sequence[str], told: IO[bytes]) -> Iterator[Mapping[str, subprocess.Popen[bytes]]]:
    """Yields both halves by name, the second of which tells there; afterwards both have ended, whatever happens."""
    halves: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, folders in HALVES.items():
            halves[name] = subprocess.Popen(
                [sys.executable, "-m", "coverage", "run", "-m", "pytest", *map(str, folders), *options],
                stdin=subprocess.DEVNULL,
                stdout=told if halves else None,
                stderr=subprocess.STDOUT if halves else None,
                process_group=0,  # who stops this program stops it alone, and it stops them once
            )
        yield halves
    finally:
        for half in halves.values():
            end(half)


def end(half: subprocess.Popen[bytes]) -> None:
    """Interrupt a half that is still under way, so that it stops what it started."""
    if half.poll() is not None:
        return
    half.send_signal(signal.SIGINT)
    try:
        half.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        half.kill()
        half.wait()


def coverage(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "coverage", *arguments], check=True)


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
