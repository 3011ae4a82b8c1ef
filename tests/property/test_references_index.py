"""The references index under crashes, pauses and any interleaving: every notice finds its order, and none another's.

The rules of `streams.domain.references` in the workers of the crash model: a step's rows are durable before what it
says is sent, and everything that is not acknowledged dies with a worker.
"""

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.identifiers import DEFAULT_ACCOUNT, OpId, OrderId
from schemas.records.references import ParkedWebhook, ReferenceDropped, ReferenceKept, ReferenceRow
from schemas.vocabulary import OperationKind
from streams.domain import references
from streams.domain.references import PARKED_FOR_MS
from tests.support.crash_log import Faults, Logs, handed_back, paused
from tests.support.crash_references import INBOX, KEPT, LETTERS, REFERRING, Index
from tests.support.order_desk import MOCK, ORIGIN

NAMES = ("ref-a", "ref-b", "ref-c")
MAX_STEPS = 5_000
ZOMBIE_TURNS = 40


def kept(name: str, order: str) -> ReferenceKept:
    return ReferenceKept(
        gateway=MOCK,
        account=DEFAULT_ACCOUNT,
        reference=name,
        origin_id=ORIGIN,
        order_id=OrderId(order),
        op_id=OpId(f"op-{order}"),
        kind=OperationKind.SALE,
    )


def dropped(name: str, order: str) -> ReferenceDropped:
    return ReferenceDropped(
        gateway=MOCK, account=DEFAULT_ACCOUNT, reference=name, origin_id=ORIGIN, order_id=OrderId(order)
    )


def webhook(number: int, at_ms: int, *, delivery: int = 1) -> ParkedWebhook:
    """Delivered again by the gateway it has another id, and says the same."""
    return ParkedWebhook(
        webhook_id=f"w{number}-{delivery}",
        traceparent=None,
        tracestate=None,
        headers=(),
        body=f"w{number}".encode(),
        received_at_ms=at_ms,
    )


def what(said: ParkedWebhook) -> str:
    return said.body.decode()


class HastyIndex(Index):
    hasty = True


class ForgetfulIndex(Index):
    forgetful = True


class OrderlyIndex(Index):
    orderly = True


class World:
    """One history: what gateways and orders say, in any order, and workers that crash and are paused."""

    def __init__(self, seed: int, *, index: type[Index] = Index, misfortunes: int = 8) -> None:
        self.chance = random.Random(seed)
        self.logs = Logs()
        self.index_of = index
        self.misfortunes = misfortunes
        self.was_paused = False
        self.sent: dict[str, str] = {}
        self.worker = self._new()
        self.zombies: list[list[Any]] = []
        self.unsaid: list[tuple[str, str, Any]] = self._script()

    def _new(self) -> Index:
        return self.index_of(self.logs, self.chance, Faults())

    def _script(self) -> list[tuple[str, str, Any]]:
        script: list[tuple[str, str, Any]] = []
        for number in range(self.chance.randint(1, 12)):
            name = self.chance.choice(NAMES)
            self.sent[f"w{number}"] = name
            deliveries = range(self.chance.choice((1, 1, 2)))
            script += [(REFERRING, name, webhook(number, self.logs.now_ms, delivery=each)) for each in deliveries]
        for name in NAMES[: self.chance.randint(0, len(NAMES))]:
            orders = self.chance.choice((("x",), ("x", "x"), ("x", "y")))
            script += [(KEPT, name, kept(name, f"{name}-{order}")) for order in orders]
        self.chance.shuffle(script)
        return script

    def play(self) -> None:
        for _ in range(MAX_STEPS):
            if self.misfortunes and self.chance.random() < 0.03:
                self.misfortunes -= 1
                self._misfortune()
            if self.unsaid and self.chance.random() < 0.2:
                self.logs.append(*self.unsaid.pop())
            elif not self._turn() and not self.unsaid and not self.worker.busy:
                return
        raise AssertionError("the index never came to rest")

    def _turn(self) -> bool:
        if self.zombies and self.chance.random() < 0.3:
            zombie = self.chance.choice(self.zombies)
            zombie[1] -= 1
            if not zombie[1]:
                self.zombies.remove(zombie)
            return self._work(zombie[0])
        return self._work(self.worker)

    def _work(self, worker: Index) -> bool:
        draw = self.chance.random()
        if draw < 0.5:
            return worker.step()
        if draw < 0.9:
            return worker.flush()
        worker.commit()
        return True

    def _misfortune(self) -> None:
        draw = self.chance.random()
        if draw < 0.6:
            self.worker.start()
        elif draw < 0.85:
            self.was_paused = True
            self.zombies.append([self.worker, ZOMBIE_TURNS])
            self.worker = paused(self.worker, self._new)
        elif self.zombies:
            zombie, _ = self.zombies.pop()
            handed_back(zombie, self.worker)
            self.worker = zombie

    # What must hold

    def owners(self) -> dict[str, OrderId]:
        return {
            key.partition("|")[2]: row.order_id
            for key, row in self.worker.rows.items()
            if key.startswith("ref|") and row
        }

    def parked(self) -> dict[str, set[str]]:
        return {
            key.partition("|")[2]: {what(each) for each in row}
            for key, row in self.worker.rows.items()
            if key.startswith("parked|") and row
        }

    def delivered(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for entry in self.logs.topics[INBOX]:
            found[what(entry.value)].add(entry.key)
        return found

    def lost_or_astray(self) -> list[str]:
        owners, delivered, parked = self.owners(), self.delivered(), self.parked()
        letters = {what(entry.value) for entry in self.logs.topics[LETTERS]}
        wrong = []
        for name, reference in self.sent.items():
            owner = owners.get(reference)
            waits = name in parked.get(reference, ()) or name in letters
            if owner is None and (delivered.get(name) or not waits):
                wrong.append(f"{name} of nobody: {delivered.get(name)}")
            if owner is not None and delivered.get(name) != {owner}:
                wrong.append(f"{name} of {owner}: {delivered.get(name)}")
        return wrong

    def left_waiting(self) -> list[str]:
        """Return what waits for a reference that is known. A row that a zombie wrote late may; the sweep ends it."""
        return [f"{each} waits for {name}" for name, each in self.parked().items() if name in self.owners()]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_notice_reaches_its_order_and_no_other_whatever_crashes(seed: int) -> None:
    world = World(seed)
    world.play()
    assert world.left_waiting() == [] or world.was_paused
    registered = {entry.key for entry in world.logs.topics[KEPT]}
    assert set(world.owners()) == registered
    assert world.lost_or_astray() == []


@pytest.mark.parametrize("flawed", [HastyIndex, ForgetfulIndex])
def test_model_notices_when_the_index_is_not_careful(flawed: type[Index]) -> None:
    def is_wrong(seed: int) -> bool:
        world = World(seed, index=flawed)
        world.play()
        return bool(world.lost_or_astray())

    assert any(is_wrong(seed) for seed in range(10_000))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_notices_of_one_reference_keep_their_order_when_nothing_crashes(seed: int) -> None:
    world = World(seed, index=OrderlyIndex, misfortunes=0)
    world.play()
    for name in world.owners():
        said = [what(entry.value) for entry in world.logs.topics[REFERRING] if entry.key == name]
        heard = [what(each.value) for each in world.logs.topics[INBOX] if world.sent[what(each.value)] == name]
        assert list(dict.fromkeys(heard)) == list(dict.fromkeys(said))


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_nobody_is_known_by_becomes_a_letter_in_its_time_and_leaves_the_row(seed: int) -> None:
    world = World(seed)
    world.play()
    world.misfortunes = 0  # a zombie's late row would wait for one more sweep
    world.zombies.clear()
    world.worker.start()
    world.play()
    for _ in range(2):  # two sweeps: the second finds nothing
        world.logs.now_ms += PARKED_FOR_MS
        for key, row in list(world.worker.rows.items()):
            if key.startswith("parked|") and row:
                for each in references.overdue(row, now_ms=world.logs.now_ms):
                    world.logs.append(REFERRING, key.partition("|")[2], each)
        world.play()
    assert world.parked() == {}
    letters = {what(entry.value) for entry in world.logs.topics[LETTERS]}
    assert letters == {name for name, reference in world.sent.items() if reference not in world.owners()}


def registered(known: ReferenceRow | None, order: str) -> references.Registration:
    return references.register(known, kept("r", order), possible_replay=False)


def test_first_order_keeps_the_reference_and_another_cannot_drop_it() -> None:
    first = registered(None, "x")
    second = registered(first.row, "y")
    assert (first.contested, second.contested) == (False, True)
    assert second.row == first.row
    assert not registered(first.row, "x").contested
    assert references.drop(first.row, dropped("r", "y")) == first.row
    assert references.drop(first.row, dropped("r", "x")) is None
    assert references.drop(None, dropped("r", "x")) is None


@pytest.mark.parametrize(("size", "most"), [(1, references.MAX_PARKED), (64 * 1024, 3)])
def test_what_waits_for_one_reference_is_bounded_in_number_and_bytes(size: int, most: int) -> None:
    parked: tuple[ParkedWebhook, ...] = ()
    for number in range(references.MAX_PARKED + 1):
        came = references.arrive(None, parked, large(number, size), now_ms=0, room=True)
        assert (came.unknown is None) == (len(came.parked) > len(parked))
        parked = came.parked
    assert len(parked) == most
    assert references.size_of(parked) <= references.MAX_PARKED_BYTES
    known = registered(None, "x").row
    assert references.arrive(known, parked, large(99, size), now_ms=0, room=True).forward  # too early, and not lost
    assert references.arrive(None, (), large(99, 1), now_ms=0, room=False).unknown is not None


def large(number: int, size: int) -> ParkedWebhook:
    return replace(webhook(number, 0), body=f"w{number}".encode().ljust(size))
