"""The timers that the orders agent keeps in memory are those of its table, step by step."""

from collections.abc import Iterator

import pytest

from gateway_adapters.mock.spec import SPEC
from schemas.messages import MessageCodec
from schemas.schema_ids import SchemaIds
from streams.agents import shell as agent_shell
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.agents.shell import AgentShell
from streams.agents.timers import TimerHeap, timer_key
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.step import RowWrite
from streams.topology import TIMERS_TABLE as TIMERS
from tests.support.replay_course import input_of
from tests.support.staged_life import valid_run

FAR_MS = 2**50


class _Desk:
    """The agent in its shell, with a heap, over the inputs of a run that has open timers on its way."""

    def __init__(self) -> None:
        codec = MessageCodec(SchemaIds.packaged())
        self.heap = TimerHeap()
        agent = OrdersAgent(
            codec,
            partitions=1,
            policies=dict,
            gateways={SPEC.name: SPEC},
            capabilities={},
            timers=self.heap,
            parking=Parking(),
            rules=DEFAULT_RULES,
        )
        self._shell = AgentShell(agent.take, codec=codec, component="orders", accepted=agent.accepted)
        self._rows: dict[tuple[str, bytes], bytes | None] = {}

    def steps(self) -> Iterator[list[RowWrite]]:
        """Yield what each input of the run wrote of the timers' table."""
        for record in sorted(valid_run().inputs(), key=lambda each: each.timestamp_ms):
            step = self._shell.handle(input_of(record), lambda table, key: self._rows.get((table, key)))
            self._rows.update({(write.table, write.key): write.value for write in step.rows})
            yield [write for write in step.rows if write.table == TIMERS]

    def open_in_table(self) -> set[bytes]:
        return {key for (table, key), value in self._rows.items() if table == TIMERS and value is not None}

    def open_in_heap(self) -> set[bytes]:
        due = self.heap.take_due(FAR_MS)
        for timer in due:
            self.heap.look_again(timer, timer.due_at_ms)
        return {timer_key(timer) for timer in due}


def test_heap_holds_the_timers_of_the_table_when_steps_are_carried_out() -> None:
    desk = _Desk()
    most = 0
    for _ in desk.steps():
        assert desk.open_in_heap() == desk.open_in_table()
        most = max(most, len(desk.heap))
    assert most > 0


def test_heap_is_as_it_was_when_a_step_is_dropped_for_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order stays as it was, and its open timers must come due: nobody fires what the heap has forgotten."""
    desk = _Desk()
    steps = desk.steps()
    while not desk.open_in_table():
        next(steps)
    before = desk.open_in_heap()
    monkeypatch.setattr(agent_shell, "oversize", lambda _step: "too large")
    for _ in steps:
        assert desk.open_in_heap() == before
