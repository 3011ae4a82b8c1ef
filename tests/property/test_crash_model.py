"""The crash model: thousands of seeded histories of crashes, lost writes, zombies and policy changes, no violation.

And the proof that it can tell: with each flaw put in on purpose it finds violations (see `tests.support.crash_world`).

One named limit: notices, and calls that break off, are not played together with zombies. That is the exception
`late_word` (`streams.domain.order`).
"""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pytest

from schemas.vocabulary import DeclineClass
from tests.support.crash_calls import Whims
from tests.support.crash_checks import violations
from tests.support.crash_log import Faults
from tests.support.crash_scenario import PLANS, PLANS_OF_ACCOUNTS, PLANS_ONCE, Scenario
from tests.support.crash_world import NeverAtRestError, run

pytestmark = pytest.mark.untraced

PROCESSES = 2
CHUNK = 25
MIN_RUNS = 5_000
"""Of those in which gateways say all their words."""

STEADY = Whims(declined=10)
REFUSING = Whims(declined=10, unreachable=15)
HOLDING = Whims(declined=10, unreachable=10, broken_off=40)
STUBBORN = Whims(refused=60, broken_off=40)
SPEAKING = Whims(moves=25, at_desk=5, fails_late=20, unnamed=40, batched=True)
"""What gateways say after a success: with the answers of the others, these are all the words there are."""

MOODY = replace(
    SPEAKING,
    declined=10,
    unreachable=15,
    broken_off=10,
    pending=10,
    action=15,
    taken_back=5,
    kept_failure=8,
    partial=15,
)
LYING = replace(
    SPEAKING, declined=10, unreachable=40, contradicted=50, broken_off=5, pending=10, action=5, taken_back=10
)
DOUBTFUL = replace(SPEAKING, declined=15, broken_off=30, pending=15, action=10, taken_back=5, unowned=False)
"""Of what a person settles the gateway's reference may never become known."""

CHOOSY = replace(MOODY, declined=5, declined_here=40)
ELSEWHERE = Scenario(whims=CHOOSY, plans=PLANS_OF_ACCOUNTS, fallback_classes=(DeclineClass.SOFT,))
CONTRADICTIONS = Scenario(whims=LYING, plans=PLANS_ONCE, commands=14)
JUDGED = Scenario(whims=DOUBTFUL, decisions=6)
LEAVING = Scenario(whims=MOODY, leaving=True)
ACCOUNTS = Scenario(whims=replace(MOODY, unreachable=25), plans=PLANS_OF_ACCOUNTS)

MORTAL = Faults(dies_percent=8)

SOUND = {
    "no crash": (300, Scenario(crashes=0, whims=MOODY)),
    "crashes": (1_300, Scenario(whims=MOODY)),
    "many crashes": (200, Scenario(whims=MOODY, crashes=25, crash_percent=3)),
    "two accounts of each gateway": (700, ACCOUNTS),
    "gateways that contradict themselves": (800, CONTRADICTIONS),
    "persons who decide, and gateways that speak later": (800, JUDGED),
    "declined here, and asked elsewhere": (500, ELSEWHERE),
    "declined here, and asked elsewhere, gateways that contradict themselves": (
        200,
        replace(CONTRADICTIONS, whims=replace(LYING, declined_here=30), fallback_classes=(DeclineClass.SOFT,)),
    ),
    "declined here, and asked elsewhere, inner records die": (200, replace(ELSEWHERE, faults=MORTAL)),
    "declined here, and asked elsewhere, zombies": (
        200,
        replace(ELSEWHERE, whims=replace(REFUSING, declined_here=40), zombies=True),
    ),
    "inner records die": (700, Scenario(whims=MOODY, faults=MORTAL)),
    "inner records die, gateways that contradict themselves": (300, replace(CONTRADICTIONS, faults=MORTAL)),
    "calls held by the network": (400, Scenario(whims=HOLDING)),
    "calls held by the network, others refused": (400, Scenario(whims=STUBBORN, policy_version=0)),
    "inner records die, calls held by the network": (300, Scenario(whims=HOLDING, faults=MORTAL)),
    "zombies": (500, Scenario(whims=REFUSING, zombies=True)),
    "zombies that speak": (300, Scenario(whims=REFUSING, zombies=True, faults=Faults(speaks_when_fenced=True))),
    "settled operations leave the row": (200, LEAVING),
    "settled operations leave the row, zombies": (200, Scenario(whims=REFUSING, zombies=True, leaving=True)),
    "settled operations leave the row, persons decide": (150, replace(JUDGED, leaving=True)),
    "settled operations leave the row, inner records die": (150, replace(LEAVING, faults=MORTAL)),
    "settled operations leave the row, not persisted first": (
        100,
        Scenario(whims=REFUSING, faults=Faults(speak_at_once=True), leaving=True),
    ),
    "not persisted first": (300, Scenario(whims=REFUSING, faults=Faults(speak_at_once=True))),
    "not persisted first, zombies": (200, Scenario(whims=REFUSING, zombies=True, faults=Faults(speak_at_once=True))),
}

FLAWED = {
    "no re-drive": (60, Scenario(whims=REFUSING, faults=Faults(never_replays=True))),
    "plan not pinned": (
        80,
        Scenario(whims=STEADY, plan_not_pinned=True, crashes=25, crash_percent=3, faults=Faults(speak_at_once=True)),
    ),
    "plan not pinned, zombies that speak": (
        80,
        Scenario(whims=STEADY, plan_not_pinned=True, zombies=True, faults=Faults(speaks_when_fenced=True)),
    ),
    "commit past what is unacknowledged": (300, Scenario(whims=STEADY, faults=Faults(commits_past_unacked=True))),
    "last row wins": (300, Scenario(whims=REFUSING, zombies=True, faults=Faults(last_row_wins=True))),
    "gaps taken for read": (300, Scenario(whims=STEADY, zombies=True, faults=Faults(gaps_count_as_read=True))),
    "asked elsewhere while in doubt": (100, replace(ELSEWHERE, moves_on_in_doubt=True)),
    "asked again where it was declined": (100, replace(ELSEWHERE, plans=PLANS, comes_back=True)),
    "executor sends again without memory": (100, Scenario(whims=MOODY, executor_forgets=True)),
    "absence taken for proof": (300, Scenario(whims=HOLDING, absence_is_proof=True)),
    "absence or a refusal taken for proof": (
        300,
        Scenario(whims=STUBBORN, policy_version=0, absence_is_proof=True),
    ),
    "a person has the last word": (200, replace(JUDGED, desk_has_the_last_word=True)),
    "words without their times": (200, replace(JUDGED, times_are_ignored=True)),
    "words without their times, nobody decides": (100, Scenario(whims=MOODY, times_are_ignored=True)),
    "a reversal counts twice": (100, Scenario(whims=MOODY, counts_twice=True)),
    "what names a reference too early is dropped": (100, Scenario(whims=MOODY, index_is_impatient=True)),
    "more given back than taken, in silence": (200, Scenario(whims=MOODY, deficits_are_silent=True)),
    "paid twice, in silence": (300, Scenario(crashes=0, whims=MOODY, returns_are_silent=True)),
    "a person is never asked again": (300, replace(JUDGED, desk_is_never_asked_again=True)),
    "success taken back by anyone": (400, replace(CONTRADICTIONS, anyone_takes_back=True)),
    "late success not heard": (100, replace(CONTRADICTIONS, late_success_is_silent=True)),
    "further attempts after a known success": (300, replace(CONTRADICTIONS, contradictions_are_forgotten=True)),
    "operations leave the row whatever they are by then": (300, replace(LEAVING, left_whatever_it_is=True)),
    "never driven again": (60, Scenario(whims=MOODY, faults=MORTAL, never_driven_again=True)),
    "payment beside one under review": (1_200, replace(CONTRADICTIONS, failed_is_failed=True)),
}


@dataclass(slots=True)
class Tally:
    """What many runs came to."""

    runs: int = 0
    violated: int = 0
    crashes: int = 0
    calls: int = 0
    effects: int = 0
    kinds: Counter[str] | None = None
    first: str = ""


def _play(scenario: Scenario, seed: int) -> tuple[list[str], int, int, int]:
    try:
        world = run(scenario, seed)
    except NeverAtRestError as error:
        return [str(error)], 0, 0, 0
    # Only with persist-then-speak, and when no second owner speaks, is a fact told in the same words each time.
    same_content = not scenario.faults.speak_at_once and not scenario.faults.speaks_when_fenced
    broken = violations(world, same_content=same_content)
    return broken, world.crashes, world.gateways.calls, len(world.gateways.effects)


def _tally(pool: ProcessPoolExecutor, scenario: Scenario, runs: int) -> Tally:
    tally = Tally(kinds=Counter())
    assert tally.kinds is not None
    for seed, (broken, crashes, calls, effects) in enumerate(
        pool.map(partial(_play, scenario), range(runs), chunksize=CHUNK)
    ):
        tally.runs += 1
        tally.crashes += crashes
        tally.calls += calls
        tally.effects += effects
        if broken:
            tally.violated += 1
            tally.kinds.update({line.split()[0] for line in broken})
            tally.first = tally.first or f"seed {seed}: {broken}"
    return tally


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_crash_model_finds_no_violation_when_the_code_is_as_it_is(name: str, pool: ProcessPoolExecutor) -> None:
    runs, scenario = SOUND[name]
    tally = _tally(pool, scenario, runs)
    print(f"{name}: {tally}")  # noqa: T201 -- the count is part of the evidence, shown with -s
    assert tally.violated == 0, tally.first
    assert tally.effects > runs, "too little happened for the run to prove anything"
    assert tally.crashes > runs or scenario.crashes == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAWED)
def test_crash_model_finds_violations_when_a_flaw_is_put_in(name: str, pool: ProcessPoolExecutor) -> None:
    runs, scenario = FLAWED[name]
    tally = _tally(pool, scenario, runs)
    print(f"{name}: {tally}")  # noqa: T201 -- the count is part of the evidence, shown with -s
    assert tally.violated > 0


def test_crash_model_plays_enough_histories_when_those_with_all_words_are_counted() -> None:
    assert sum(runs for runs, scenario in SOUND.values() if scenario.whims.moves) >= MIN_RUNS


def test_crash_world_repeats_itself_exactly_when_the_seed_is_the_same() -> None:
    scenario = replace(SOUND["crashes"][1], crashes=5)
    first, second = run(scenario, 7), run(scenario, 7)
    assert first.logs.topics == second.logs.topics
