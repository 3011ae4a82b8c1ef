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
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from schemas.identifiers import GatewayRoute
from schemas.messages import MessageCodec
from schemas.records.policies import OriginPolicy, RoutingRule, WeightedRoute
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import DeclineClass
from streams.development.local_engine import LOOPBACK, LocalEngine, free_port
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.policy_writer import set_policy
from tests.conftest import COVERAGE_VARIABLE
from tests.kafka_cluster import KafkaCluster
from tests.support.checker import MAX_SHOWN, violations
from tests.support.evidence import EvidenceGatherer
from tests.support.route_checks import later_elsewhere, moved_after_intent, read_moves
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
    moves = await read_moves(KafkaConnection(bootstrap_servers=engine.bootstrap_servers), CODEC, run=run)
    assert moved_after_intent(moves)[:MAX_SHOWN] == []
    assert later_elsewhere(moves, evidence.rows.values())[:MAX_SHOWN] == []

    # The run proves something: many policies were in force, both accounts were used, declines moved payments on.
    first = moves.first_routes()
    told = f"{swaps} swaps, policies {moves.versions()}, first {first}, went on {moves.went_on()}"
    assert swaps >= SWAPS, told
    assert moves.versions() > SWAPS // 2, told
    assert min(first[FIRST], first[OTHER]) > first.total() // 10, told
    assert moves.went_on() > 0, told
