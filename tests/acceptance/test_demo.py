"""`payment-engine demo`, as a new user runs it."""

import subprocess
import sys

import pytest

from streams.development.demo.script import SCENES

DEMO_LIMIT_S = 120.0
"""Alone it takes about 20 s; other tests may share the machine."""


@pytest.mark.slow
@pytest.mark.timeout(DEMO_LIMIT_S + 30)
def test_demo_plays_every_scene_and_ends_well_when_the_engine_does_as_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "demo"],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEMO_LIMIT_S,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SCENES)} of {len(SCENES)} scenes as expected" in done.stdout
    assert "NOT AS EXPECTED" not in done.stdout
    for scene in SCENES:
        assert scene.title in done.stdout
    for fact in ("sale.succeeded", "sale.declined", "webhook", "reason=wrong_key", "redriven", "Idempotent-Replayed"):
        assert fact in done.stdout
