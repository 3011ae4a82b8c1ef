"""Apache Kafka in a container, for machines that have an engine and no Java.

Called by: `tests.kafka_cluster.find_kafka`. Calls: testcontainers, and the docker client for a quick look whether an
engine answers at all.
"""

import contextlib
import socket
from collections.abc import Iterator

import docker
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import get_docker_host

from tests.kafka_cluster.cluster import START_TIMEOUT_S, free_ports

IMAGE = "apache/kafka:4.4.0"
"""Apache's own image, the version of `pom.xml`."""

ENGINE_TIMEOUT_S = 3
"""How long an engine may take to answer a ping; without one the answer is immediate."""

DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock"
"""Where the docker client looks when neither the environment nor a context says otherwise."""

_CLIENT_PORT = 9092
_CONTROLLER_PORT = 9093


def engine_answers() -> bool:
    """True when a container engine can be reached."""
    host = get_docker_host() or DEFAULT_DOCKER_HOST
    if host.startswith("unix://") and not _listens(host.removeprefix("unix://")):
        return False  # asked first because the docker client leaks a socket when nobody listens
    try:
        client = docker.from_env(timeout=ENGINE_TIMEOUT_S)
    except DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (DockerException, OSError):
            return False


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(ENGINE_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def kafka_container() -> Iterator[str]:
    """Yields the bootstrap servers of a single node in a container, which is removed afterwards.

    Raises:
        KafkaException: it did not serve in time.
    """
    port = free_ports(1)[0]
    # The port on the host is chosen before the start, since the broker must advertise it.
    container = DockerContainer(IMAGE).with_bind_ports(_CLIENT_PORT, port).with_envs(**_environment(port))
    with container:
        bootstrap_servers = f"127.0.0.1:{port}"
        admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        if not admin.list_topics(timeout=START_TIMEOUT_S).brokers:
            raise KafkaException("the container lists no broker")
        yield bootstrap_servers


def _environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{_CLIENT_PORT},CONTROLLER://:{_CONTROLLER_PORT}",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@localhost:{_CONTROLLER_PORT}",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    }
