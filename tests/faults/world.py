"""The world of a fault run: three brokers, the whole engine on them, proxies in between, and a supervisor.

Built by `tests.faults.run`, touched by the kinds of faults. The engine reaches its brokers and its gateway only through
proxies; the harness itself asks them directly. A component that ends is started again, as Kubernetes or Compose would.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from schemas import identifiers, topics
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OriginId
from schemas.messages import Envelope
from schemas.records.commands import PaymentRequested
from streams.development.local_engine import LOOPBACK, Component, ComponentFailedError, LocalEngine
from streams.kafka_clients.connection import KafkaConnection
from tests.faults.fault import FaultNotPlayedError
from tests.faults.peers import EngineOfFour, Peers
from tests.faults.proxy import FaultyProxy
from tests.faults.supervisor import Supervisor
from tests.kafka_cluster import KafkaCluster, KafkaNode
from tests.kafka_cluster.cluster import free_ports
from tests.support.answer_checks import command_of
from tests.support.exhibits import REFUSED_THEN_SUCCEEDED
from tests.support.foreign_client import CODEC, HeaderList, Origin, Sent, append_all
from tests.support.group_lag import GroupLag
from tests.support.second_account import SECOND, second_account
from tests.support.workload import Client, Habits, History, Request

PARTITIONS = 4
WORKERS_EACH = 2
SESSION_TIMEOUT_S = 6.0
LATE_CALL_S = 60
"""The proxies hold a call for some ten seconds at most. By the third look at it, absence proves something."""

LOOK_AGAIN_S = 0.05
RUNS_LIMIT_S = 150.0
"""Of a component's start, longer than three brokers take to come back together (75 s were seen): both may strike at
once. How soon the engine serves again is measured elsewhere."""

CREATED = 201
PROBER = "originP"
ROUTES = {"originB": f"mock,mock/{SECOND}", "originC": f"mock/{SECOND}"}
"""Policies: of who goes on to the second account when the first did not execute a call, and of who uses it alone."""

CONTROL_TIMEOUT_S = 10.0
VISIT_AGAIN_S = 2.0
VISIT_TRIES = 6
"""Of a payer at the Mock's page: one that is slow on a busy machine must not end a long run."""

ENVIRONMENT = {
    "PAYMENT_ENGINE_KAFKA_PARTITIONS": str(PARTITIONS),
    "PAYMENT_ENGINE_KAFKA_REPLICATION_FACTOR": "3",
    "PAYMENT_ENGINE_KAFKA_MIN_INSYNC_REPLICAS": "2",
    "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
    "PAYMENT_ENGINE_HTTP_SYNC_TIMEOUT_S": "5",
    "PAYMENT_ENGINE_STREAM_STANDBY_REPLICAS": "1",
    "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
    "PAYMENT_ENGINE_STREAM_SWEEP_INTERVAL_S": "15",  # so that partitions come and go while they are swept
    "PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S": "0.5",
    "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
    "PAYMENT_ENGINE_EXECUTOR_CALL_TIMEOUT_S": "4",
    "PAYMENT_ENGINE_GATEWAY_CONNECT_TIMEOUT_S": "1",
    "PAYMENT_ENGINE_GATEWAY_READ_TIMEOUT_S": "3",
    "PAYMENT_ENGINE_GATEWAY_LATE_CALL_S": str(LATE_CALL_S),
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
}
HABITS = Habits(
    tries=600,
    retry_delay_s=0.3,
    request_timeout_s=12.0,
    awkward_tokens=(
        "tok_mock_timeout_after",
        "tok_mock_rate_limited",
        "tok_mock_pending_then_succeeded",
        "tok_mock_html_502_after",
        "tok_mock_late_failure",
        "tok_mock_capture_late_failure",
        "tok_refundFail",
        "tok_mock_amount_mismatch",
        "tok_mock_capture_amount_mismatch",
        "tok_mock_refund_amount_mismatch",
        "tok_mock_partial_approval",
        REFUSED_THEN_SUCCEEDED,
    ),
    awkward=0.05,
    asynchronous=0.2,
    race=0.08,
    direct=0.1,
    looks=0.1,
    tells=0.1,
    trusting=0.05,
    direct_only=0.04,
    returns=0.01,
    payers=0.06,
    partial=0.04,
)


@dataclass(slots=True, kw_only=True)
class Poisoned:
    """Records that nobody can take, by where they stand."""

    origin: Origin
    what: str


class World:
    """Everything a fault may touch. `opened()` makes one."""

    def __init__(
        self,
        *,
        cluster: KafkaCluster,
        engine: LocalEngine,
        gateway_port: int,
        session: aiohttp.ClientSession,
        run: str,
        peers: Peers | None = None,
    ) -> None:
        self.cluster = cluster
        self.engine = engine
        self.run = run
        self.history = History()
        self.client = Client(session, [engine.url], self.history, HABITS)
        self.desk = self.client
        """Of operators, once the world is started."""
        self._probers: list[Client] = []  # one for each ingress
        self._lag = GroupLag(KafkaConnection(bootstrap_servers=cluster.bootstrap_servers))
        self.session = session
        self.poison: list[Poisoned] = []
        self.supervisor = Supervisor(engine)
        self.broker_proxies = [
            FaultyProxy(partial(_listener_behind, node), port=node.spec.proxy_port, seed=node.spec.node_id)
            for node in cluster.nodes
        ]
        self.gateway_proxy = FaultyProxy(lambda: self.engine.components["mock-gateway"].port, port=gateway_port)
        self.peers = peers
        """The other gateways of a run with four of them."""
        self.peer_proxies = {} if peers is None else peers.proxies
        self._watching = contextlib.AsyncExitStack()
        self._probes = 0

    @property
    def mock_url(self) -> str:
        """The Mock gateway itself, past the proxy."""
        return f"http://127.0.0.1:{self.engine.components['mock-gateway'].port}"

    def workers(self, kind: str) -> list[str]:
        """Return the names of the running set of a kind: `orders`, `claims`, `executor`, `ingress` or `operators`."""
        return sorted(name for name in self.engine.components if name.split("-")[0] == kind)

    async def start(self) -> None:
        """Start proxies, engine and supervisor."""
        for proxy in (*self.broker_proxies, self.gateway_proxy):
            await proxy.start()
        if self.peers is None:
            await self.engine.start()
            await self._set_policies()
        else:
            await self.peers.start(self.engine)
            await self.engine.start()
        assert self.engine.desk_url is not None
        self.desk = Client(self.session, self.engine.desk_url, self.history, HABITS)
        urls = [self.engine.url, await self._start_second_ingress()]
        self.client = Client(self.session, urls, self.history, HABITS)
        self._probers = [Client(self.session, [url], self.history, HABITS) for url in urls]
        await self._watching.enter_async_context(self.supervisor.watching())

    async def _set_policies(self) -> None:
        """Send some origins' payments to the second account, as an operator does. Raises: ComponentFailedError."""
        for origin, gateways in ROUTES.items():
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "streams.cli", "policy", "set", origin, "--gateways", gateways),
                env={**os.environ, **self.engine.environment()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            printed, _ = await asyncio.wait_for(process.communicate(), RUNS_LIMIT_S)
            if process.returncode != 0:
                raise ComponentFailedError(f"policy set ended with {process.returncode}\n{printed.decode()}")

    async def _start_second_ingress(self) -> str:
        """Start an instance that waits on another partition of replies; return its URL."""
        (port,) = free_ports(1)
        extra = {"PAYMENT_ENGINE_HTTP_PORT": str(port), "PAYMENT_ENGINE_HTTP_INSTANCE": "1"}
        await self.engine.run("ingress-1", self.engine.components["ingress"].arguments, extra)
        return f"http://{LOOPBACK}:{port}"

    async def stop(self) -> None:
        """Stop everything. Safe to call twice."""
        await self._watching.aclose()
        proxies = (*self.broker_proxies, self.gateway_proxy, *self.peer_proxies.values())
        for proxy in proxies:
            proxy.forward()
        await self.engine.stop()
        if self.peers is not None:
            await self.peers.stop()
        for proxy in proxies:
            await proxy.stop()

    @contextlib.asynccontextmanager
    async def held_down(self, name: str) -> AsyncIterator[Component]:
        """Keep a component from being started again for this long; then the supervisor starts it."""
        async with self.supervisor.held_down(name):
            yield self.engine.components[name]

    async def kill(self, name: str) -> None:
        """SIGKILL, once the process is there, ready or not. Raises: TimeoutError, FaultNotPlayedError."""
        component = self.engine.components[name]
        if self.supervisor.is_held_down(name) and not component.running:
            return  # it has ended by itself, and nobody starts it meanwhile
        await self._runs(component)
        self.supervisor.mean_to_end(component)
        code = await component.kill()
        if code != -signal.SIGKILL:
            raise FaultNotPlayedError(f"{name} was killed and ended with {code}")

    async def _runs(self, component: Component) -> None:
        async with asyncio.timeout(RUNS_LIMIT_S):
            while not component.running:  # noqa: ASYNC110 -- a process sets no event of ours
                await asyncio.sleep(LOOK_AGAIN_S)

    async def terminate(self, name: str) -> int:
        """SIGTERM, and wait until it has ended; returns the exit code."""
        component = self.engine.components[name]
        self.supervisor.mean_to_end(component)
        return await component.stop()

    async def freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long. Raises: TimeoutError, FaultNotPlayedError."""
        component = self.engine.components[name]
        await self._runs(component)
        pid = component.pid
        component.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            component.send(signal.SIGCONT)
        if component.pid != pid:
            raise FaultNotPlayedError(f"{name} was frozen and another process runs")

    async def running(self, name: str, *, timeout_s: float = RUNS_LIMIT_S) -> None:
        """Return once the supervisor has the component ready. Raises: TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self.supervisor.is_up(name):  # noqa: ASYNC110 -- a process sets no event of ours
                await asyncio.sleep(LOOK_AGAIN_S)

    async def add_worker(self, kind: str, number: int) -> None:
        """Start one more worker, which the supervisor then keeps up, and not before: it would be started twice."""
        async with self.supervisor.held_down(f"{kind}-{number}"):
            with contextlib.suppress(ComponentFailedError):
                await self.engine.start_worker(kind, number)

    async def remove_worker(self, name: str) -> None:
        """Stop a worker for good."""
        async with self.held_down(name):
            await self.terminate(name)
            del self.engine.components[name]

    async def serves(self) -> None:
        """Return once each ingress has had a payment of every partition of orders and of claims carried out."""
        self._probes += 1
        await asyncio.gather(
            *(
                self._probe(client, order, key)
                for number, client in enumerate(self._probers)
                for order, key in _one_a_partition(f"{self.run}-probe{self._probes}-{number}")
            )
        )

    async def consumers_catch_up(self) -> None:
        """Return once every consumer has committed all that stands on the log now."""
        await self._lag.when_caught_up()

    async def _probe(self, client: Client, order: str, key: str) -> None:
        """Ask until it is paid: a decline by a gateway that has recovered is no service, and ends in the time-out."""
        body = {
            "originId": PROBER,
            "orderId": order,
            "amount": 1999,
            "currency": "USD",
            "token": "tok_visa",
            "capture": True,
        }
        paid = await client.ask(origin_id=PROBER, order_id=order, key=key, path="/payments?mode=sync", body=body)
        if paid.last.status != CREATED:
            raise FaultNotPlayedError(f"a payment of {order} came to {paid.last.status} {paid.last.body.get('code')}")

    def state_dir(self, name: str) -> Path:
        """Return the folder of a worker's tables."""
        return self.engine.folder / name

    async def pause(self, seconds: float) -> None:
        """Let a fault hold: the one place where time passes on purpose."""
        await asyncio.sleep(seconds)

    async def all_brokers_serve(self) -> None:
        """Return once the cluster lists all its brokers. Raises: KafkaUnavailableError."""
        await asyncio.to_thread(self.cluster.wait_until_serving, len(self.cluster.nodes))

    async def tell_gateway(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """Use the Mock's control endpoint, past the proxy. Raises: aiohttp.ClientError when it refuses."""
        timeout = aiohttp.ClientTimeout(total=CONTROL_TIMEOUT_S)
        async with self.session.request(method, self.mock_url + path, json=body, timeout=timeout) as answer:
            answer.raise_for_status()

    async def tell_peer(self, name: str, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """Use a simulator's control endpoint, past its proxy; one that is being started again is waited for.

        Raises: aiohttp.ClientError: it refuses. TimeoutError: it does not come back.
        """
        assert self.peers is not None
        async with asyncio.timeout(RUNS_LIMIT_S):
            while True:
                try:
                    await self.peers.tell(self.session, name, method, path, body)
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(LOOK_AGAIN_S)  # a process sets no event of ours
                else:
                    return

    async def visit_bank(self, action_url: str, agrees: bool) -> dict[str, str]:
        """Let a payer say yes or no on the Mock's page; return what is brought back. Raises: aiohttp.ClientError.

        Said again, it changes nothing: the first word counts.
        """
        for tries_left in reversed(range(VISIT_TRIES)):
            try:
                return await self._visit(action_url, agrees)
            except (aiohttp.ClientError, TimeoutError):
                if not tries_left:
                    raise
            if self.peers is not None:
                await asyncio.sleep(VISIT_AGAIN_S)  # whoever was killed is up again by then
        raise AssertionError("the last try returns or raises")

    async def _visit(self, action_url: str, agrees: bool) -> dict[str, str]:
        if self.peers is not None and self.peers.is_page(action_url):
            return await self.peers.visit(self.session, action_url, agrees=agrees)
        said = "succeeded" if agrees else "failed"
        timeout = aiohttp.ClientTimeout(total=CONTROL_TIMEOUT_S)
        async with self.session.post(f"{action_url}/complete?result={said}", timeout=timeout) as answer:
            brought: dict[str, str] = (await answer.json()).get("return_parameters", {})
            return brought

    async def append(self, records: Sequence[Sent]) -> Mapping[Origin, Sent]:
        """Append past the engine and the proxies, with another client; returns each by where it stands."""
        return await asyncio.to_thread(append_all, self.cluster.bootstrap_servers, records)

    async def append_directly(self, request: Request) -> None:
        """Append the command of a payment request as a merchant's own producer would (`Habits.direct`)."""
        command = command_of(request)
        assert isinstance(command, PaymentRequested)
        envelope = Envelope(
            id=str(uuid.uuid4()),
            source="tests/direct-producer",
            type=TYPES[PaymentRequested],
            time_ms=time.time_ns() // 1_000_000,
            partitionkey=command.order_id,
            originid=command.origin_id,
            idempotencykey=command.idempotency_key,
        )
        message = CODEC.encode(command, envelope)
        headers: HeaderList = [*message.headers]
        await self.append(
            [Sent(topic=topics.COMMANDS, key=command.order_id.encode(), value=message.value, headers=headers)]
        )
        request.appended_ids.append(envelope.id)


def _listener_behind(node: KafkaNode) -> int:
    return node.spec.proxied_port


def _one_a_partition(prefix: str) -> Sequence[tuple[str, str]]:
    """Return an order of each partition, each with an idempotency key of each partition of the claims."""
    orders = _found(f"{prefix}-", lambda order: order.encode())
    keys = _found(f"{prefix}-key-", lambda key: identifiers.claim_key(OriginId(PROBER), IdempotencyKey(key)))
    return list(zip(orders, keys, strict=True))


def _found(prefix: str, row_key: Callable[[str], bytes]) -> Sequence[str]:
    found: dict[int, str] = {}
    for number in itertools.count():
        name = f"{prefix}{number}"
        found.setdefault(topics.partition_of(row_key(name), PARTITIONS), name)
        if len(found) == PARTITIONS:
            return list(found.values())
    raise AssertionError("counting ends")


@contextlib.asynccontextmanager
async def opened(
    cluster: KafkaCluster, *, folder: Path, mock_arguments: Iterable[str] = (), gateways: bool = False
) -> AsyncIterator[World]:
    """Yield a world that serves; its cluster is started and proxied already. `gateways`: all four are there."""
    run = f"t{uuid.uuid4().hex[:8]}"
    http_port, gateway_port = free_ports(2)  # no ephemeral ones, which others may take while the ingress is down
    gateway_url = f"http://{LOOPBACK}:{gateway_port}"
    second = second_account(folder, gateway_url, f"http://{LOOPBACK}:{http_port}/webhooks/mock/{SECOND}")
    peers = Peers(folder, mock_url=gateway_url) if gateways else None
    further = {} if peers is None else peers.environment()
    engine = (LocalEngine if peers is None else EngineOfFour)(
        folder=folder,
        bootstrap_servers=cluster.proxied_bootstrap_servers,
        http_port=http_port,
        environment={**ENVIRONMENT, "PAYMENT_ENGINE_GATEWAY_MOCK_URL": gateway_url, **second.environment, **further},
        orders_workers=WORKERS_EACH,
        claims_workers=WORKERS_EACH,
        executors=WORKERS_EACH,
        desk=True,
        mock_arguments=("--delay-ms", "1500", "--accounts", str(second.served), *mock_arguments),
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        world = World(cluster=cluster, engine=engine, gateway_port=gateway_port, session=session, run=run, peers=peers)
        try:
            await world.start()
            yield world
        finally:
            await world.stop()


@contextlib.contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    """Yield this folder, made if need be, or one that is deleted afterwards."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="payment-engine-faults-") as temporary:
        yield Path(temporary)
