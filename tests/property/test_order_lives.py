"""Thousands of seeded lives of a payment after its success: the order's books are the bank's, whatever came when."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest

from schemas.records.orders import WordRow
from schemas.vocabulary import Outcome
from streams.domain import words
from tests.support.crash_flaws import put_in_words
from tests.support.order_lives import Life

pytestmark = pytest.mark.untraced

LIVES = 5_000
CHUNKS = 10
FLAWED_LIVES = 300


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_order_agrees_with_the_bank_when_its_words_come_late_twice_and_in_any_order(chunk: int) -> None:
    size = LIVES // CHUNKS
    broken = {seed: found for seed in range(chunk * size, (chunk + 1) * size) if (found := Life(seed).play())}
    assert broken == {}


def _as_they_came(said: tuple[WordRow, ...]) -> list[WordRow]:
    return list(said)


def _the_desk_last(said: tuple[WordRow, ...]) -> list[WordRow]:
    return sorted(said, key=lambda each: (each.by_desk, each.occurred_at_ms, each.outcome is not Outcome.SUCCEEDED))


FLAWS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "a reversal counts twice": lambda: put_in_words(counts_twice=True),
    "the gateway's times are ignored": lambda: patch.object(words, "in_time", _as_they_came),
    "a person's word beats a later one of the gateway": lambda: patch.object(words, "in_time", _the_desk_last),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_lives_find_violations_when_a_flaw_is_put_in(flaw: str) -> None:
    with FLAWS[flaw]():
        assert any(Life(seed).play() for seed in range(FLAWED_LIVES))
