"""Fetches all peers (`make peers`), several tools at once, and says of each whether it is there.

Usage: `python -m tests.peers [--or-skip]`. Ends with 1 when one is missing. With `--or-skip` it ends with 0 then,
unless `TESTS_REQUIRE_PEERS` is 1: the tests that need it are skipped, with the reason and a count.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.peers.install import KITS, Kit, PeerUnavailableError, fetched, peers_are_required


def main(arguments: Sequence[str]) -> int:
    """Fetch them; returns the exit code."""
    with ThreadPoolExecutor(len(KITS)) as tools:
        missing = [reason for reason in tools.map(missed, KITS) if reason]
    for reason in missing:
        sys.stderr.write(f"{reason}\n")
    may_miss = "--or-skip" in arguments and not peers_are_required()
    if missing and may_miss:
        sys.stderr.write("the tests that need them are skipped\n")
    return 1 if missing and not may_miss else 0


def missed(kit: Kit) -> str:
    """Fetch it; returns why that failed, or nothing."""
    try:
        fetched(kit)
    except PeerUnavailableError as missing:
        return f"peers: {kit.name}: {missing}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
