"""Ids that a registry learned late are asked for once, in the background, for a limited time and in limited number."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from schemas import late_schemas
from schemas.late_schemas import (
    MAX_ASKED_AT_ONCE,
    MAX_MISSES,
    MAX_WAIT_S,
    MISS_LIFE_S,
    SILENCE_S,
    LateSchemas,
    RegistrySilentError,
)
from schemas.schema_ids import WriterSchema, newest_schemas, parse

KNOWN = WriterSchema(record="payment_requested", parsed=parse(newest_schemas()["payment_requested"].text), current=True)
LIMIT_S = 10.0


class Scene:
    """A registry that answers when it is told to, a clock that goes when it is told to, and who asks."""

    def __init__(self, answer: Callable[[int], WriterSchema | None] = lambda _id: None) -> None:
        self.now_s = 1_000.0
        self.asked: list[int] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.answer = answer
        self.known: dict[int, WriterSchema] = {}
        self.late = LateSchemas(self.known, self._fetch, clock_s=lambda: self.now_s)

    def _fetch(self, schema_id: int) -> WriterSchema | None:
        self.asked.append(schema_id)
        assert self.may_answer.wait(LIMIT_S)
        return self.answer(schema_id)

    async def ask(self, schema_id: int) -> bool:
        """Ask and wait; False: nothing was to be waited for."""
        wait = self.late.ask(schema_id)
        if wait is not None:
            async with asyncio.timeout(LIMIT_S):
                await wait()
        return wait is not None


async def test_schema_is_known_once_the_wait_is_over_when_the_registry_knows_it() -> None:
    scene = Scene(lambda _id: KNOWN)
    assert await scene.ask(7)
    assert scene.known == {7: KNOWN}


async def test_all_who_wait_for_one_id_share_one_question() -> None:
    scene = Scene(lambda _id: KNOWN)
    scene.may_answer.clear()
    waits = [scene.late.ask(7) for _ in range(5)]
    scene.may_answer.set()
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(wait() for wait in waits if wait is not None))
    assert scene.asked == [7]
    assert None not in waits


async def test_missing_id_is_not_asked_for_again_until_its_time_is_over() -> None:
    scene = Scene()
    assert await scene.ask(7)
    assert not await scene.ask(7)
    scene.now_s += MISS_LIFE_S - 1
    assert not await scene.ask(7)
    scene.now_s += 1
    assert await scene.ask(7)
    assert scene.asked == [7, 7]


async def test_nothing_more_is_asked_for_when_too_many_are_missing() -> None:
    scene = Scene()
    for number in range(MAX_MISSES):
        assert await scene.ask(number)
    assert not await scene.ask(MAX_MISSES)
    scene.now_s += MISS_LIFE_S
    assert await scene.ask(MAX_MISSES)


async def test_nothing_more_is_asked_for_when_too_many_questions_are_open() -> None:
    scene = Scene()
    scene.may_answer.clear()
    waits = [scene.late.ask(number) for number in range(MAX_ASKED_AT_ONCE)]
    assert None not in waits
    assert scene.late.ask(MAX_ASKED_AT_ONCE) is None
    scene.may_answer.set()
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(wait() for wait in waits if wait is not None))
    assert await scene.ask(MAX_ASKED_AT_ONCE)


async def test_nothing_more_is_learned_when_a_stranger_has_registered_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_schemas, "MAX_LEARNED", 3)
    scene = Scene(lambda _id: KNOWN)
    assert [await scene.ask(number) for number in range(4)] == [True, True, True, False]
    assert list(scene.known) == [0, 1, 2]


async def test_nobody_waits_longer_than_the_limit_when_the_registry_says_nothing() -> None:
    scene = Scene(lambda _id: KNOWN)
    scene.may_answer.clear()
    wait = scene.late.ask(7)
    assert wait is not None
    scene.now_s += MAX_WAIT_S
    async with asyncio.timeout(LIMIT_S):
        await wait()
    assert scene.late.ask(7) is None  # its time is over, though the question is open
    scene.may_answer.set()


async def test_no_other_id_waits_too_when_one_had_its_whole_wait_and_the_registry_still_says_nothing() -> None:
    scene = Scene(lambda _id: KNOWN)
    scene.may_answer.clear()
    first = scene.late.ask(7)
    assert first is not None
    scene.now_s += MAX_WAIT_S
    assert scene.late.ask(8) is None, "its client's time-outs are longer than a wait: each id would cost one"
    scene.may_answer.set()
    async with asyncio.timeout(LIMIT_S):
        while not await scene.ask(8):  # noqa: ASYNC110 -- as soon as the thread has ended; bounded by the time-out
            await asyncio.sleep(0)
    assert scene.known[8] == KNOWN


async def test_registry_that_fails_is_asked_again_within_the_wait_and_then_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_id: int) -> WriterSchema | None:
        scene.now_s += MAX_WAIT_S / 3
        raise RegistrySilentError

    monkeypatch.setattr(late_schemas, "ASK_AGAIN_S", 0)
    scene = Scene(fail)
    await scene.ask(7)
    assert len(scene.asked) == 3
    assert not await scene.ask(7)
    assert not await scene.ask(8)
    scene.now_s += SILENCE_S
    scene.answer = lambda _id: KNOWN
    assert await scene.ask(8)
    assert scene.known == {8: KNOWN}


async def test_question_ends_when_asking_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(_id: int) -> WriterSchema | None:
        raise ZeroDivisionError

    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    scene = Scene(break_down)
    assert await scene.ask(7)
    assert await scene.ask(7), "it is no miss"


def test_answer_that_comes_after_the_loop_has_ended_disturbs_nobody() -> None:
    scene = Scene(lambda _id: KNOWN)
    scene.may_answer.clear()

    async def wait_in_vain() -> None:
        wait = scene.late.ask(7)
        assert wait is not None
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(wait_in_vain())
    scene.may_answer.set()
    for thread in threading.enumerate():
        if thread.name == "schema-registry":
            thread.join(LIMIT_S)
    assert scene.known == {7: KNOWN}
