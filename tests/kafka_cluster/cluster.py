"""Apache Kafka on loopback, from the broker's own jars: one node, or three that survive the loss of one.

Called by: the `kafka` fixtures, `bench`, and tests that kill brokers. Outside pytest: `with KafkaCluster() as c:`.
Calls: `java` (see `node`), and confluent-kafka's admin client to ask whether the cluster serves.
"""

import random
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka_cluster.jars import KafkaUnavailableError, fetch_jars, find_java
from tests.kafka_cluster.node import KafkaNode, NodeSpec, kafka_uuid

START_TIMEOUT_S = 90.0
"""One node serves 3 to 5 s after its start on two idle cores; the machine may be shared."""

START_ATTEMPTS_MAX = 3
"""Somebody else may take a port between the look and the bind."""

ADMIN_TIMEOUT_S = 2.0
"""One question to a cluster that may not be there yet."""

POLL_INTERVAL_S = 0.1
"""Between two looks at a starting cluster."""

PORT_RANGE = range(20_000, 30_000)
"""Below Linux's ephemeral ports (32768 and up), which outgoing connections take at any moment."""

PORT_TRIES_MAX = 200
"""How many random ports to try before giving up."""

JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")
"""Small and quiet: a test broker shares two cores with the tests."""


class KafkaCluster:
    """A cluster of one or three combined nodes in a temporary folder.

    With three: replication 3, at least two in sync, so that acks=all survives the loss of any one node.
    """

    def __init__(
        self,
        *,
        brokers: Literal[1, 3] = 1,
        proxied: bool = False,
        settings: Mapping[str, str] | None = None,
        jvm_options: Sequence[str] = JVM_OPTIONS,
        users: Mapping[str, str] | None = None,
    ):
        """`settings` override the broker configuration; `jvm_options` go to every `java` call.

        `proxied` gives each node a second listener, whose clients are sent to a proxy's port (`NodeSpec.proxy_port`);
        whoever asks for it runs the proxies.

        `users` (name: password) make that second listener one to log in at (SASL PLAIN, no proxy), and let nobody do
        anything there that no ACL allows. Who comes by the first listener may do everything.
        """
        self._logins = users is not None
        self._proxied = proxied or self._logins
        self._brokers = brokers
        self._settings = {**_broker_settings(brokers), **_login_settings(users), **(settings or {})}
        self._jvm_options = tuple(jvm_options)
        self._folder: Path | None = None
        self.nodes: tuple[KafkaNode, ...] = ()

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` of every node, comma separated."""
        return ",".join(f"127.0.0.1:{node.spec.client_port}" for node in self.nodes)

    @property
    def proxied_bootstrap_servers(self) -> str:
        """`host:port` of every node's proxy, or of its listener to log in at, comma separated."""
        return ",".join(f"127.0.0.1:{node.spec.proxy_port}" for node in self.nodes)

    def start(self) -> None:
        """Format and start all nodes; returns when every one of them serves clients.

        Raises:
            KafkaUnavailableError: Java, the jars or the start failed; the message holds the end of the log.
        """
        java = [find_java(), *self._jvm_options, "-cp", f"{fetch_jars()}/*"]
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            try:
                self._start_once(java)
            except KafkaUnavailableError as refused:
                address_taken = "BindException" in self._log_tails() or "in use" in str(refused)
                self.stop()
                if attempt == START_ATTEMPTS_MAX or not address_taken:
                    raise
            else:
                return

    def _start_once(self, java: Sequence[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-cluster-"))
        ports = iter(free_ports((4 if self._proxied else 2) * self._brokers))
        specs = [
            NodeSpec(
                node_id=n + 1,
                client_port=next(ports),
                controller_port=next(ports),
                directory_id=kafka_uuid(),
                proxied_port=next(ports) if self._proxied else 0,
                proxy_port=next(ports) if self._proxied else 0,
            )
            for n in range(self._brokers)
        ]
        if self._logins:
            specs = [replace(spec, proxy_port=spec.proxied_port) for spec in specs]
        self.nodes = tuple(KafkaNode(spec, java=java, folder=self._folder / f"node-{spec.node_id}") for spec in specs)
        cluster_id = kafka_uuid()
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            formats = [
                pool.submit(n.format, cluster_id=cluster_id, voters=specs, settings=self._settings) for n in self.nodes
            ]
            for done in formats:
                done.result()
        for node in self.nodes:
            node.start()
        self.wait_until_serving(self._brokers)

    def wait_until_serving(self, brokers: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns once the cluster lists at least that many live brokers.

        Raises:
            KafkaUnavailableError: it did not within `timeout_s`, or every process ended.
        """
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not any(node.process.is_running() for node in self.nodes):
                break
            try:
                if len(admin.list_topics(timeout=ADMIN_TIMEOUT_S).brokers) >= brokers:
                    return
            except KafkaException:
                pass  # not there yet
            time.sleep(POLL_INTERVAL_S)
        raise KafkaUnavailableError(f"Apache Kafka did not come up within {timeout_s:.0f} s:\n{self._log_tails()}")

    def _log_tails(self) -> str:
        return "\n".join(node.process.log_tail() for node in self.nodes)

    def stop(self) -> None:
        """End every node and delete the data. Safe to call twice."""
        for node in self.nodes:
            node.kill()  # the data is deleted right after: nothing is gained by a controlled shutdown
        self.nodes = ()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _login_settings(users: Mapping[str, str] | None) -> dict[str, str]:
    if users is None:
        return {}
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    return {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:SASL_PLAINTEXT",
        "listener.name.proxied.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.proxied.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {known};"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


def free_ports(count: int) -> list[int]:
    """Returns that many different loopback ports that nobody listened on a moment ago.

    Raises:
        KafkaUnavailableError: none found within `PORT_TRIES_MAX` tries.
    """
    found: list[int] = []
    chance = random.SystemRandom()
    for _ in range(PORT_TRIES_MAX):
        if len(found) == count:
            return found
        port = chance.choice(PORT_RANGE)
        with socket.socket() as probe:
            if port not in found and _can_bind(probe, port):
                found.append(port)
    raise KafkaUnavailableError(f"no {count} free ports in {PORT_RANGE}")


def _can_bind(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _broker_settings(brokers: int) -> dict[str, str]:
    """As strict as production where it decides about loss, as quick as possible where it only decides about waiting."""
    return {
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.num.partitions": "5",
        "offsets.topic.replication.factor": str(brokers),
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": str(brokers),
        "transaction.state.log.min.isr": str(min(2, brokers)),
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": str(brokers),
        "share.coordinator.state.topic.min.isr": "1",
        "default.replication.factor": str(brokers),
        "min.insync.replicas": str(min(2, brokers)),
        "num.partitions": "4",
        "log.segment.bytes": "67108864",
        "log.index.size.max.bytes": "1048576",
        "log.cleaner.dedupe.buffer.size": "4194304",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "unclean.leader.election.enable": "false",
    }
