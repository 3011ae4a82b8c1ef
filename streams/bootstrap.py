"""The composition root: settings in, running components out. The only file of `streams` that names concrete adapters.

Called by the CLI, one function a component; each runs until it is told to stop (SIGTERM, SIGINT) or fails, prints
`READY <component>` once it serves, and returns only when everything it started has stopped.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol

import structlog

from gateway_adapters.contract import Gateway
from gateway_adapters.policy import ANY_ORIGIN, Capable, default_policy
from gateway_adapters.registry import build_gateways, specs_of, transport_limits
from gateway_adapters.spec import Accounts
from schemas.identifiers import GatewayName
from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.records.timers import OpenTimer
from schemas.schema_ids import SchemaIds
from streams import topology
from streams.agents import claims as claims_agent
from streams.agents import orders as orders_agent
from streams.agents.shell import AgentShell
from streams.agents.sweep import Sweeper, finished_orders, old_claims
from streams.agents.timers import TimerClock, TimerHeap
from streams.domain.limits import Rules
from streams.executor.options import ExecutorOptions
from streams.executor.worker import GatewayExecutor
from streams.kafka.step import InputEvent, RowReader, Step, TableRow
from streams.kafka.worker_settings import SaslLogin, WorkerSettings
from streams.kafka_clients.backlog import refuse_lost_records
from streams.kafka_clients.connection import connection_of
from streams.kafka_clients.log_clock import LogClock, wall_clock_ms
from streams.kafka_clients.policy_follower import PolicyFollower
from streams.kafka_clients.producer import LogWriter
from streams.settings import Settings, names_of
from streams.telemetry import logs, metrics
from streams.telemetry.health import HealthServer, Readiness

DAY_MS = 24 * 3_600_000

log = structlog.get_logger(__name__)


def codec_of(settings: Settings) -> MessageCodec:
    """Return the codec, with schema ids from the registry when one is configured, else from the packaged lock file.

    Raises:
        MisconfiguredError: the registry does not answer, or does not know a schema that this program writes.
    """
    if settings.registry.url is None:
        return MessageCodec(SchemaIds.packaged())
    from schemas import schema_registry  # its client is an HTTP stack that most deployments never load

    try:
        client = schema_registry.connect(settings.registry.url, timeout_s=settings.registry.timeout_s)
        return MessageCodec(schema_registry.look_up(client))
    except schema_registry.RegistryError as error:
        raise MisconfiguredError(f"schema registry: {error}") from error


def gateways_of(settings: Settings, accounts: Accounts) -> Mapping[GatewayName, Gateway]:
    """Return the gateways of these accounts, by name; none is connected to yet. Close each when done."""
    limits = transport_limits(
        connect_timeout_s=settings.gateway.connect_timeout_s,
        read_timeout_s=settings.gateway.read_timeout_s,
        calls_in_flight=settings.executor.max_calls_in_flight,
    )
    return build_gateways(accounts, limits)


def worker_settings_of(settings: Settings, component: topology.Component) -> WorkerSettings:
    """Return how a Faust worker behaves."""
    stream, kafka = settings.stream, settings.kafka
    connection = connection_of(kafka, client_id=component.client_id)
    login = None
    if kafka.sasl_username is not None and kafka.sasl_password is not None:
        login = SaslLogin(
            mechanism=kafka.sasl_mechanism or "PLAIN",
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
        )
    return WorkerSettings(
        client_id=component.client_id,
        data_dir=stream.state_dir,
        instance_id=stream.instance_id,
        standby_replicas=stream.standby_replicas,
        replication_factor=kafka.replication_factor,
        max_inputs_in_flight=stream.max_inputs_in_flight,
        session_timeout_s=stream.session_timeout_s,
        heartbeat_interval_s=stream.heartbeat_interval_s,
        ssl_context=connection.ssl_context(),
        sasl=login,
    )


def rules_of(settings: Settings, gateways: Mapping[GatewayName, Capable]) -> Rules:
    """Return what the deployment sets of the domain's rules."""
    return Rules(
        order_life_ms=settings.stream.order_life_days * DAY_MS,
        claim_life_ms=settings.stream.claim_life_days * DAY_MS,
        key_windows_ms={name: gateway.capabilities.key_window_ms for name, gateway in gateways.items()},
        late_call_ms=round(settings.gateway.late_call_s * 1000),
    )


def policies_from(follower: PolicyFollower, gateways: tuple[GatewayName, ...]) -> orders_agent.Policies:
    """Return the policies as they are now; `*` is the configured default until `policies.v1` brings another."""
    fallback: Mapping[str, OriginPolicy] = {ANY_ORIGIN: default_policy(gateways)}

    def current() -> Mapping[str, OriginPolicy]:
        known = follower.current()
        return known if ANY_ORIGIN in known else {**fallback, **known}

    return current


async def run_orders(settings: Settings, readiness: Readiness) -> None:
    """Run one worker of the orders app."""
    codec = await asyncio.to_thread(codec_of, settings)
    connection = connection_of(settings.kafka, client_id=topology.ORDERS.client_id)
    gateways = specs_of(settings.accounts)
    rules = rules_of(settings, gateways)
    from streams.kafka.worker import build_worker  # Faust: half a second that the ingress need not wait for

    heap = TimerHeap()
    metrics.watch("timers_open", lambda: len(heap))
    writer = LogWriter(connection)
    log_clock = LogClock()
    clock = TimerClock(heap, codec=codec, log_writer=writer, clock=log_clock)
    follower = PolicyFollower(connection, codec)
    agent = orders_agent.OrdersAgent(
        codec,
        partitions=settings.kafka.partitions,
        policies=policies_from(follower, names_of(settings.gateway.default_gateways)),
        gateways=gateways,
        timers=heap,
        rules=rules,
    )

    def take(event: InputEvent, read: RowReader) -> Step:
        log_clock.saw(event.timestamp_ms)  # a producer's wrong date would only fire timers early, which means nothing
        return agent.take(event, read)

    def partitions_ready(numbers: frozenset[int], _rows: Iterator[TableRow]) -> None:
        found: dict[int, list[OpenTimer]] = {number: [] for number in numbers}
        # The timers alone: to go through every order of the table would take seconds before the first input.
        for row in worker.live_rows(topology.TIMERS_TABLE):
            found[row.partition].append(codec.decode_row(OpenTimer, row.value))
        for number, timers in found.items():
            heap.replace(number, timers)
        clock.wake()

    def partitions_revoked(numbers: frozenset[int]) -> None:
        for number in numbers:
            heap.drop(number)

    worker = build_worker(
        app_id=topology.ORDERS.name,
        bootstrap_servers=settings.kafka.bootstrap_servers,
        source_topics=topology.ORDERS.source_topics,
        tables=topology.ORDERS.tables,
        partitions=settings.kafka.partitions,
        handler=AgentShell(take, codec=codec, component=topology.ORDERS.name, accepted=agent.accepted).handle,
        settings=worker_settings_of(settings, topology.ORDERS),
        on_partitions_ready=partitions_ready,
        on_partitions_revoked=partitions_revoked,
    )
    sweeper = Sweeper(
        lambda: worker.live_rows(topology.ORDERS_TABLE),
        finished_orders(codec, rules),
        codec=codec,
        log_writer=writer,
        now_ms=wall_clock_ms,
        interval_s=settings.stream.sweep_interval_s,
    )
    async with _started(writer), _started(follower):
        await _serve(topology.ORDERS.name, worker, readiness, background=[clock.run, sweeper.run])


async def run_claims(settings: Settings, readiness: Readiness) -> None:
    """Run one worker of the claims app."""
    codec = await asyncio.to_thread(codec_of, settings)
    writer = LogWriter(connection_of(settings.kafka, client_id=topology.CLAIMS.client_id))
    from streams.kafka.worker import build_worker

    rules = rules_of(settings, {})
    agent = claims_agent.ClaimsAgent(codec, partitions=settings.kafka.partitions, rules=rules)
    worker = build_worker(
        app_id=topology.CLAIMS.name,
        bootstrap_servers=settings.kafka.bootstrap_servers,
        source_topics=topology.CLAIMS.source_topics,
        tables=topology.CLAIMS.tables,
        partitions=settings.kafka.partitions,
        handler=AgentShell(agent.take, codec=codec, component=topology.CLAIMS.name).handle,
        settings=worker_settings_of(settings, topology.CLAIMS),
    )
    sweeper = Sweeper(
        lambda: worker.live_rows(topology.CLAIMS_TABLE),
        old_claims(codec, rules),
        codec=codec,
        log_writer=writer,
        now_ms=wall_clock_ms,
        interval_s=settings.stream.sweep_interval_s,
    )
    async with _started(writer):
        await _serve(topology.CLAIMS.name, worker, readiness, background=[sweeper.run])


async def run_executor(settings: Settings, readiness: Readiness) -> None:
    """Run one gateway executor."""
    codec = await asyncio.to_thread(codec_of, settings)
    options = settings.executor
    gateways = gateways_of(settings, settings.accounts)  # it verifies no webhooks, so it needs no secret of theirs
    executor = GatewayExecutor(
        connection_of(settings.kafka, client_id=topology.EXECUTOR.client_id),
        codec,
        gateways,
        ExecutorOptions(
            max_calls_in_flight=options.max_calls_in_flight,
            call_timeout_s=options.call_timeout_s,
            drain_timeout_s=options.drain_timeout_s,
            session_timeout_s=options.session_timeout_s,
            instance_id=options.instance_id,
        ),
    )
    try:
        await _serve(topology.EXECUTOR.name, executor, readiness)
    finally:
        await asyncio.gather(*(gateway.close() for gateway in gateways.values()))


class _Service(Protocol):
    """What a writer and a follower have in common."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@contextlib.asynccontextmanager
async def _started(service: _Service) -> AsyncIterator[None]:
    await service.start()
    try:
        yield
    finally:
        await service.stop()


class _Runnable(Protocol):
    """A worker: runs until it is asked to stop, or raises what crashed it."""

    ready: asyncio.Event

    async def run(self) -> None: ...

    def request_stop(self) -> None: ...

    def faults(self) -> tuple[str, ...]: ...


@contextlib.asynccontextmanager
async def health_served(settings: Settings, component: topology.Component) -> AsyncIterator[Readiness]:
    """Serve a component's own port while the body runs, unless it is switched off; what it gives says what is ready.

    Raises: MisconfiguredError: the port cannot be had.
    """
    readiness = Readiness("starting")
    port = component.health_port if settings.health.port is None else settings.health.port
    if port == 0:
        yield readiness
        return
    server = HealthServer(host=settings.health.host, port=port, faults=readiness.faults, notes=readiness.notes)
    await server.start()
    try:
        yield readiness
    finally:
        await server.stop()


async def _serve(
    component: str,
    worker: _Runnable,
    readiness: Readiness,
    *,
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
) -> None:
    """Run the worker until a signal; a background task that fails stops it too. Raises: what failed."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.request_stop)
    tasks = [loop.create_task(each()) for each in background]
    for task in tasks:
        task.add_done_callback(lambda done: None if done.cancelled() else worker.request_stop())
    announcer = loop.create_task(_announce(component, worker.ready))
    readiness.follow(worker.faults)
    try:
        await worker.run()
    finally:
        for task in (announcer, *tasks):
            task.cancel()
        ended = await asyncio.gather(announcer, *tasks, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each


async def _announce(component: str, ready: asyncio.Event) -> None:
    await ready.wait()
    log.info("ready", component=component)
    sys.stdout.write(f"READY {component}\n")
    sys.stdout.flush()


def run(component: str, settings: Settings, *, accept_loss: bool = False) -> None:
    """Run one component of `COMPONENTS` on its own event loop until it ends.

    Args:
        component: its name.
        settings: those of the process.
        accept_loss: a person has looked at what was deleted unread of its topics; go on from what is left.

    Raises:
        RecordsLostError: records were deleted before its group had read them, and that is not accepted.
        Exception: what it failed with.
    """
    logs.configure(component=component, level=settings.telemetry.log_level, form=settings.telemetry.log_format)
    here = topology.COMPONENTS[component]
    connection = connection_of(settings.kafka, client_id=here.client_id)
    refuse_lost_records(connection, here.name, here.source_topics, accept_loss=accept_loss)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(component, settings))


async def _run(component: str, settings: Settings) -> None:
    async with health_served(settings, topology.COMPONENTS[component]) as readiness:
        await COMPONENTS[component](settings, readiness)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


COMPONENTS: Mapping[str, Callable[[Settings, Readiness], Coroutine[Any, Any, None]]] = {
    topology.ORDERS.name: run_orders,
    topology.CLAIMS.name: run_claims,
    topology.EXECUTOR.name: run_executor,
}
"""The components that this file composes. The ingress composes itself: `http_ingress` imports `streams`."""
