"""Operations leave their order's row: what it decides, says and comes to is as if they had stayed.

Thousands of seeded lives of twins (`tests.support.order_twins`), with late words, replays, retries, keys used again and
crashes between two rows; lives with a bank whose books are not the engine's; and the proof that flaws are found.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

import pytest

from schemas.records.orders import OperationRow
from schemas.records.timers import TimerFired
from streams.domain import apart, leaving, order, subtotals
from streams.domain.limits import DEFAULT_RULES
from streams.domain.turn import Turn
from tests.support.order_lives import Life
from tests.support.order_twins import TwinLife

pytestmark = pytest.mark.untraced

LIVES = 2_000
CHUNKS = 8
HAPPENINGS = 90
BANK_LIVES = 600
FLAWED_LIVES = 250
AT_ONCE = replace(DEFAULT_RULES, kept_operations=0, leaving_operations=1)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_order_says_and_comes_to_the_same_when_settled_operations_leave_its_row(chunk: int) -> None:
    size, seen = LIVES // CHUNKS, Counter[str]()
    broken = {}
    for seed in range(chunk * size, (chunk + 1) * size):
        life = TwinLife(seed)
        if found := life.play(HAPPENINGS):
            broken[seed] = found
        seen.update(life.twins.counts)
    assert broken == {}
    assert min(seen["apart"], seen["loaded"], seen["crashes"]) > size, f"too little happened: {seen}"


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(2))
def test_order_agrees_with_the_bank_when_every_settled_refund_leaves_its_row(chunk: int) -> None:
    size = BANK_LIVES // 2
    lives = {seed: Life(seed, AT_ONCE) for seed in range(chunk * size, (chunk + 1) * size)}
    assert {seed: found for seed, life in lives.items() if (found := life.play())} == {}
    assert sum(len(life.desk.apart) for life in lives.values()) > size


def _dropped_as_it_is(turn: Turn, timer: TimerFired) -> None:
    assert turn.row is not None
    asked = {each.number for each in timer.leaving}
    for operation in leaving.may_leave(turn.row, turn.rules):
        if operation.number in asked:
            turn.leave(operation)


def _named_by_id_alone(operation: OperationRow, *, life_ms: int) -> list[str]:
    return [apart.name_of_op(operation.op_id, life_ms=life_ms)]


FLAWS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "dropped though it has changed since it was copied": lambda: patch.dict(
        order._LEAVING, {key: _dropped_as_it_is for key in order._LEAVING if key.value == "drop_copied"}
    ),
    "found by its id alone": lambda: patch.object(leaving, "names_of", _named_by_id_alone),
    "what comes back is counted twice": lambda: patch.object(
        subtotals, "without_operation", lambda known, _operation: known
    ),
    "what leaves is forgotten": lambda: patch.object(subtotals, "with_operation", lambda known, _operation: known),
    "what a person has looked at leaves": lambda: patch.object(
        leaving, "_is_told_with_others", lambda _operation: False
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_twins_come_apart_when_a_flaw_is_put_in(flaw: str) -> None:
    with FLAWS[flaw]():
        assert any(_differs(seed) for seed in range(FLAWED_LIVES))


def _differs(seed: int) -> bool:
    try:
        return bool(TwinLife(seed).play(HAPPENINGS))
    except Exception:  # noqa: BLE001 -- whatever a flaw leads to, the twins have noticed
        return True
