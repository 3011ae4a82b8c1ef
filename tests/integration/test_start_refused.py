"""The orders worker as a process on the real catalogue: what refuses its start, and what mends it."""

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

from schemas.topics import COMMANDS, ORDERS_CHANGELOG
from streams.cli.exits import ExitCode
from streams.development.local_engine import Component
from tests.kafka_cluster import KafkaCluster
from tests.support.command_line import json_of, run_command
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
        "PAYMENT_ENGINE_HEALTH_PORT": "0",
    }
    apply_topics(settings)
    return settings


def apply_topics(environment: Mapping[str, str]) -> None:
    assert run_command("topics", "apply", "--yes", environment=environment).exit_code == 0


def refused(environment: Mapping[str, str]) -> str:
    """Start an orders worker; what it says when it refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "orders"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=START_S,
    )
    assert done.returncode == ExitCode.MISCONFIGURED, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def serves(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory, *options: str) -> str:
    """Start an orders worker, wait until it is ready, and stop it in order; its log."""

    async def start_and_stop() -> int:
        await worker.start(ready_timeout_s=START_S)
        return await worker.stop()

    path = tmp_path_factory.mktemp("orders") / "log"
    worker = Component(
        name="orders", arguments=["-m", "streams.cli", "orders", *options], environment=environment, log_path=path
    )
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
    serves(environment, tmp_path_factory)


def test_orders_refuse_a_start_behind_deleted_commands_until_a_person_has_accepted_it(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lose_commands(environment["PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS"])
    lost = f"up to 3 records were deleted before orders had read them: {COMMANDS} partition 0: 3"
    told = refused(environment)
    assert lost in told
    assert "--accept-loss" in told
    findings = run_command("doctor", "-o", "json", environment=environment)
    assert findings.exit_code == ExitCode.FAILED
    assert lost in findings.stdout
    assert "loss_accepted" in serves(environment, tmp_path_factory, "--accept-loss")
    assert "loss_accepted" not in serves(environment, tmp_path_factory)
    assert not [
        each
        for each in json_of(run_command("doctor", "-o", "json", environment=environment))
        if each["severity"] == "failure"
    ]


def lose_commands(address: str) -> None:
    """Commands that nobody has read, of which the broker has deleted the first."""
    producer = Producer({"bootstrap.servers": address})
    for _ in range(RECORDS):
        producer.produce(COMMANDS, b"not a command", b"order-1", partition=0)
    assert producer.flush(ADMIN_TIMEOUT_S) == 0
    consumer = Consumer({"bootstrap.servers": address, "group.id": "orders"})
    try:
        consumer.commit(offsets=[TopicPartition(COMMANDS, 0, COMMITTED)], asynchronous=False)
    finally:
        consumer.close()
    admin = AdminClient({"bootstrap.servers": address})
    for answer in admin.delete_records([TopicPartition(COMMANDS, 0, LEFT_FROM)]).values():
        assert answer.result(ADMIN_TIMEOUT_S).low_watermark == LEFT_FROM
