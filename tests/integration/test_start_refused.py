"""The workers as processes on the real catalogue: what refuses their start, and what mends it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its __init__ re-exports without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from schemas.releases import DRAFT_IDS
from schemas.topics import CLAIMS, CLAIMS_CHANGELOG, COMMANDS, GATEWAY_REQUESTS, ORDERS_CHANGELOG
from streams.cli.exits import ExitCode
from streams.development.local_engine import Component
from tests.kafka_cluster import KafkaCluster
from tests.support.command_line import run_command
from tests.support.embedded_process import embedded_broker_process
from tests.support.kafka_topics import ADMIN_TIMEOUT_S

START_S = 60.0
RECORDS, COMMITTED, LEFT_FROM = 7, 2, 5


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def environment(request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """Settings for a broker of this module's own, with the topics of the catalogue."""
    if request.param == "kafka":
        cluster: KafkaCluster = request.getfixturevalue("own_kafka")
        yield prepared(cluster.bootstrap_servers)
        return
    with embedded_broker_process() as address:
        yield prepared(address)


def prepared(address: str) -> Mapping[str, str]:
    settings = {
        "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": address,
        "PAYMENT_ENGINE_KAFKA_PARTITIONS": "2",
        "PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS": "",
        "PAYMENT_ENGINE_GATEWAY_MOCK_URL": "http://127.0.0.1:8090",
        "PAYMENT_ENGINE_HEALTH_PORT": "0",
    }
    apply_topics(settings)
    return settings


def apply_topics(environment: Mapping[str, str]) -> None:
    assert run_command("topics", "apply", "--yes", environment=environment).exit_code == 0


def refused(environment: Mapping[str, str], component: str = "orders") -> str:
    """Start a worker; what it says when it refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", component],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=START_S,
    )
    assert done.returncode == ExitCode.MISCONFIGURED, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def serves(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, *words: str) -> str:
    """Start a worker by these words, wait until it is ready, and stop it in order; its log."""

    async def start_and_stop() -> int:
        await worker.start(ready_timeout_s=START_S)
        return await worker.stop()

    path = tmp_path_factory.mktemp("worker") / "log"
    worker = Component(name=words[0], arguments=["-m", "streams.cli", *words], environment=environment, log_path=path)
    assert asyncio.run(start_and_stop()) == 0
    return path.read_text()


def test_orders_refuse_a_changelog_that_is_deleted_by_age_until_topics_apply_has_mended_it(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    admin = AdminClient({"bootstrap.servers": environment["PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS"]})
    wrong = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, ORDERS_CHANGELOG, incremental_configs=[wrong])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(ADMIN_TIMEOUT_S)
    told = refused(environment)
    assert f"{ORDERS_CHANGELOG} has cleanup.policy delete, not compact" in told
    assert "`payment-engine topics apply`" in told
    apply_topics(environment)
    serves(environment, tmp_path_factory, "orders")


@pytest.mark.parametrize(
    ("component", "topic"), [("orders", COMMANDS), ("claims", CLAIMS), ("executor", GATEWAY_REQUESTS)]
)
def test_component_refuses_a_start_behind_deleted_records_until_a_person_has_accepted_it(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, component: str, topic: str
) -> None:
    lose_records(environment["PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS"], component, topic)
    lost = f"up to 3 records were deleted before {component} had read them: {topic} partition 0: 3"
    told = refused(environment, component)
    assert lost in told
    assert "--accept-loss" in told
    findings = run_command("doctor", "-o", "json", environment=environment)
    assert findings.exit_code == ExitCode.FAILED
    assert lost in findings.stdout
    assert "loss_accepted" in serves(environment, tmp_path_factory, component, "--accept-loss")
    assert "loss_accepted" not in serves(environment, tmp_path_factory, component)
    assert lost not in run_command("doctor", "-o", "json", environment=environment).stdout


def lose_records(address: str, group: str, topic: str) -> None:
    """Records that the group has not read, of which the broker has deleted the first."""
    producer = Producer({"bootstrap.servers": address})
    for _ in range(RECORDS):
        producer.produce(topic, b"nothing of ours", b"order-1", partition=0)
    assert producer.flush(ADMIN_TIMEOUT_S) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": group})
    try:
        consumer.commit(offsets=[TopicPartition(topic, 0, COMMITTED)], asynchronous=False)
    finally:
        consumer.close()
    admin = AdminClient({"bootstrap.servers": address})
    for answer in admin.delete_records([TopicPartition(topic, 0, LEFT_FROM)]).values():
        assert answer.result(ADMIN_TIMEOUT_S).low_watermark == LEFT_FROM


def test_worker_refuses_tables_of_before_the_first_release_and_names_what_to_run(
    environment: Mapping[str, str],
) -> None:
    """The last test here: its row stays."""
    producer = Producer({"bootstrap.servers": environment["PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS"]})
    producer.produce(CLAIMS_CHANGELOG, b"\x00" + DRAFT_IDS[7].to_bytes(4, "big") + b"row", b"originA|k", partition=1)
    assert producer.flush(ADMIN_TIMEOUT_S) == 0
    told = refused(environment, "claims")
    assert f"{CLAIMS_CHANGELOG} holds rows of before the first release" in told
    assert "`payment-engine topics apply`" in told
