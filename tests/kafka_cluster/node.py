"""One Apache Kafka process: broker and controller combined, in KRaft mode.

Called by: `tests.kafka_cluster.cluster`. Calls: `java` with the jars of `tests.kafka_cluster.jars`.
"""

import base64
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kafka_cluster.jars import KafkaUnavailableError
from tests.kafka_cluster.processes import ChildProcess

FORMAT_TIMEOUT_S = 60.0
"""Formatting takes 1.5 s on an idle machine."""

_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
"""


def kafka_uuid() -> str:
    """A random id as Kafka writes them: 22 characters of URL-safe base64 that do not begin with a dash."""
    return "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """Where one node lives and how it names itself."""

    node_id: int
    client_port: int
    controller_port: int
    directory_id: str
    """The id of its log folder, fixed before it is formatted so that all nodes can name all voters."""
    proxied_port: int = 0
    """A second listener, for clients that come through a proxy; 0: none."""
    proxy_port: int = 0
    """Where that proxy listens: what the second listener tells its clients to connect to."""

    @property
    def voter(self) -> str:
        """This node in the syntax of `--initial-controllers`."""
        return f"{self.node_id}@127.0.0.1:{self.controller_port}:{self.directory_id}"


class KafkaNode:
    """A node that can be killed, frozen, woken and started again, with its data kept."""

    def __init__(self, spec: NodeSpec, *, java: Sequence[str], folder: Path):
        self.spec = spec
        self._java = list(java)
        self._folder = folder
        self._properties = folder / "server.properties"
        self.process = ChildProcess(
            [
                *self._java,
                f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
                "kafka.Kafka",
                str(self._properties),
            ],
            log_path=folder / "broker.log",
            cwd=folder,
        )

    def format(self, *, cluster_id: str, voters: Sequence[NodeSpec], settings: Mapping[str, str]) -> None:
        """Write its configuration and format its empty log folder.

        Raises:
            KafkaUnavailableError: Kafka's storage tool refused.
        """
        self._folder.mkdir(parents=True)
        (self._folder / "log4j2.properties").write_text(_LOGGING)
        lines = {**self._own_settings(voters), **settings}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties)]
        argv = [*self._java, *tool, "--initial-controllers", ",".join(voter.voter for voter in voters)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise KafkaUnavailableError(f"StorageTool could not format: {done.stdout[-400:]}{done.stderr[-800:]}")

    def _own_settings(self, voters: Sequence[NodeSpec]) -> dict[str, str]:
        spec = self.spec
        listens = [f"PLAINTEXT://127.0.0.1:{spec.client_port}", f"CONTROLLER://127.0.0.1:{spec.controller_port}"]
        advertised = list(listens)
        if spec.proxied_port:
            listens.append(f"PROXIED://127.0.0.1:{spec.proxied_port}")
            advertised.append(f"PROXIED://127.0.0.1:{spec.proxy_port}")
        return {
            "process.roles": "broker,controller",
            "node.id": str(spec.node_id),
            "controller.quorum.bootstrap.servers": ",".join(f"127.0.0.1:{voter.controller_port}" for voter in voters),
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(listens),
            "advertised.listeners": ",".join(advertised),
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
            "log.dirs": str(self._folder / "log"),
        }

    def start(self) -> None:
        """Start it, or start it again on the data it has; returns before it serves."""
        self.process.start()

    def kill(self) -> None:
        """SIGKILL: no farewell to clients or to the other nodes."""
        self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was frozen."""
        self.process.signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, a controlled shutdown; killed if that takes too long."""
        self.process.stop()
