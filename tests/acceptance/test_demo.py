"""`payment-engine demo`, as a new user runs it: at the Mock, and at a peer that nobody here wrote."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from streams.cli.exits import ExitCode
from streams.development.demo.casts import MOCK, STRIPE, Cast
from streams.development.demo.script import scenes_at
from tests.support.peers import localstripe, or_skip

DEMO_LIMIT_S = 120.0
"""Alone it takes about 20 s; other tests may share the machine."""


def played(arguments: Sequence[str], cast: Cast) -> str:
    """Return what the tour printed; every scene that this gateway has went as told."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], check=False, capture_output=True, text=True, timeout=DEMO_LIMIT_S
    )
    scenes = scenes_at(cast)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(scenes)} of {len(scenes)} scenes as expected" in done.stdout
    assert "NOT AS EXPECTED" not in done.stdout
    for scene in scenes:
        assert scene.title in done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(DEMO_LIMIT_S + 30)
def test_demo_plays_every_scene_and_ends_well_when_the_engine_does_as_told() -> None:
    told = played(["streams.cli", "demo"], MOCK)
    for fact in ("sale.succeeded", "sale.declined", "webhook", "reason=wrong_key", "redriven", "Idempotent-Replayed"):
        assert fact in told


@pytest.mark.slow
@pytest.mark.timeout(DEMO_LIMIT_S + 30)
def test_demo_plays_what_stripes_peer_can_when_that_gateway_is_named() -> None:
    with or_skip():
        localstripe()
    told = played(["tests.peers.demo", "stripe"], STRIPE)
    for fact in ("gateway=stripe", "void.succeeded", "refund.succeeded", "card_declined", "redriven"):
        assert fact in told


def test_demo_names_what_it_is_played_at_when_another_gateway_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "demo", "--gateway", "elsewhere"],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEMO_LIMIT_S,
    )
    assert done.returncode == ExitCode.MISCONFIGURED
    assert "the tour is played at mock or stripe, not at 'elsewhere'" in done.stdout + done.stderr
