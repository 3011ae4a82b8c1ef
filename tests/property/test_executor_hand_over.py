"""Executors come, go, die and freeze while calls are under way: no refusal that counts ever stands beside an effect.

An order that is told NOT_EXECUTED goes on to another gateway. So no copy of that call may be carried out, before or
after, by whichever executor. The real worker plays on a log in memory; calls take as long as the seed says. The same
plays with a flaw put in on purpose show that it can tell.
"""

import asyncio
import dataclasses
import random
from collections import Counter
from typing import Any

import pytest
from aiokafka import TopicPartition

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Signal, error_for
from schemas import rfc3339, topics
from schemas.cloud_event import EXPIRY_HEADER
from schemas.identifiers import GatewayRoute, OpId
from schemas.messages import EncodedMessage
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import Outcome
from streams.executor import options as executor_options
from streams.executor.options import ExecutorOptions
from streams.executor.past_results import PastResult, PastResults
from streams.executor.worker import GatewayExecutor
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.in_memory_log import InMemoryGroupConsumer, InMemoryLog, InMemoryLogWriter
from streams.kafka_clients.lease import now_s
from streams.kafka_clients.log_clock import wall_clock_ms
from streams.log_worker import worker as log_worker
from streams.log_worker.handler import Delivery
from tests.support.gateway_calls import CODEC, GATEWAY, TellableGateway, message_of, request_of
from tests.support.waiting import until

pytestmark = pytest.mark.untraced

PARTITIONS = 4
REQUESTS = 120
CHANGES = 8
SEEDS = range(12)
LONGEST_CALL_S = 0.03
HAND_OVER_S = 0.005
"""Less than a call may take: what the next owner is told is no promise, and nothing may rest on it."""

SESSION_S = 30.0
LIMIT_S = 30.0


class _World:
    """A log, a gateway with keys, and the executors of one group."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.log = InMemoryLog({topics.GATEWAY_REQUESTS: PARTITIONS, topics.GATEWAY_RESULTS: PARTITIONS, topics.DLQ: 1})
        self.effects: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.gateway = TellableGateway(self._call)
        self.alive: list[tuple[GatewayExecutor, InMemoryGroupConsumer]] = []
        self.frozen: list[GatewayExecutor] = []
        self.skipped_s: dict[int, float] = {}

    async def _call(self, request: GatewayCallRequested) -> CallResult:
        """Refuse, which is kept under no key, or carry out what was not carried out yet; the answer takes its time."""
        await asyncio.sleep(self.chance.uniform(0, LONGEST_CALL_S / 2))  # a network, no condition
        key, refuses = request.gateway_key, self.chance.random() < 0.4
        if refuses and not self.effects[key]:
            self.refused[key] += 1
            result = CallResult(outcome=Outcome.NOT_EXECUTED, error=error_for(Signal.NOT_SENT))
        else:
            self.effects[key] = 1
            result = CallResult(outcome=Outcome.SUCCEEDED, gateway_reference=key)
        await asyncio.sleep(self.chance.uniform(0, LONGEST_CALL_S / 2))  # as above
        return result

    async def _past(self, partition: int, since_ms: int, *, from_offset: int = 0) -> PastResults:
        found = [
            PastResult(
                timestamp_ms=each.timestamp_ms, message=EncodedMessage(value=each.value or b"", headers=each.headers)
            )
            for each in self.log.records(topics.GATEWAY_RESULTS)
            if each.partition == partition
        ]
        return PastResults(since_ms=0, results=found)

    async def join(self) -> None:
        member, number = self.log.member("executor"), len(self.skipped_s)
        self.skipped_s[number] = 0.0
        executor = GatewayExecutor(
            KafkaConnection(bootstrap_servers="in-memory"),
            CODEC,
            {GatewayRoute(GATEWAY): self.gateway},
            ExecutorOptions(
                commit_interval_s=0.005, call_timeout_s=5.0, session_timeout_s=SESSION_S, breaker_failures=10_000
            ),
            build_consumer=lambda _connection, _options: member,
            writer=InMemoryLogWriter(self.log),
            read_past=self._past,
            clock_s=lambda: now_s() + self.skipped_s[number],
        )
        executor.number = number  # type: ignore[attr-defined]  # whose clock it goes by
        await executor.start()
        self.alive.append((executor, member))

    async def leave(self) -> None:
        executor, _ = self._somebody()
        await executor.stop()

    async def freeze(self) -> None:
        """It is cut off, and its session runs out; what it has under way comes to its end all the same."""
        executor, member = self._somebody()
        self.skipped_s[executor.number] = 2 * SESSION_S  # type: ignore[attr-defined]  # as above
        member._heartbeats.cancel()  # type: ignore[union-attr]
        self.frozen.append(executor)
        await member._group.leave(member)

    async def die(self) -> None:
        """It ends on the spot: no commit, no word."""
        executor, member = self._somebody()
        executor._handler.abandon()
        for task in [*executor._tasks, *executor._loops]:
            task.cancel()
        await member._group.leave(member)

    def _somebody(self) -> tuple[GatewayExecutor, InMemoryGroupConsumer]:
        return self.alive.pop(self.chance.randrange(len(self.alive)))

    async def play(self) -> None:
        """Append requests, and copies of some, while executors come and go; then let what is left be done."""
        await self.join()
        appending = asyncio.create_task(self._append())
        for _ in range(CHANGES):
            await asyncio.sleep(self.chance.uniform(0, 0.06))  # how far the work gets before, no condition
            if len(self.alive) < 2:
                await self.join()
            await self.chance.choice((self.join, self.leave, self.freeze, self.die))()
        await appending
        if not self.alive:
            await self.join()
        await until(self._all_committed, timeout_s=LIMIT_S)
        for executor in [*(each for each, _ in self.alive), *self.frozen]:
            await executor.stop()

    async def _append(self) -> None:
        for number in range(REQUESTS):
            request = request_of(number, now_ms=wall_clock_ms())
            self._put(request)
            if self.chance.random() < 0.2:
                self._put(dataclasses.replace(request, repeated=True))
            await asyncio.sleep(self.chance.uniform(0, 0.006))  # the load, no condition

    def _put(self, request: GatewayCallRequested) -> None:
        message = message_of(request)
        self.log.append(
            topics.GATEWAY_REQUESTS, key=request.order_id.encode(), value=message.value, headers=message.headers
        )

    def _all_committed(self) -> bool:
        places = [TopicPartition(topics.GATEWAY_REQUESTS, number) for number in range(PARTITIONS)]
        committed = self.log.committed("executor")
        return all(committed.get(each, 0) == self.log.end(each) for each in places)

    def told_as_not_executed(self) -> set[OpId]:
        """The orders with a refusal that counts: on the log before the end that it names."""
        found = set[OpId]()
        for record in self.log.records(topics.GATEWAY_RESULTS):
            _, result = CODEC.decode(record.value, record.headers)
            assert isinstance(result, GatewayCallCompleted)
            expiry = next((value for name, value in record.headers if name == EXPIRY_HEADER), None)
            in_time = expiry is None or record.timestamp_ms <= rfc3339.ms_of(expiry.decode())
            if result.outcome is Outcome.NOT_EXECUTED and in_time:
                found.add(result.op_id)
        return found

    def violations(self) -> set[OpId]:
        carried_out = {key.rpartition("-")[0] for key, count in self.effects.items() if count}
        return {op_id for op_id in self.told_as_not_executed() if any(op_id in each for each in carried_out)}


async def played(seed: int) -> _World:
    world = _World(seed)
    await world.play()
    return world


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_options.ExecutorOptions, "hand_over_s", HAND_OVER_S)
    monkeypatch.setattr(log_worker, "QUICK_DRAIN_S", 0.002)


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_refusal_that_counts_stands_beside_an_effect(seed: int) -> None:
    world = await played(seed)
    assert world.violations() == set()
    assert world.told_as_not_executed(), "nothing was refused: the play is too tame"


@pytest.mark.parametrize(
    "flaw",
    [
        {"is_alone": lambda self: self.lease.holds()},  # a refusal counts though its partition has gone
        {"is_alone": lambda self: not self._owned.is_handed_over},  # … though it was frozen meanwhile
    ],
)
async def test_flaw_put_in_on_purpose_is_found(flaw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, broken in flaw.items():
        monkeypatch.setattr(Delivery, name, broken)
    found = set[OpId]()
    for seed in range(100, 140):  # ends as soon as one play shows it
        found |= (await played(seed)).violations()
        if found:
            break
    assert found
