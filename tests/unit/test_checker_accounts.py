"""The checker on accounts at a gateway: an effect at another than its plan names is caught."""

from dataclasses import replace

import pytest

from tests.support.checker import Evidence, violations
from tests.support.order_desk import authorize, capture
from tests.support.staged_life import PAYMENT
from tests.support.staged_run import StagedRun

CHECK = "effects_are_at_their_accounts"


@pytest.fixture
def captured() -> Evidence:
    run = StagedRun()
    run.send(authorize())
    run.send(capture(PAYMENT, 4_000))
    return run.evidence()


def broken(evidence: Evidence) -> set[str]:
    """Return the names of the checks that find something."""
    return {each.partition(":")[0] for each in violations(evidence)}


def at(evidence: Evidence, account: str, *kinds: str, gateway: str = "mock") -> Evidence:
    """The effects of these kinds happened at this account."""
    moved = [
        replace(each, account=account, gateway=gateway) if each.kind in kinds else each for each in evidence.ledger
    ]
    return replace(evidence, ledger=moved)


def test_plans_are_read_of_the_verdicts(captured: Evidence) -> None:
    assert set(captured.plans.values()) == {frozenset({"mock"})}
    assert captured.plans.keys() == captured.operations().keys()


@pytest.mark.parametrize("kinds", [("authorize",), ("capture",), ("authorize", "capture")])
def test_checker_catches_an_effect_at_another_account(captured: Evidence, kinds: tuple[str, ...]) -> None:
    assert violations(captured) == []
    assert broken(at(captured, "second", *kinds)) == {CHECK}


@pytest.mark.parametrize("kinds", [("authorize",), ("capture",), ("authorize", "capture")])
def test_checker_catches_an_effect_at_another_gateway(captured: Evidence, kinds: tuple[str, ...]) -> None:
    assert broken(at(captured, "default", *kinds, gateway="stripe")) == {CHECK}


def test_checker_catches_a_row_that_says_another_account_of_a_plan_with_both(captured: Evidence) -> None:
    both = {op_id: frozenset({"mock", "mock/second"}) for op_id in captured.plans}
    assert violations(replace(captured, plans=both)) == []
    assert broken(at(replace(captured, plans=both), "second", "authorize", "capture")) == {CHECK}


def test_checker_catches_an_effect_that_no_plan_stands_for(captured: Evidence) -> None:
    assert broken(replace(captured, plans={})) == {CHECK}
