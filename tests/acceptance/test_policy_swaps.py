"""Policies are swapped while money moves: nothing is lost, and nothing moves after its intent.

Two origins pay all the time, and workers are killed. The policies change between one account and the other, weights,
conditions and a dry run, with and without a move after a decline. The checker holds the bank's ledger, the rows, the
events and the answers to each other, and each effect to the account that its claim had pinned.
"""

import asyncio
import dataclasses
import itertools
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from schemas import topics
from schemas.identifiers import GatewayRoute, OpId, PaymentId
from schemas.messages import MessageCodec
from schemas.records.claims import ClaimDecided, RoutePlan
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.policies import OriginPolicy, RoutingRule, WeightedRoute
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import CallKind, DeclineClass, Outcome
from streams.development.local_engine import LOOPBACK, LocalEngine, free_port
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import read_log
from streams.kafka_clients.policy_writer import set_policy
from tests.conftest import COVERAGE_VARIABLE
from tests.kafka_cluster import KafkaCluster
from tests.support.checker import MAX_SHOWN, violations
from tests.support.evidence import EvidenceGatherer
from tests.support.second_account import SECOND, second_account
from tests.support.workload import run_workload

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

CODEC = MessageCodec(SchemaIds.packaged())
ORIGINS = ("originA", "originB")
OPERATIONS = 2_000
CLIENTS = 20
SWAPS = 50
PAUSE_S = 0.2
KILLED_AT = {10: "executor-0", 20: "orders-0", 30: "claims-0", 40: "executor-0"}
"""After so many swaps."""

FIRST, OTHER = GatewayRoute("mock"), GatewayRoute(f"mock/{SECOND}")
OPENING = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
ENVIRONMENT = {
    "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
    "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": "20",  # longer than a busy machine holds a worker up
    "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": "20",
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
    COVERAGE_VARIABLE: "",
}


def _rule(*routes: tuple[GatewayRoute, int], currencies: tuple[str, ...] = (), most: int | None = None) -> RoutingRule:
    return RoutingRule(
        currencies=currencies,
        min_amount_minor=None,
        max_amount_minor=most,
        token_kinds=(),
        payer_countries=(),
        routes=tuple(WeightedRoute(gateway=route, weight=weight) for route, weight in routes),
    )


def _policy(*gateways: GatewayRoute, rules: tuple[RoutingRule, ...] = (), **fields: object) -> OriginPolicy:
    policy = OriginPolicy(
        origin_id="*",
        version=1,
        gateways=gateways,
        fallback=True,
        max_attempts=3,
        limits=(),
        updated_at_ms=0,
        rules=rules,
    )
    return dataclasses.replace(policy, **fields)  # type: ignore[arg-type]  # each names a field


HALVES = _rule((FIRST, 50), (OTHER, 50))
POLICIES = (
    _policy(FIRST),
    _policy(FIRST, OTHER, fallback_classes=(DeclineClass.SOFT, DeclineClass.HARD)),
    _policy(FIRST, rules=(HALVES,)),
    _policy(OTHER, fallback=False),
    _policy(FIRST, rules=(_rule((OTHER, 1), currencies=("USD",), most=50_000),), fallback_classes=()),
    _policy(OTHER, FIRST, rules=(HALVES,), fallback_classes=(DeclineClass.SOFT,)),
    _policy(FIRST, rules=(_rule((OTHER, 1)),), dry_run=True),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(own_kafka: KafkaCluster) -> AsyncIterator[LocalEngine]:
    with tempfile.TemporaryDirectory(prefix="payment-engine-test-") as name:
        folder, http_port, gateway_port = Path(name), free_port(), free_port()
        gateway_url = f"http://{LOOPBACK}:{gateway_port}"
        second = second_account(folder, gateway_url, f"http://{LOOPBACK}:{http_port}/webhooks/mock/{SECOND}")
        async with LocalEngine(
            folder=folder,
            bootstrap_servers=own_kafka.bootstrap_servers,
            http_port=http_port,
            environment={**ENVIRONMENT, "PAYMENT_ENGINE_GATEWAY_MOCK_URL": gateway_url, **second.environment},
            mock_arguments=("--port", str(gateway_port), "--accounts", str(second.served)),
        ) as started:
            yield started


async def _swap(engine: LocalEngine, load: "asyncio.Task[object]") -> int:
    """Put one policy after the other in force while the load lasts, at least `SWAPS` times; kill workers meanwhile."""
    connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
    for number, policy in enumerate(itertools.cycle(POLICIES)):  # ends with the load
        if load.done() and number >= SWAPS:
            return number
        origin = ORIGINS[number % len(ORIGINS)]
        wish = dataclasses.replace(policy, origin_id=origin)
        await set_policy(connection, CODEC, wish, now_ms=time.time_ns() // 1_000_000)
        await asyncio.wait({load}, timeout=PAUSE_S)
        if number in KILLED_AT:
            await engine.components[KILLED_AT[number]].kill()
            await engine.restart(KILLED_AT[number])
    raise AssertionError("a cycle has no end")


@dataclasses.dataclass(slots=True)
class _Told:
    """What the log tells of each operation."""

    plans: dict[OpId, RoutePlan] = dataclasses.field(default_factory=dict)
    asked: dict[OpId, list[GatewayCallRequested]] = dataclasses.field(default_factory=dict)
    answers: dict[tuple[OpId, int], GatewayCallCompleted] = dataclasses.field(default_factory=dict)


async def _told(engine: LocalEngine) -> _Told:
    connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
    told = _Told()
    for topic in (topics.VERDICTS, topics.GATEWAY_REQUESTS, topics.GATEWAY_RESULTS):
        async for record in read_log(connection, topic):
            assert record.value is not None
            _, each = CODEC.decode(record.value, record.headers)
            match each:
                case ClaimDecided():
                    told.plans.setdefault(each.op_id, each.plan)
                case GatewayCallRequested():
                    told.asked.setdefault(each.op_id, []).append(each)
                case GatewayCallCompleted():
                    told.answers[each.op_id, each.call_number] = each
                case _:
                    raise AssertionError(topic)
    return told


def _route(asked: GatewayCallRequested) -> GatewayRoute:
    return FIRST if asked.account == "default" else OTHER


def _moved_after_intent(told: _Told) -> list[str]:
    """Return each call that went elsewhere than its pinned plan says, or on without leave to."""
    faults = []
    for op_id, asked in told.asked.items():
        plan = told.plans.get(op_id)
        for before, after in itertools.pairwise(asked):
            answer = told.answers.get((op_id, before.call_number))
            if before.attempt != after.attempt and (answer is None or not _leads_on(answer, told.plans[op_id])):
                faults.append(f"{op_id} went on from attempt {before.attempt} after {answer and answer.outcome}")
        if plan is not None and asked[0].kind in OPENING:
            faults += [
                f"{op_id} attempt {each.attempt} at {_route(each)}, planned {plan.gateways}"
                for each in asked
                if plan.gateways[each.attempt - 1] != _route(each)
            ]
    return faults


def _leads_on(answer: GatewayCallCompleted, plan: RoutePlan) -> bool:
    if answer.outcome is Outcome.NOT_EXECUTED:
        return True
    declined = answer.outcome is Outcome.DECLINED and answer.sole and answer.error is not None
    return declined and answer.error is not None and answer.error.decline_class in plan.fallback_classes


def _later_elsewhere(told: _Told, payments: Mapping[PaymentId, GatewayRoute]) -> list[str]:
    """Return each capture, void, refund and inquiry that did not go where its payment lives."""
    return [
        f"{each.op_id} {each.kind} at {_route(each)}, its payment is at {payments.get(each.payment_id)}"
        for asked in told.asked.values()
        for each in asked
        if each.kind not in OPENING and payments.get(each.payment_id) != _route(each)
    ]


@pytest.mark.timeout(900)
async def test_nothing_is_lost_and_nothing_moves_after_its_intent_when_policies_are_swapped_under_load(
    engine: LocalEngine,
) -> None:
    run = f"t{uuid.uuid4().hex[:8]}"
    load = asyncio.create_task(
        run_workload(engine.url, seed=13, clients=CLIENTS, operations=OPERATIONS, run=run, origins=ORIGINS)
    )
    swaps = await _swap(engine, load)
    history = await load
    evidence = await EvidenceGatherer(engine, run=run, alone=True).when_settled(history)

    assert violations(evidence)[:MAX_SHOWN] == []
    told = await _told(engine)
    assert _moved_after_intent(told)[:MAX_SHOWN] == []
    payments = {
        payment.payment_id: FIRST if payment.account == "default" else OTHER
        for row in evidence.rows.values()
        for payment in row.payments
    }
    assert _later_elsewhere(told, payments)[:MAX_SHOWN] == []

    # The run proves something: many policies were in force, both accounts were used, declines moved payments on.
    opened = [asked for asked in told.asked.values() if asked[0].kind in OPENING]
    versions = {told.plans[asked[0].op_id].policy_version for asked in opened}
    first = Counter(_route(asked[0]) for asked in opened)
    went_on = sum(asked[-1].attempt > 1 for asked in opened)
    print(f"{len(opened)} payments, {swaps} swaps, versions {len(versions)}, first {first}, went on {went_on}")  # noqa: T201
    assert swaps >= SWAPS
    assert len(versions) > SWAPS // len(ORIGINS) // 2
    assert min(first[FIRST], first[OTHER]) > len(opened) // 10
    assert went_on > 0
