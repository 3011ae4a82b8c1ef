"""One fault run, from a fresh world to its verdict.

Called by `make faults` (`__main__`) and by the short run of every build (`test_faults.py`).
"""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path

from http_ingress.representation.problems import SUCCESS_STATUS
from schemas.identifiers import DEFAULT_ACCOUNT
from schemas.messages import MessageCodec
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import OperationState
from streams.kafka_clients.connection import KafkaConnection
from tests.faults.fault import Fault
from tests.faults.kinds.brokers import SETTINGS
from tests.faults.nemesis import Nemesis, Struck
from tests.faults.policies import ROUTES as POLICIES_ROUTES
from tests.faults.policies import Swapper
from tests.faults.world import (
    HABITS,
    LATE_CALL_S,
    ROUTES,
    SESSION_TIMEOUT_S,
    Poisoned,
    World,
    kept_or_temporary,
    opened,
)
from tests.kafka_cluster import KafkaCluster
from tests.support.checker import Evidence, LedgerEntry, violations
from tests.support.clerks import Clerk
from tests.support.evidence import EvidenceGatherer
from tests.support.foreign_client import Graveyard, Origin
from tests.support.local_rows import copies_in, missing_rows
from tests.support.replay_course import ONLY_MOCK
from tests.support.route_checks import Moves, later_elsewhere, moved_after_intent, read_moves, unused
from tests.support.second_account import SECOND
from tests.support.workload import Client, History, Shopper

CLIENTS = 80
OPERATORS = ("anna", "ben", "chris")
TELL_LATER = frozenset({"mock", "adyen"})
"""Where operators settle what waits, with four gateways: their books say what they told of it, and under which date."""

REQUESTS_A_RULING = 20
LOOK_AGAIN_S = 0.1
ORIGINS = ("originA", "originB", "originC")
ENGINE_LOOKS_MS = 170_000
"""Three looks of the engine's, after 5, 35 and 155 s; it finds what can be found."""

LOOK_UP_AGAIN_S = 5.0
OPERATIONS_AN_ORDER = 2.6
"""About: what the pace of orders is computed with."""

SETTLE_TIMEOUT_S = 900.0
"""The third look at an operation in doubt comes two and a half minutes after the call, the fourth ten minutes later."""

RECOVERY_LIMIT_S = 30.0
"""What docs/guarantees.md promises: every partition serves again this long after a fault has healed."""

LEAST_SUCCESSES = 0.5
PACE_SLACK = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is made of."""

    operations: int
    faults: int
    kinds: Sequence[Fault]
    seed: int
    overlap: float = 0.25
    seconds_a_fault: float = 8.0
    """About: the workload is spread over as long as the faults take, and goes on until both are done."""
    recovery_limit_s: float = RECOVERY_LIMIT_S
    folder: Path | None = None
    """Where logs, history and report stay; None: nowhere."""
    gateways: bool = False
    """Whether all four gateways are there, and policies are swapped."""

    @property
    def seconds(self) -> float:
        """About how long the faults take."""
        return max(1.0, self.faults * self.seconds_a_fault / (1 + self.overlap))


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What came of a run."""

    operations: int
    orders: int
    faults: int
    seconds: float
    violations: list[str]
    struck: list[Struck]
    restarts: dict[str, int] = field(default_factory=dict)
    """Components that ended unasked, and how often: each was started again."""
    last_words: dict[str, str] = field(default_factory=dict)
    dead_letters: int = 0
    event_copies: int = 0
    """Events that stand on the log once more, with the same id and content."""
    late_rows: int = 0
    """Rows of frozen owners that came behind their successors', and never won."""
    superseded_rows: int = 0
    operations_apart: int = 0
    """Rows that no later row was made from: of owners that were replaced before they knew."""
    reordered: int = 0
    """Orders whose events only another interleaving of their topics than that of the timestamps explains."""
    answers: dict[int, int] = field(default_factory=dict)
    """Every answer of every try, by status; 0: the connection broke."""
    swaps: int = 0
    """Of policies, while money moved."""
    effects: dict[str, dict[str, int]] = field(default_factory=dict)
    """What happened at each account, by kind: minor units."""
    moved: dict[str, int] = field(default_factory=dict)
    """Of a run with four gateways: payments by the account they went to first, and those that went on."""


async def run(plan: Plan, *, tell: Callable[[str], None] = lambda _: None) -> Verdict:
    """Run to the end and return the verdict. Raises: KafkaUnavailableError, ComponentFailedError at the start."""
    with KafkaCluster(brokers=3, proxied=True, settings=SETTINGS) as cluster:
        return await run_on(cluster, plan, tell=tell)


async def run_on(cluster: KafkaCluster, plan: Plan, *, tell: Callable[[str], None] = lambda _: None) -> Verdict:
    """As `run`, on three proxied brokers that are there and empty."""
    with kept_or_temporary(plan.folder) as folder:
        async with opened(cluster, folder=folder, gateways=plan.gateways) as world:
            return await _judged(world, plan, folder, tell)


async def _judged(world: World, plan: Plan, folder: Path, tell: Callable[[str], None]) -> Verdict:
    loop = asyncio.get_running_loop()
    began = loop.time()
    tell(f"run {world.run}, seed {plan.seed}: {plan.operations} operations, {plan.faults} faults, in {folder}")
    numbers = itertools.count(1)

    def tell_struck(struck: Struck) -> None:
        recovered = "NOT RECOVERED" if struck.recovered_s is None else f"served again after {struck.recovered_s:.1f} s"
        drained = "NOT DRAINED" if struck.drained_s is None else f"drained after {struck.drained_s:.1f} s"
        tell(
            f"{loop.time() - began:7.1f} s  {len(world.history.requests):6} ops  #{next(numbers)}"
            f" {' + '.join(struck.names)}: {struck.said}; {recovered}, {drained}"
        )

    nemesis = Nemesis(world, plan.kinds, seed=plan.seed, count=plan.faults, overlap=plan.overlap, tell=tell_struck)
    workload = Workload(world, plan)
    swapper = Swapper(world.cluster.bootstrap_servers, ORIGINS, run_s=plan.seconds) if plan.gateways else None
    if swapper is not None:
        await swapper.begin()
    striking = asyncio.create_task(nemesis.run())
    shopping = asyncio.create_task(
        workload.run(until=lambda: striking.done() and (swapper is None or swapper.has_swapped()))
    )
    tasks = [striking, shopping, asyncio.create_task(rule(world, plan, until=shopping.done))]
    if swapper is not None:
        tasks.append(asyncio.create_task(swapper.run(until=shopping.done)))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        _record(world, folder)
    tell(f"{loop.time() - began:7.1f} s  all asked; waiting until nothing is open")
    await asyncio.gather(
        come_back(world.client, world.history, timeout_s=SETTLE_TIMEOUT_S),
        look_up_kept_failures(world, plan, timeout_s=SETTLE_TIMEOUT_S),
    )
    _record(world, folder)
    verdict = await _verdict(world, nemesis, began, recovery_limit_s=plan.recovery_limit_s, swapper=swapper)
    await world.stop()
    verdict.violations += await missing_rows(world.cluster.bootstrap_servers, copies_in(world.engine.folder))
    (folder / "verdict.json").write_text(json.dumps(asdict(verdict), indent=1))
    return verdict


async def come_back(client: Client, history: History, *, timeout_s: float) -> None:
    """Let clients whose patience ended ask again: an operation may be in doubt for longer than they waited.

    Returns when each has a final answer or the time is over; the checker says which have none.
    """
    left = [each for each in history.requests if each.answers and not each.done]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while left:
                await asyncio.gather(*(client.pursue(each) for each in left))
                left = [each for each in left if not each.done]


async def look_up_kept_failures(world: World, plan: Plan, *, timeout_s: float) -> None:
    """Let an operator settle what nobody else can: a gateway keeps a failure under the key, and gives it for ever.

    The engine looks first: it finds what was done after all. What is in doubt for longer the operator looks up at the
    gateway, whose book says what is true. Nothing else is settled so: it must find its end by itself.
    """
    if world.peers is None:
        return
    operator = Clerk(world.desk, world.history, seed=plan.seed, name="dora", run=world.run, habits=HABITS)
    gatherer = EvidenceGatherer(world.engine, run=world.run)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while True:
                kept = {op_id: done for book in world.peers.books() for op_id, done in book.kept_failures().items()}
                doubtful = [
                    (row, each)
                    for row in (await gatherer.rows()).values()
                    for each in row.operations
                    if each.state is OperationState.UNKNOWN and each.op_id in kept
                ]
                if not doubtful:
                    return
                now_ms = time.time_ns() // 1_000_000
                for row, each in doubtful:
                    if now_ms - each.first_requested_at_ms > ENGINE_LOOKS_MS:
                        await operator.settle(row, each, done=kept[each.op_id])
                await asyncio.sleep(LOOK_UP_AGAIN_S)  # operators look now and then


async def rule(world: World, plan: Plan, *, until: Callable[[], bool]) -> None:
    """Let operators decide, one thing after the other, until `until` says so: a decision for so many requests."""
    seeds = random.Random(plan.seed)
    settles_at = None if world.peers is None else TELL_LATER
    clerks = [
        Clerk(
            world.desk,
            world.history,
            seed=seeds.getrandbits(64),
            name=name,
            run=world.run,
            habits=HABITS,
            settles_at=settles_at,
        )
        for name in OPERATORS
    ]

    async def work(clerk: Clerk) -> None:
        while not until():
            wanted = len(world.history.rulings) + 1
            if wanted * REQUESTS_A_RULING <= len(world.history.requests):
                await clerk.one_ruling()
            await asyncio.sleep(LOOK_AGAIN_S)  # the pace of the desk; there may have been nothing to decide yet

    await asyncio.gather(*(work(clerk) for clerk in clerks))


async def _verdict(
    world: World, nemesis: Nemesis, began: float, *, recovery_limit_s: float, swapper: Swapper | None
) -> Verdict:
    gatherer = EvidenceGatherer(
        world.engine,
        run=world.run,
        late_call_ms=LATE_CALL_S * 1000,
        alone=True,
        peers=() if world.peers is None else world.peers.books(),
        accounts=ONLY_MOCK if world.peers is None else world.peers.accounts,
    )
    evidence = await gatherer.when_settled(world.history, timeout_s=SETTLE_TIMEOUT_S)
    letters = await _dead_letters(world)
    found = [
        *violations(evidence),
        *given_up(evidence),
        *too_few_successes(world.history),
        *(unused_accounts(evidence.ledger) if swapper is None else ()),
        *unburied(world.poison, letters),
        *slow_recoveries(nemesis.struck, recovery_limit_s),
    ]
    moves = Moves()
    if swapper is not None and world.peers is not None:
        connection = KafkaConnection(bootstrap_servers=world.cluster.bootstrap_servers)
        moves = await read_moves(connection, MessageCodec(SchemaIds.packaged()), run=world.run)
        found += moved_after_intent(moves)
        found += later_elsewhere(moves, evidence.rows.values())
        found += unused(moves, POLICIES_ROUTES, swaps=swapper.swaps)
        found += [fault for book in world.peers.books() for fault in book.faults()]
    answers: dict[int, int] = {}
    for answer in (answer for request in world.history.requests for answer in request.answers):
        answers[answer.status] = answers.get(answer.status, 0) + 1
    return Verdict(
        operations=len(world.history.requests),
        orders=len(evidence.rows),
        faults=sum(len(struck.names) for struck in nemesis.struck),
        seconds=asyncio.get_running_loop().time() - began,
        violations=found,
        struck=nemesis.struck,
        restarts=dict(world.supervisor.ended),
        last_words=world.supervisor.last_words,
        dead_letters=len(letters),
        event_copies=evidence.event_copies,
        late_rows=evidence.late_rows,
        superseded_rows=evidence.superseded_rows,
        operations_apart=evidence.operations_apart,
        reordered=evidence.reordered,
        answers=answers,
        swaps=0 if swapper is None else swapper.swaps,
        effects=effects_by_account(evidence.ledger),
        moved={**moves.first_routes(), "went on": moves.went_on(), "policies": moves.versions()},
    )


async def _dead_letters(world: World) -> set[tuple[str, int, int]]:
    graveyard = Graveyard.whole(world.cluster.bootstrap_servers)
    return {buried.origin for buried in await graveyard.look()}


def unburied(poison: Sequence[Poisoned], letters: AbstractSet[Origin]) -> list[str]:
    """Every unreadable record has its dead letter, and nothing else has: a good one would be lost to its merchant."""
    poisoned = {each.origin for each in poison}
    return [
        *(f"{each.what} at {each.origin} has no dead letter" for each in poison if each.origin not in letters),
        *(f"the record at {origin} is a dead letter, and nobody has spoilt it" for origin in letters - poisoned),
    ]


def given_up(evidence: Evidence) -> list[str]:
    """No operation was given to a person: by the schedule that takes days, and no run lasts as long."""
    return [
        f"{row.order_id}: {operation.op_id} was given to a person within the run"
        for row, operation in evidence.operations().values()
        if operation.state is OperationState.MANUAL_REVIEW
    ]


def too_few_successes(history: History) -> list[str]:
    """Most of what was asked for came to something: an engine that refuses everything does nothing twice either."""
    answered = [each for each in history.requests if each.answers and each.last.final]
    good = sum(each.last.status in SUCCESS_STATUS.values() for each in answered)
    if good < LEAST_SUCCESSES * len(history.requests):
        return [f"only {good} of {len(history.requests)} requests succeeded"]
    return []


def unused_accounts(ledger: Sequence[LedgerEntry]) -> list[str]:
    """Both accounts were used, each by whom its policy allows: an engine that knows one alone mixes nothing up."""
    used: dict[str, set[str]] = {}
    for entry in ledger:
        used.setdefault(entry.account, set()).add(entry.origin_id)
    faults = [f"nothing happened at the account {name}" for name in (DEFAULT_ACCOUNT, SECOND) if name not in used]
    strangers = used.get(SECOND, set()) - ROUTES.keys()
    return faults + [f"{origin} has no policy and payments at the account {SECOND}" for origin in sorted(strangers)]


def effects_by_account(ledger: Sequence[LedgerEntry]) -> dict[str, dict[str, int]]:
    """Return what happened at each account, minor units by kind."""
    found: dict[str, dict[str, int]] = {}
    for entry in ledger:
        by_kind = found.setdefault(entry.route, {})
        by_kind[entry.kind] = by_kind.get(entry.kind, 0) + entry.amount_minor
    return found


def slow_recoveries(struck: Sequence[Struck], limit_s: float) -> list[str]:
    """Every fault was played as it should, and the engine served again in time."""
    found = [f"{' + '.join(each.names)} could not be played: {each.said}" for each in struck if each.failed]
    for each in struck:
        after = f"after {' + '.join(each.names)} ({each.said})"
        for what, seconds in (("it served again", each.recovered_s), ("the consumers had caught up", each.drained_s)):
            if seconds is None or seconds > limit_s:
                found.append(f"{after} {what} " + ("never" if seconds is None else f"only after {seconds:.1f} s"))
    return found


class Workload:
    """Shoppers that take turns: one order after the other, at a pace that lasts as long as the faults do."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._operations = plan.operations
        self._orders_a_second = plan.operations / OPERATIONS_AN_ORDER / plan.seconds
        self._seed = plan.seed

    async def run(self, *, until: Callable[[], bool]) -> None:
        """Shop until enough was sent and `until` says so."""
        pace = _Pace(self._orders_a_second)
        shoppers = [
            Shopper(
                self._world.client,
                seed=self._seed * 1000 + number,
                run=self._world.run,
                name=f"c{number}",
                origins=ORIGINS,
                habits=HABITS,
                append=self._world.append_directly,
                visit=self._world.visit_bank,
                four=self._world.peers is not None,
            )
            for number in range(CLIENTS)
        ]

        async def shop(shopper: Shopper) -> None:
            while len(self._world.history.requests) < self._operations or not until():
                await pace.turn(hurry=until())
                await shopper.one_order()

        await asyncio.gather(*(shop(shopper) for shopper in shoppers))


class _Pace:
    """Lets so many through a second; when no fault is left to wait for, as many as come."""

    def __init__(self, a_second: float) -> None:
        self._interval_s = 1 / a_second
        self._next = 0.0

    async def turn(self, *, hurry: bool) -> None:
        if hurry:
            return
        now = asyncio.get_running_loop().time()
        self._next = max(self._next + self._interval_s, now - PACE_SLACK)
        await asyncio.sleep(self._next - now)  # the pace of the workload


def _record(world: World, folder: Path) -> None:
    """Keep every request and its answers, a line each, and what operators asked for."""
    for name, listed in (("history.jsonl", world.history.requests), ("rulings.jsonl", world.history.rulings)):
        with (folder / name).open("w") as file:
            for each in listed:
                file.write(json.dumps(asdict(each)) + "\n")


def summary(verdict: Verdict) -> str:
    """Return the verdict for a person."""
    by_kind: dict[str, list[float]] = {}
    for struck in verdict.struck:
        for name in struck.names:
            by_kind.setdefault(name, []).append(float("inf") if struck.recovered_s is None else struck.recovered_s)
    lines = [
        f"{verdict.operations} operations, {verdict.faults} faults, {len(verdict.violations)} violations",
        f"{verdict.seconds:.0f} s, {verdict.orders} orders, {verdict.dead_letters} dead letters",
        f"{verdict.event_copies} events repeated; rows: {verdict.late_rows} late, {verdict.superseded_rows} superseded",
        f"{verdict.operations_apart} operations in rows of their own",
        f"answers by status: {dict(sorted(verdict.answers.items()))}",
        *(f"{route:16} {dict(sorted(kinds.items()))}" for route, kinds in sorted(verdict.effects.items())),
        *([f"{verdict.swaps} swaps; {verdict.moved}"] if verdict.swaps else []),
        f"ended unasked: {verdict.restarts or 'nothing'} (session time-out {SESSION_TIMEOUT_S:g} s)",
        "served again after (s):  median    most  faults",
    ]
    for name, seconds in sorted(by_kind.items()):
        ordered = sorted(seconds)
        lines.append(f"  {name:28} {ordered[len(ordered) // 2]:8.1f}{ordered[-1]:8.1f}{len(ordered):8}")
    return "\n".join(lines)
