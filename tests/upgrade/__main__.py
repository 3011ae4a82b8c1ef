"""`make upgrade`: rolls there and back for as long as one likes. `python -m tests.upgrade --minutes 60 --kill`."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.kafka_cluster import KafkaCluster
from tests.support.checker import MAX_SHOWN, violations
from tests.support.evidence import EvidenceGatherer
from tests.upgrade.fleet import PLACES, WORKERS, Fleet, p99_s, running
from tests.upgrade.releases import Release, last_release, planted_next, this_release

MINUTE_S = 60
P99_AIM_S = 2.0
SETTLE_TIMEOUT_S = 600.0


def main() -> int:
    """Play, print what was seen; returns 1 when anything was violated, or when clients waited too long."""
    parser = argparse.ArgumentParser(prog="upgrade", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of rolling (default: %(default)s)")
    parser.add_argument("--kill", action="store_true", help="kill a worker in each roll, and start another")
    parser.add_argument("--next", action="store_true", help="roll to a planted next release, not from the last one")
    parser.add_argument("--seed", type=int, default=1, help="of the workload and the kills (default: %(default)s)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="payment-engine-upgrade-") as name, KafkaCluster(brokers=1) as kafka:
        folder = Path(name)
        for part in ("engine", "tree"):
            (folder / part).mkdir()
        pair = (
            (this_release(), planted_next(folder / "planted"))
            if chosen.next
            else (last_release(folder / "tree"), this_release())
        )
        return asyncio.run(_play(kafka.bootstrap_servers, folder / "engine", pair, chosen))


async def _play(brokers: str, folder: Path, pair: tuple[Release, Release], chosen: argparse.Namespace) -> int:
    before, after = pair
    chance = random.Random(chosen.seed)
    until_s = time.monotonic() + chosen.minutes * MINUTE_S
    async with running(brokers, before, folder) as fleet:
        rolls = 0
        async with fleet.load(seed=chosen.seed):
            await fleet.command(after, "topics", "apply", "--yes")
            while time.monotonic() < until_s or rolls % 2:  # ends where it began
                await _roll(fleet, before if rolls % 2 else after, chance if chosen.kill else None)
                rolls += 1
                _say(f"roll {rolls}: {len(fleet.history.requests)} operations, p99 {p99_s(fleet.client.waited):.2f} s")
        gatherer = EvidenceGatherer(fleet.engine, run=fleet.run, alone=True)
        found = violations(await gatherer.when_settled(fleet.history, timeout_s=SETTLE_TIMEOUT_S))
        found += [f"no answer: {each}" for each in fleet.unanswered()]
        seen_s = p99_s(fleet.client.waited)
    for each in found[:MAX_SHOWN]:
        _say(f"VIOLATION: {each}")
    operations = len(fleet.history.requests)
    _say(f"{rolls} rolls, {operations} operations, {len(found)} violations, p99 {seen_s:.2f} s")
    return 1 if found or (seen_s > P99_AIM_S and not chosen.kill) else 0


async def _roll(fleet: Fleet, release: Release, chance: random.Random | None) -> None:
    if chance is not None:
        await fleet.kill_worker(chance.choice(WORKERS), chance.choice(PLACES), release)
    await fleet.roll(release)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
