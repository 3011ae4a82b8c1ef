"""Confluence: how the inputs of different topics interleave does not matter, and where it does is named.

The same commands in the same order, and for each operation the same verdict, results and timers, must end in the same
row and the same events, however the topics interleave, whatever comes twice, and wherever a worker starts again.
"""

import random
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import identifiers
from schemas.identifiers import IdempotencyKey, OpId, OrderId
from schemas.quick_init import replace
from schemas.records.claims import ClaimDecided, ClaimRow
from schemas.records.commands import Command, op_id_of
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.orders import EventRow, OrderRow
from schemas.records.timers import OpenTimer
from schemas.vocabulary import DeclineClass, OperationState, Rejection, RetryAdvice
from streams.domain.claims import decide_claim
from streams.domain.limits import DEFAULT_RULES
from streams.domain.outputs import Publish
from tests.support.order_desk import (
    DECLINE,
    ORDER,
    PENDING,
    SOFT_DECLINE,
    SUCCESS,
    Desk,
    Said,
    authorize,
    capture,
    completed,
    plan,
    refund,
    refusal,
    sale,
)
from tests.support.order_strategies import WISHES, Wish

MAX_STEPS: Final = 3_000
FATES: Final = (
    SUCCESS,
    SUCCESS,
    SUCCESS,
    DECLINE,
    SOFT_DECLINE,
    replace(SOFT_DECLINE, sole=False),
    refusal(RetryAdvice.OTHER_GATEWAY),
    refusal(RetryAdvice.NEW_KEY_LATER, retry_after_ms=1_000),
    refusal(RetryAdvice.NEVER),
)
HELD_ELSEWHERE: Final = IdempotencyKey("k0")


def fate_of(gateway_key: str) -> Said:
    """Return what becomes of the attempt with this key: its own result, whatever else happens."""
    return FATES[zlib.crc32(gateway_key.encode()) % len(FATES)]


@dataclass(frozen=True, slots=True)
class Ending:
    """What must not depend on the interleaving."""

    row: OrderRow
    events: frozenset[tuple[str, str, OperationState, int]]
    answers: frozenset[tuple[str, OperationState, Rejection | None]]


class History:
    """One interleaving of the topics of an order by `chance`; records may come twice, the worker may restart."""

    def __init__(self, commands: Sequence[Command], chance: random.Random, *, restarts: int, duplicates: bool) -> None:
        self._chance = chance
        self._restarts = restarts
        self._duplicates = duplicates
        self.desk = Desk(plan=plan("mock", "other", "mock", "third", after=(DeclineClass.SOFT,)))
        elsewhere = ClaimRow(op_id=OpId("op_x"), order_id=OrderId("order-2"), plan=plan("mock"), claimed_at_ms=1)
        self.desk.claim_rows[HELD_ELSEWHERE] = elsewhere
        self._topics: dict[str, deque[Callable[[], object]]] = {
            "commands": deque(),
            "verdicts": deque(),
            "results": deque(),
            "timers": deque(),
        }
        self._read: dict[str, list[Callable[[], object]]] = {name: [] for name in self._topics}
        self._fired: set[tuple[OpId | None, int]] = set()
        for number, command in enumerate(commands):
            self._append("commands", self._sending(command, f"c{number}"))

    def _sending(self, command: Command, command_id: str) -> Callable[[], object]:
        return lambda: self.desk.send(command, command_id=command_id)

    def _append(self, topic: str, record: Callable[[], object]) -> None:
        self._topics[topic].append(record)
        if self._duplicates and topic != "commands" and self._chance.random() < 0.2:
            self._topics[topic].append(record)

    def play(self) -> Ending:
        for _ in range(MAX_STEPS):
            if self._restarts and self._chance.random() < 0.03:
                self._restart()
            ready = [name for name, records in self._topics.items() if records]
            if ready:
                name = self._chance.choice(ready)
                record = self._topics[name].popleft()
                self._read[name].append(record)
                record()
                self.desk.now_ms += 1
            if not self._others_work() and not ready:
                return self._ending()
        raise AssertionError("the order never came to rest")

    def _restart(self) -> None:
        """Read some of each topic again, as possible replays, in some other interleaving."""
        self._restarts -= 1
        tails = {}
        for name, records in self._read.items():
            start = self._chance.randint(0, len(records))
            tails[name] = deque(records[start:])
        self.desk.replay = True
        while ready := [name for name, records in tails.items() if records]:
            tails[self._chance.choice(ready)].popleft()()
        self.desk.replay = False

    def _others_work(self) -> bool:
        """Let the claims agent, the executor or the clock do something; return whether there was anything to do."""
        desk = self.desk
        timers = [each for each in desk.timers.values() if (each.op_id, each.number) not in self._fired]
        if desk.claims:
            claim = desk.claims.popleft()
            row, verdict = decide_claim(desk.claim_rows.get(claim.idempotency_key), claim, desk.now_ms)
            assert row is not None
            assert verdict is not None
            desk.claim_rows[claim.idempotency_key] = row
            self._append("verdicts", self._deciding(verdict))
        elif desk.requests:
            request = desk.requests.popleft()
            result = completed(request, fate_of(request.gateway_key), now_ms=desk.now_ms)
            self._append("results", self._completing(result))
        elif timers:
            timer = self._chance.choice(timers)
            self._fired.add((timer.op_id, timer.number))
            desk.now_ms = max(desk.now_ms, timer.due_at_ms)
            self._append("timers", self._firing(timer))
        else:
            return False
        return True

    def _deciding(self, verdict: ClaimDecided) -> Callable[[], object]:
        return lambda: self.desk.verdict(verdict)

    def _completing(self, result: GatewayCallCompleted) -> Callable[[], object]:
        return lambda: self.desk.result(result)

    def _firing(self, timer: OpenTimer) -> Callable[[], object]:
        return lambda: self.desk.fire_timer(timer)

    def _ending(self) -> Ending:
        assert self.desk.row is not None
        return Ending(
            row=without_bookkeeping(self.desk.row),
            events=frozenset(_content(event) for event in self.desk.events),
            answers=frozenset(
                (reply.request_id, reply.operation.state, reply.operation.rejection)
                for reply in self.desk.replies
                if reply.final and reply.operation is not None
            ),
        )


def _content(event: Publish) -> tuple[str, str, OperationState, int]:
    operation = event.event.operation
    return event.event_id, event.type, operation.state, operation.amount_minor


def without_bookkeeping(row: OrderRow) -> OrderRow:
    """Return the row without what only tells of the way: the first of the named exceptions."""
    operations = tuple(
        replace(
            each,
            called_at_ms=0,
            sent_until_ms=0,
            timer_number=0,
            waiters=(),
            events=tuple(_as_its_operation_saw(event) for event in each.events),
            first_requested_at_ms=0,
            requested_at_ms=0,
            updated_at_ms=0,
        )
        for each in row.operations
    )
    payments = tuple(replace(each, created_at_ms=0, updated_at_ms=0) for each in row.payments)
    return replace(
        row, version=0, sequence=0, operations=operations, payments=payments, created_at_ms=0, updated_at_ms=0
    )


def _as_its_operation_saw(event: EventRow) -> EventRow:
    """Return the fact without its time and without what it shows of the payment beside."""
    return replace(
        event,
        sequence=0,
        standing=None,
        occurred_at_ms=0,
    )


def commands_of(wishes: Sequence[Wish]) -> list[Command]:
    """Return the commands; each follow-up names the payment that was asked for last before it."""
    commands: list[Command] = []
    payment = identifiers.payment_id(ORDER, OpId("op_nobody"))
    for wish in wishes:
        command = wish.command(payment)
        commands.append(command)
        if wish.kind in {"authorize", "sale"}:
            payment = identifiers.payment_id(ORDER, op_id_of(command))
    return commands


OPENINGS = WISHES.filter(lambda wish: wish.kind in {"authorize", "sale"})
LIVES = st.tuples(OPENINGS, st.lists(WISHES, max_size=9)).map(lambda pair: [pair[0], *pair[1]])


@settings(max_examples=120, deadline=None)
@given(wishes=LIVES, seeds=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)))
def test_order_ends_alike_when_topics_interleave_differently(wishes: list[Wish], seeds: tuple[int, int]) -> None:
    commands = commands_of(wishes)
    first, second = (History(commands, random.Random(seed), restarts=0, duplicates=False).play() for seed in seeds)
    assert first == second


@settings(max_examples=120, deadline=None)
@given(wishes=LIVES, seeds=st.tuples(st.integers(0, 2**32), st.integers(0, 2**32)))
def test_order_ends_alike_when_records_come_twice_and_the_worker_restarts(
    wishes: list[Wish], seeds: tuple[int, int]
) -> None:
    commands = commands_of(wishes)
    calm = History(commands, random.Random(seeds[0]), restarts=0, duplicates=False).play()
    rough = History(commands, random.Random(seeds[1]), restarts=3, duplicates=True).play()
    assert calm == rough


def test_named_exception_bookkeeping_only_tells_of_the_way() -> None:
    commands = [authorize(), capture(identifiers.payment_id(ORDER, op_id_of(authorize())), 1_000)]
    rows = set()
    for seed in range(40):
        history = History(commands, random.Random(seed), restarts=2, duplicates=True)
        history.play()
        assert history.desk.row is not None
        rows.add((history.desk.row.version, history.desk.row.updated_at_ms))
    assert len(rows) > 1


def refunds_with_late_word(*, notice_first: bool) -> tuple[Desk, OpId]:
    """A pending refund is declined by a notice, before or after a newer refund is admitted."""
    desk = Desk()
    desk.do(sale(10_000))
    payment = desk.payment.payment_id
    pending = desk.do(refund(payment, 6_000, key="1"), PENDING)
    newer = desk.send(refund(payment, 6_000, key="2"))
    if notice_first:
        desk.notice(pending, DECLINE)
    desk.settle()
    if not notice_first:
        desk.notice(pending, DECLINE)
    return desk, newer


def test_named_exception_late_word_decides_whether_a_newer_operation_is_admitted_and_is_safe() -> None:
    """A notice about an operation that had let the order go on, against the admission of a newer one."""
    first, admitted = refunds_with_late_word(notice_first=True)
    second, refused = refunds_with_late_word(notice_first=False)
    assert first.state(admitted) is OperationState.SUCCEEDED
    assert second.operation(refused).rejection is Rejection.AMOUNT_EXCEEDS_CAPTURED
    for desk in (first, second):
        assert desk.sums.refunded <= desk.sums.captured


def test_named_exception_late_word_is_never_silent_when_an_owner_that_was_behind_let_the_other_through() -> None:
    """A paused owner admits what its successor refused: the success then asks for a person."""
    desk, refused = refunds_with_late_word(notice_first=False)
    desk.notice(refused, SUCCESS)
    assert desk.payment.review
    assert desk.transitions[-1] == "reviewed"


def test_named_exception_late_word_decides_whether_pending_is_ever_seen() -> None:
    """The result that says pending, and the notice with the last word, come on different topics."""
    transitions = []
    for notice_first in (True, False):
        desk = Desk()
        op_id = desk.send(sale())
        desk.grant()
        if notice_first:
            desk.notice(op_id, SUCCESS)
        desk.call(PENDING)
        if not notice_first:
            desk.notice(op_id, SUCCESS)
        assert desk.state(op_id) is OperationState.SUCCEEDED
        transitions.append(desk.transitions)
    assert transitions == [["accepted", "succeeded"], ["accepted", "pended", "succeeded"]]


def test_named_exception_order_end_leaves_an_empty_order_to_a_command_that_comes_after() -> None:
    desk = Desk()
    desk.do(sale())
    desk.now_ms += DEFAULT_RULES.paid_life_ms
    assert desk.end().row is None
    again = desk.send(sale(key="new"))
    desk.settle()
    assert desk.state(again) is OperationState.SUCCEEDED
