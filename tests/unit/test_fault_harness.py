"""The fault harness's own parts: the proxy that misbehaves, and the nemesis that draws."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import cast

import pytest

from schemas.identifiers import IdempotencyKey, OriginId, claim_key
from schemas.topics import partition_of
from tests.faults.fault import Fault, Site, cause_is_gone
from tests.faults.kinds import FAULTS
from tests.faults.nemesis import Nemesis, Struck
from tests.faults.proxy import FaultyProxy
from tests.faults.run import come_back, slow_recoveries, too_few_successes, unburied, unused_accounts
from tests.faults.world import PARTITIONS, PROBER, Poisoned, World, _one_a_partition
from tests.kafka_cluster.cluster import free_ports
from tests.support.exhibits import LedgerEntry
from tests.support.second_account import SECOND
from tests.support.workload import Answer, Client, History, Request

LIMIT_S = 5.0
SILENCE_S = 0.1


@contextlib.asynccontextmanager
async def proxied_echo() -> AsyncIterator[tuple[FaultyProxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A proxy before an echo, and a connection through it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(1024):
                writer.write(said)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    proxy = FaultyProxy(lambda: int(target), port=free_ports(1)[0])
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield proxy, reader, writer
    finally:
        writer.close()
        await proxy.stop()
        server.close()


async def test_proxy_holds_back_what_is_said_while_it_swallows_and_forwards_it_afterwards() -> None:
    async with proxied_echo() as (proxy, reader, writer):
        writer.write(b"one")
        assert await asyncio.wait_for(reader.readexactly(3), LIMIT_S) == b"one"
        proxy.swallow()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), SILENCE_S)
        proxy.forward()
        assert await asyncio.wait_for(reader.readexactly(3), LIMIT_S) == b"two"


async def test_proxy_resets_every_connection_when_it_is_told_to() -> None:
    async with proxied_echo() as (proxy, reader, writer):
        writer.write(b"one")
        assert await asyncio.wait_for(reader.readexactly(3), LIMIT_S) == b"one"
        assert proxy.reset_all() == 2  # both ends
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), LIMIT_S)


async def test_proxy_resets_instead_of_forwarding_when_chance_says_so() -> None:
    async with proxied_echo() as (proxy, reader, writer):
        proxy.reset_chance = 1.0
        writer.write(b"one")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(3), LIMIT_S) == b""


class _Calm:
    """A world in which nothing takes time and everything recovers."""

    def __init__(self) -> None:
        self.struck: list[str] = []

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)

    async def serves(self) -> None:
        """At once."""

    async def consumers_catch_up(self) -> None:
        """At once."""


def _fault(name: str, site: Site) -> Fault:
    async def strike(world: World, chance: random.Random) -> str:
        cast("_Calm", world).struck.append(f"{name} {chance.random():.3f}")
        return name

    return Fault(name=name, site=site, strike=strike)


async def _draw(seed: int, *, overlap: float, count: int = 12) -> tuple[_Calm, list[Struck]]:
    world = _Calm()
    kinds = [_fault("a", Site.WORKERS), _fault("b", Site.WORKERS), _fault("c", Site.BROKERS), _fault("d", Site.LOG)]
    nemesis = Nemesis(cast("World", world), kinds, seed=seed, count=count, overlap=overlap)
    await nemesis.run()
    return world, nemesis.struck


async def test_nemesis_strikes_each_kind_equally_often_and_as_often_as_it_is_told() -> None:
    world, struck = await _draw(3, overlap=0.0)
    names = [name.split()[0] for name in world.struck]
    assert sorted(names) == sorted(["a", "b", "c", "d"] * 3)
    assert [len(each.names) for each in struck] == [1] * 12


async def test_nemesis_draws_the_same_faults_with_the_same_chances_when_the_seed_is_the_same() -> None:
    assert (await _draw(5, overlap=0.5))[0].struck == (await _draw(5, overlap=0.5))[0].struck
    assert (await _draw(5, overlap=0.5))[0].struck != (await _draw(6, overlap=0.5))[0].struck


async def test_nemesis_never_strikes_one_site_twice_at_once() -> None:
    for seed in range(20):
        _, struck = await _draw(seed, overlap=1.0)
        assert sum(len(each.names) for each in struck) == 12
        assert not [each.names for each in struck if set(each.names) == {"a", "b"}]


def test_a_recovery_is_a_violation_when_it_came_late_or_not_at_all() -> None:
    late = Struck(names=("a",), said="a", took_s=1.0, recovered_s=31.0, drained_s=1.0)
    never = Struck(names=("b",), said="b", took_s=1.0, recovered_s=None, drained_s=1.0)
    behind = Struck(names=("b",), said="b", took_s=1.0, recovered_s=1.0, drained_s=31.0)
    good = Struck(names=("c",), said="c", took_s=1.0, recovered_s=1.0, drained_s=1.0)
    assert len(slow_recoveries([late, never, behind, good], 30.0)) == 3


async def test_recovery_counts_from_the_end_of_the_cause_and_not_from_that_of_the_strike() -> None:
    class Slow(_Calm):
        def __init__(self) -> None:
            super().__init__()
            self.up = asyncio.Event()

        async def serves(self) -> None:
            await self.up.wait()

    world = Slow()

    async def strike(_: World, __: random.Random) -> str:
        cause_is_gone()
        await asyncio.sleep(SILENCE_S)  # until the component is up again: time that belongs to the recovery
        world.up.set()
        return "killed"

    fault = Fault(name="a", site=Site.WORKERS, strike=strike)
    nemesis = Nemesis(cast("World", world), [fault], seed=1, count=1, overlap=0.0)
    await nemesis.run()
    assert (nemesis.struck[0].recovered_s or 0.0) >= SILENCE_S


POISON = Poisoned(origin=("topic", 0, 7), what="noise")


@pytest.mark.parametrize(
    ("letters", "faults"), [({POISON.origin}, 0), (set(), 1), ({POISON.origin, ("topic", 0, 8)}, 1)]
)
def test_a_dead_letter_is_owed_for_what_was_spoilt_and_for_nothing_else(
    letters: set[tuple[str, int, int]], faults: int
) -> None:
    assert len(unburied([POISON], letters)) == faults


def test_an_engine_that_refuses_nearly_everything_is_a_violation() -> None:
    history = History()
    for number, status in enumerate([201, 402, 402]):
        request = history.new(origin_id="o", order_id=str(number), key=str(number), path="/payments", body={})
        request.answers.append(Answer(status=status, body={}, replayed=False, seconds=0.0))
    assert len(too_few_successes(history)) == 1
    history.requests.pop()
    assert too_few_successes(history) == []


def _effect(account: str, origin: str) -> LedgerEntry:
    return LedgerEntry(
        seq=1,
        kind="sale",
        reversed_kind=None,
        amount_minor=1,
        op_id="op",
        order_id="order",
        origin_id=origin,
        gateway_key="op-1",
        currency="USD",
        token="tok",
        account=account,
    )


def test_run_that_leaves_an_account_out_or_uses_it_for_a_stranger_is_a_violation() -> None:
    first, second = _effect("default", "originA"), _effect(SECOND, "originC")
    assert unused_accounts([first, second]) == []
    assert unused_accounts([first]) == [f"nothing happened at the account {SECOND}"]
    assert unused_accounts([second]) == ["nothing happened at the account default"]
    assert len(unused_accounts([first, second, _effect(SECOND, "originA")])) == 1


def test_probes_reach_every_partition_of_orders_and_of_claims() -> None:
    probes = _one_a_partition("run")
    assert {partition_of(order.encode(), PARTITIONS) for order, _ in probes} == set(range(PARTITIONS))
    claims = {claim_key(OriginId(PROBER), IdempotencyKey(key)) for _, key in probes}
    assert {partition_of(key, PARTITIONS) for key in claims} == set(range(PARTITIONS))


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


class _Doubtful:
    """A client whose operation stays in doubt for so many more rounds of asking; -1: for ever."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    async def pursue(self, request: Request) -> None:
        await asyncio.sleep(0)
        self.rounds -= 1
        request.answers.append(_answer(202 if self.rounds else 201))


def _answer(status: int) -> Answer:
    return Answer(status=status, body={}, replayed=False, seconds=0.0)


def _asked(history: History, *statuses: int) -> Request:
    request = history.new(origin_id="o", order_id="1", key="k", path="/payments", body={})
    request.answers.extend(_answer(each) for each in statuses)
    return request


async def test_client_whose_patience_ended_comes_back_until_there_is_a_final_answer() -> None:
    history = History()
    doubtful, answered, never_sent = _asked(history, 202), _asked(history, 201), _asked(history)
    await come_back(cast("Client", _Doubtful(3)), history, timeout_s=LIMIT_S)
    assert [each.status for each in doubtful.answers] == [202, 202, 202, 201]
    assert (len(answered.answers), len(never_sent.answers)) == (1, 0)


async def test_client_gives_up_when_its_operation_stays_in_doubt() -> None:
    history = History()
    doubtful = _asked(history, 202)
    await asyncio.wait_for(come_back(cast("Client", _Doubtful(-1)), history, timeout_s=0.05), LIMIT_S)
    assert doubtful.last.status == 202
