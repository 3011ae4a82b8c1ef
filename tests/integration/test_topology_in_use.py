"""The page of topology against what the components really ask brokers for, and which settings they really read."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ re-exports without saying so
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from http_ingress.operators.program import OperatorsRun
from http_ingress.program import IngressRun
from schemas import topics
from schemas.messages import MessageCodec
from schemas.schema_ids import SchemaIds
from streams import bootstrap
from streams.cli.program import Compose, Program
from streams.development.embedded_broker import ApiKey, EmbeddedBroker
from streams.development.embedded_broker.faults import ArmedFault, Faults, groups_of, topics_of
from streams.development.embedded_broker.wire import Request
from streams.development.local_engine import Component as Process
from streams.development.local_engine import LocalEngine
from streams.kafka_clients.admin import TopicAdmin, sizes_of
from streams.kafka_clients.connection import connection_of
from streams.operator_tools.rights import OPERATOR, PRODUCER, all_rights
from streams.settings import Settings, load, variables
from streams.topology import CLAIMS, COMPONENTS, EXECUTOR, INGRESS, OPERATOR_CLIENT_ID, OPERATORS, ORDERS, Component
from tests.conftest import or_skip
from tests.kafka_cluster import KafkaCluster
from tests.support.command_line import json_of, run_command
from tests.support.waiting import until

WAIT_S = 60.0

SELDOM: Mapping[str, frozenset[str]] = {
    "claims": frozenset({topics.CLAIMS}),  # its sweep asks for claims of a day at least to go; see test_sweep
}
"""Topics of a component that this run does not make it write to."""


class Watch(Faults):
    """Strikes nothing, and notes who asks for what."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[tuple[str, ApiKey], set[str]] = {}

    def __bool__(self) -> bool:
        return True

    def striking(self, request: Request) -> ArmedFault | None:
        """Note the topics and groups that the request names."""
        named = topics_of(request) | groups_of(request)
        self.asked.setdefault((request.client_id, request.api), set()).update(named)
        return super().striking(request)

    def topics(self, client_id: str, api: ApiKey) -> set[str]:
        """The topics, or groups where the request names a group, that a client asked for."""
        return self.asked.get((client_id, api), set())

    def whoever_did(self, *apis: ApiKey) -> set[str]:
        return {client for (client, api), named in self.asked.items() if api in apis and named}


@pytest.fixture
async def watched_engine(tmp_path: Path) -> AsyncIterator[tuple[LocalEngine, Watch]]:
    """The whole engine on a broker that notes what it is asked for."""
    broker = EmbeddedBroker()
    watch = broker.faults = Watch()
    async with broker, LocalEngine(folder=tmp_path, bootstrap_servers=broker.bootstrap_servers, desk=True) as engine:
        yield engine, watch


async def pay(engine: LocalEngine, token: str, **more: str) -> str:
    """A payment that is captured at once, in the end; its id. `more`: further members of its body."""
    order = f"order-{uuid.uuid4()}"
    body = {"amount": 1999, "currency": "USD", "token": token, "orderId": order, "originId": "originA", "capture": True}
    body |= more
    headers = {"Idempotency-Key": order, "X-Origin-Id": "originA"}
    async with aiohttp.ClientSession(engine.url) as http:
        async with http.post("/payments?mode=async", json=body, headers=headers) as answer:
            payment = str((await answer.json())["id"])
        async with asyncio.timeout(WAIT_S):
            while True:
                async with http.get(f"/payments/{payment}", headers=headers) as answer:
                    if (await answer.json()).get("status") == "captured":
                        return payment


async def decide(engine: LocalEngine, payment: str) -> None:
    """An operator notes something about a payment, and looks at what waits for a second person."""
    async with (
        aiohttp.ClientSession(engine.url) as merchant,
        merchant.get(f"/payments/{payment}", headers={"X-Origin-Id": "originA"}) as answer,
    ):
        operation = (await answer.json())["operations"][0]["id"]
    body = {"originId": "originA", "paymentId": payment, "operation": operation, "outcome": "note", "why": "a look"}
    assert engine.desk_url is not None
    async with aiohttp.ClientSession(engine.desk_url) as http:
        async with http.post("/decisions", json=body, headers={"X-Operator": "anna"}) as answer:
            assert answer.status == 200, await answer.text()
        async with http.get("/proposals", headers={"X-Operator": "anna"}) as answer:
            assert answer.status == 200


async def write_what_means_nothing(engine: LocalEngine) -> None:
    """A dead letter for each component that writes some."""
    async with AIOKafkaProducer(bootstrap_servers=engine.bootstrap_servers, client_id="a stranger") as producer:
        for topic in (topics.COMMANDS, topics.CLAIMS, topics.GATEWAY_REQUESTS):
            await producer.send_and_wait(topic, b"nothing", key=b"nobody")


def wrong(watch: Watch, component: Component) -> list[str]:
    """What a component has not asked for yet, or should never have."""
    client = component.client_id
    expected = {
        ApiKey.PRODUCE: {*component.writes, *component.changelogs} - SELDOM.get(component.name, frozenset()),
        ApiKey.FETCH: set(component.reads),
        ApiKey.JOIN_GROUP: set() if component.group is None else {component.group},
        ApiKey.OFFSET_COMMIT: set() if component.group is None else {component.group, *component.source_topics},
    }
    return [
        f"{component.name} {api.name}: {sorted(watch.topics(client, api) ^ names)}"
        for api, names in expected.items()
        if watch.topics(client, api) != names
    ]


async def test_components_read_write_and_commit_what_the_page_says_and_nothing_else(
    watched_engine: tuple[LocalEngine, Watch],
) -> None:
    engine, watch = watched_engine
    await write_what_means_nothing(engine)
    await pay(engine, "tok_visa")
    await pay(
        engine, "tok_visa", statementDescriptor="SHOES"
    )  # what stands in the command alone: the executor reads it
    await pay(engine, "tok_mock_duplicate_webhooks")
    await pay(engine, "tok_mock_strangers_webhook+by_reference")  # what is forwarded, and what waits for nobody
    await pay(engine, "tok_mock_rate_limited_x2")  # again later: a timer
    waited = await pay(engine, "tok_mock_pending_then_succeeded")
    await decide(engine, waited)
    with contextlib.suppress(TimeoutError):
        await until(lambda: not any(wrong(watch, each) for each in COMPONENTS.values()), timeout_s=WAIT_S)
    assert [fault for each in COMPONENTS.values() for fault in wrong(watch, each)] == []
    known = {each.client_id for each in COMPONENTS.values()} | {OPERATOR_CLIENT_ID, "a stranger"}
    assert watch.whoever_did(ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.JOIN_GROUP, ApiKey.OFFSET_COMMIT) <= known


class EachByItsOwnName(LocalEngine):
    """The engine, each component logged in as its own principal, everything else as the operator."""

    async def run(
        self,
        name: str,
        arguments: Sequence[str],
        extra: Mapping[str, str] | None = None,
        *,
        health_port: int = 0,
    ) -> Process:
        """Start a component with its own login."""
        component = COMPONENTS.get(name.partition("-")[0])
        login = {} if component is None else {USERNAME: component.client_id}
        return await super().run(name, arguments, {**(extra or {}), **login}, health_port=health_port)


USERNAME, PASSWORD = "PAYMENT_ENGINE_KAFKA_SASL_USERNAME", "a password"
USERS = {right.principal.removeprefix("User:"): PASSWORD for right in all_rights()}


def grant(cluster: KafkaCluster) -> None:
    """Allow what the table of rights says, and nothing else."""
    acls = [
        AclBinding(
            ResourceType[right.resource.upper()] if right.resource != "cluster" else ResourceType.BROKER,
            name,
            ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL,
            right.principal,
            "*",
            AclOperation[KAFKA_ACLS_NAMES[operation]],
            AclPermissionType.ALLOW,
        )
        for right in all_rights()
        for name in (right.names or ("kafka-cluster",))
        for operation in right.operations
    ]
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    for answer in admin.create_acls(acls).values():
        answer.result(WAIT_S)


KAFKA_ACLS_NAMES = {
    operation: re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()
    for right in all_rights()
    for operation in right.operations
}
"""Of each operation: `kafka-acls.sh` says DescribeConfigs, librdkafka DESCRIBE_CONFIGS."""


@pytest.fixture
def guarded_kafka() -> Iterator[KafkaCluster]:
    """Apache Kafka whose authorizer lets each principal do what the table of rights says."""
    with or_skip(), KafkaCluster(brokers=1, users=USERS) as cluster:
        grant(cluster)
        yield cluster


def login(cluster: KafkaCluster, principal: str) -> dict[str, str]:
    return {
        "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": cluster.proxied_bootstrap_servers,
        "PAYMENT_ENGINE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "PAYMENT_ENGINE_KAFKA_SASL_MECHANISM": "PLAIN",
        "PAYMENT_ENGINE_KAFKA_SASL_PASSWORD": PASSWORD,
        USERNAME: principal.removeprefix("User:"),
    }


def said_to(cluster: KafkaCluster, principal: str, topic: str) -> KafkaError | None:
    """Write a record to the topic as this principal; what the broker says."""
    said: list[KafkaError | None] = []
    producer = Producer(
        {
            "bootstrap.servers": cluster.proxied_bootstrap_servers,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": principal.removeprefix("User:"),
            "sasl.password": PASSWORD,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
        }
    )
    producer.produce(topic, b"nothing", b"nobody", on_delivery=lambda error, _: said.append(error))
    producer.flush(WAIT_S)
    return said[0]


@pytest.mark.kafka
async def test_engine_pays_with_the_rights_of_the_table_and_no_others(
    guarded_kafka: KafkaCluster, tmp_path: Path
) -> None:
    engine = EachByItsOwnName(
        folder=tmp_path,
        bootstrap_servers=guarded_kafka.proxied_bootstrap_servers,
        environment=login(guarded_kafka, OPERATOR),
    )
    async with engine:
        assert said_to(guarded_kafka, PRODUCER, topics.COMMANDS) is None  # a dead letter
        for token in ("tok_visa", "tok_mock_duplicate_webhooks", "tok_mock_rate_limited_x2"):
            await pay(engine, token)
        for name in ("ingress", "orders-0", "claims-0", "executor-0"):
            assert "topic_configs_hidden" not in (tmp_path / f"{name}.log").read_text()
        asked = partial(run_command, environment=login(guarded_kafka, OPERATOR))
        found = json_of(await asyncio.to_thread(asked, "doctor", "--probe", "-o", "json"))
        assert [each for each in found if each["severity"] == "failure"] == []
        assert len(json_of(await asyncio.to_thread(asked, "dlq", "list", "-o", "json"))) == 1
        for words in (["dlq", "redrive", "--all", "--yes"], ["policy", "set", "originA", "--gateways", "mock"]):
            done = await asyncio.to_thread(asked, *words)
            assert done.exit_code == 0, done.output
    for topic in (topics.EVENTS, topics.GATEWAY_RESULTS, topics.VERDICTS, ORDERS.changelogs[0]):
        refused = said_to(guarded_kafka, PRODUCER, topic)
        assert refused is not None
        assert refused.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


class Noted:
    """Settings that note which of their groups are read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in Settings.GROUPS:
            self.read.add(name)
        return getattr(self._settings, name)


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=lambda each: each.name)
async def test_component_reads_the_groups_of_settings_that_the_page_says(
    component: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedBroker() as broker:
        for name, _ in variables():
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
        monkeypatch.setenv("PAYMENT_ENGINE_HTTP_PORT", "0")
        monkeypatch.setenv("PAYMENT_ENGINE_HTTP_DEV", "true")
        monkeypatch.setenv("PAYMENT_ENGINE_OPERATORS_PORT", "0")
        monkeypatch.setenv("PAYMENT_ENGINE_OPERATORS_DEV", "true")
        monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_MOCK_URL", "http://127.0.0.1:8090")
        settings = load()
        connection = connection_of(settings.kafka, client_id="test")
        await asyncio.to_thread(TopicAdmin(connection, sizes_of(settings.kafka)).apply)
        noted = Noted(settings)
        program = COMPOSERS[component.name](cast("Settings", noted), MessageCodec(SchemaIds.packaged()))
        await run_until_ready(program)
    of_the_shell = {"telemetry", "health", "registry"}  # logs, the health port and the codec: see `streams.cli.program`
    assert noted.read | of_the_shell == set(component.settings_groups)


COMPOSERS: Mapping[str, Compose] = {
    INGRESS.name: IngressRun,
    ORDERS.name: bootstrap.OrdersProgram,
    CLAIMS.name: bootstrap.ClaimsProgram,
    EXECUTOR.name: bootstrap.ExecutorProgram,
    OPERATORS.name: OperatorsRun,
}


async def run_until_ready(program: Program) -> None:
    stopping, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(program.run(stopping, lambda _port: ready.set()))
    try:
        await until(lambda: running.done() or ready.is_set(), timeout_s=WAIT_S)
    finally:
        stopping.set()
        await running
