"""The composition root: settings in, components out. The only file of `streams` that names concrete adapters.

Called by `streams.cli.programs`, one class a component. Made, it has judged its settings and opened nothing. It runs
inside `streams.cli.program`, until that tells it to stop or something fails, and returns only when everything that it
started has stopped.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gateway_adapters.contract import Gateway
from gateway_adapters.policy import ANY_ORIGIN, default_policy
from gateway_adapters.registry import build_gateways, call_rates_of, capabilities_of, specs_of, transport_limits
from gateway_adapters.spec import Accounts, GatewaySpec
from schemas.identifiers import GatewayName, GatewayRoute
from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.records.references import ParkedRow
from schemas.topics import topic
from streams import topology
from streams.account_secrets import LiveGateways, SecretsWatch
from streams.agents import claims as claims_agent
from streams.agents import orders as orders_agent
from streams.agents.intake import row_of
from streams.agents.references import Parking
from streams.agents.shell import AgentShell
from streams.agents.sweep import Sweeper, due_orders, nothing_due, old_claims, overdue_webhooks
from streams.agents.timers import FIRED_AGAIN_S, TimerClock
from streams.domain.limits import Rules
from streams.domain.references import size_of
from streams.executor.options import ExecutorOptions
from streams.executor.worker import GatewayExecutor
from streams.kafka.step import TableRow
from streams.kafka.worker_settings import SaslLogin, WorkerSettings
from streams.kafka_clients.connection import KafkaConnection, connection_of
from streams.kafka_clients.log_clock import LogClock
from streams.kafka_clients.policy_follower import PolicyFollower
from streams.kafka_clients.producer import LogWriter
from streams.kafka_clients.retention_watch import RetentionWatch
from streams.settings import Settings, routes_of
from streams.settings import load as load_settings
from streams.telemetry import metrics

if TYPE_CHECKING:
    from streams.kafka.worker import Worker

DAY_MS = 24 * 3_600_000

CLOSE_MARGIN_S = 5.0
"""After a call's time-out no connection of its gateway object is used any more."""

PARKED_A_TURN = 16
"""Rows of parked webhooks that are read before everybody else gets a turn: each may be of 256 KiB."""


def gateways_of(settings: Settings, accounts: Accounts) -> Mapping[GatewayRoute, Gateway]:
    """Return the gateway object of each of these accounts; none is connected to yet. Close each when done."""
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
    if stream.state_dir is not None:
        _require_usable(stream.state_dir)
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


def _require_usable(folder: Path) -> None:
    """Return if the tables can be kept there. Raises: MisconfiguredError: the folder cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # that one can be made is all there is to know
    except OSError as error:
        raise MisconfiguredError(
            f"PAYMENT_ENGINE_STREAM_STATE_DIR: tables cannot be kept in {folder} ({error.strerror})"
        ) from error


def rules_of(settings: Settings, gateways: Mapping[GatewayName, GatewaySpec]) -> Rules:
    """Return what the deployment sets of the domain's rules."""
    return Rules(
        order_life_ms=settings.stream.order_life_days * DAY_MS,
        paid_life_ms=settings.stream.paid_order_life_days * DAY_MS,
        claim_life_ms=settings.stream.claim_life_days * DAY_MS,
        key_windows_ms={name: gateway.capabilities.key_window_ms for name, gateway in gateways.items()},
        late_call_ms=round(settings.gateway.late_call_s * 1000),
        drive_again_ms=round(settings.stream.drive_again_s * 1000),
        capabilities=capabilities_of(settings.accounts),
    )


def policies_from(follower: PolicyFollower, gateways: tuple[GatewayRoute, ...]) -> orders_agent.Policies:
    """Return the policies as they are now; `*` is the configured default until `policies.v1` brings another."""
    fallback: Mapping[str, OriginPolicy] = {ANY_ORIGIN: default_policy(gateways)}

    def current() -> Mapping[str, OriginPolicy]:
        known = follower.current()
        return known if ANY_ORIGIN in known else {**fallback, **known}

    return current


class OrdersProgram:
    """One worker of the orders app: agent, timers, sweep. Satisfies `streams.cli.program.Program`."""

    def __init__(self, settings: Settings, codec: MessageCodec) -> None:
        """Put it together. Raises: MisconfiguredError."""
        self._settings = settings
        self._codec = codec
        self._gateways = specs_of(settings.accounts)
        self._rules = rules_of(settings, self._gateways)
        self._worker_settings = worker_settings_of(settings, topology.ORDERS)
        connection = connection_of(settings.kafka, client_id=topology.ORDERS.client_id)
        self._retention = _retention_watch_of(connection, topology.ORDERS)
        self._writer = LogWriter(connection)
        self._follower = PolicyFollower(connection, codec)
        self._log_clock = LogClock()
        self._parking = Parking()
        metrics.watch("references_awaited", lambda: len(self._parking))
        self._worker: Worker | None = None

    def faults(self) -> tuple[str, ...]:
        """Return why it takes no input now."""
        return _faults_of(self._worker)

    def notes(self) -> tuple[str, ...]:
        """Return nothing: what is odd is in the metrics."""
        return ()

    async def run(self, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Work until told to stop. Raises: what crashed the worker or one of its tasks."""
        from streams.kafka.worker import build_worker  # Faust: half a second that a wrong setting need not wait for

        self._worker = worker = build_worker(
            app_id=topology.ORDERS.name,
            bootstrap_servers=self._settings.kafka.bootstrap_servers,
            source_topics=topology.ORDERS.source_topics,
            tables=topology.ORDERS.tables,
            partitions=self._settings.kafka.partitions,
            handler=self._shell().handle,
            settings=self._worker_settings,
            on_partitions_ready=self._load,
            on_partitions_revoked=self._drop,
            dues={
                topology.ORDERS_TABLE: self._settings.stream.sweep_interval_s,
                topology.PARKED_TABLE: self._settings.stream.sweep_interval_s,
                topology.TIMERS_TABLE: FIRED_AGAIN_S,
            },
        )
        _watch_tables(worker, topology.ORDERS)
        clock = TimerClock(worker, codec=self._codec, log_writer=self._writer, clock=self._log_clock)
        indexed = {name: gateway.capabilities for name, gateway in self._gateways.items()}
        asks = {
            topology.ORDERS_TABLE: due_orders(self._codec, indexed),
            topology.PARKED_TABLE: overdue_webhooks(self._codec),
            topology.OPERATIONS_TABLE: nothing_due,
            topology.REFERENCES_TABLE: nothing_due,
        }
        sweeper = Sweeper(worker, asks, log_writer=self._writer, now_ms=self._log_clock.now_ms)
        async with _started(self._writer), _started(self._follower), _started(self._retention):
            await _work(worker, stopping, ready, background=[clock.run, self._follower.watch, sweeper.run])

    def _shell(self) -> AgentShell:
        routes = routes_of(self._settings.gateway.default_gateways)
        agent = orders_agent.OrdersAgent(
            self._codec,
            partitions=self._settings.kafka.partitions,
            policies=policies_from(self._follower, routes),
            gateways=self._gateways,
            capabilities=capabilities_of(self._settings.accounts),
            parking=self._parking,
            rules=self._rules,
        )
        return AgentShell(
            agent.take,
            codec=self._codec,
            component=topology.ORDERS.name,
            accepted=agent.accepted,
            saw=self._log_clock.saw,  # a producer's wrong date would only fire timers early, which means nothing
        )

    async def _load(self, numbers: frozenset[int], _rows: Iterator[TableRow]) -> None:
        """Count what is parked. That table is small; to go through another would keep the first input for seconds."""
        parked: dict[int, list[tuple[bytes, int]]] = {number: [] for number in numbers}
        assert self._worker is not None, "partitions come to a worker that runs"
        for seen, row in enumerate(self._worker.live_rows(topology.PARKED_TABLE), start=1):
            waiting = row_of(self._codec, ParkedRow, row)
            parked[row.partition].append((row.key, size_of(waiting.webhooks)))
            if seen % PARKED_A_TURN == 0:
                await asyncio.sleep(0)
        if self._worker.owned == numbers:  # else they went away meanwhile
            for number, rows in parked.items():
                self._parking.replace(number, rows)

    def _drop(self, numbers: frozenset[int]) -> None:
        for number in numbers:
            self._parking.drop(number)


class ClaimsProgram:
    """One worker of the claims app. Satisfies `streams.cli.program.Program`."""

    def __init__(self, settings: Settings, codec: MessageCodec) -> None:
        """Put it together. Raises: MisconfiguredError."""
        self._settings = settings
        self._codec = codec
        self._rules = rules_of(settings, {})
        self._worker_settings = worker_settings_of(settings, topology.CLAIMS)
        connection = connection_of(settings.kafka, client_id=topology.CLAIMS.client_id)
        self._retention = _retention_watch_of(connection, topology.CLAIMS)
        self._writer = LogWriter(connection)
        self._log_clock = LogClock()
        self._worker: Worker | None = None

    def faults(self) -> tuple[str, ...]:
        """Return why it takes no input now."""
        return _faults_of(self._worker)

    def notes(self) -> tuple[str, ...]:
        """Return nothing: what is odd is in the metrics."""
        return ()

    async def run(self, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Work until told to stop. Raises: what crashed the worker or its sweep."""
        from streams.kafka.worker import build_worker

        agent = claims_agent.ClaimsAgent(self._codec, partitions=self._settings.kafka.partitions, rules=self._rules)
        shell = AgentShell(agent.take, codec=self._codec, component=topology.CLAIMS.name, saw=self._log_clock.saw)
        self._worker = worker = build_worker(
            app_id=topology.CLAIMS.name,
            bootstrap_servers=self._settings.kafka.bootstrap_servers,
            source_topics=topology.CLAIMS.source_topics,
            tables=topology.CLAIMS.tables,
            partitions=self._settings.kafka.partitions,
            handler=shell.handle,
            settings=self._worker_settings,
            dues={topology.CLAIMS_TABLE: self._settings.stream.sweep_interval_s},
        )
        _watch_tables(worker, topology.CLAIMS)
        asks = {topology.CLAIMS_TABLE: old_claims(self._codec)}
        sweeper = Sweeper(worker, asks, log_writer=self._writer, now_ms=self._log_clock.now_ms)
        async with _started(self._writer), _started(self._retention):
            await _work(worker, stopping, ready, background=[sweeper.run])


def secrets_watch_of(
    settings: Settings, accounts: Accounts, live: LiveGateways, *, read: Callable[[], Accounts]
) -> SecretsWatch:
    """Return what puts accounts' secrets in force when their files change. `accounts`: what `live` was built from."""
    return SecretsWatch(
        settings,
        accounts,
        live,
        read=read,
        build=partial(gateways_of, settings),
        close_after_s=settings.executor.call_timeout_s + CLOSE_MARGIN_S,
    )


class ExecutorProgram:
    """One gateway executor. Satisfies `streams.cli.program.Program`."""

    def __init__(self, settings: Settings, codec: MessageCodec) -> None:
        """Put it together. Raises: MisconfiguredError."""
        options = settings.executor
        if not any(settings.accounts.values()):
            raise MisconfiguredError(
                "no gateway is set up, so that no payment could be made: set one's variables "
                "(PAYMENT_ENGINE_GATEWAY_…), or name a file of accounts; `payment-engine accounts example` prints one"
            )
        # It verifies no webhooks: it needs no secret of theirs.
        self._gateways = LiveGateways(gateways_of(settings, settings.accounts))
        self._secrets = secrets_watch_of(
            settings, settings.accounts, self._gateways, read=lambda: load_settings().accounts
        )
        connection = connection_of(settings.kafka, client_id=topology.EXECUTOR.client_id)
        self._retention = _retention_watch_of(connection, topology.EXECUTOR)
        self._executor = GatewayExecutor(
            connection,
            codec,
            self._gateways,
            ExecutorOptions(
                max_calls_in_flight=options.max_calls_in_flight,
                max_requests_in_flight=options.max_requests_in_flight,
                slot_wait_s=options.slot_wait_s,
                calls_per_second=call_rates_of(settings.accounts),
                breaker_failures=options.breaker_failures,
                breaker_open_s=options.breaker_open_s,
                call_timeout_s=options.call_timeout_s,
                drain_timeout_s=options.drain_timeout_s,
                session_timeout_s=options.session_timeout_s,
                instance_id=options.instance_id,
            ),
        )

    def faults(self) -> tuple[str, ...]:
        """Return why it makes no call now."""
        return self._executor.faults()

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know although it works."""
        return self._secrets.notes()

    async def run(self, stopping: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Work until told to stop. Raises: what ended the executor."""
        try:
            async with _started(self._retention):
                await _work(self._executor, stopping, ready, background=self._secrets.jobs)
        finally:
            await self._gateways.close()


def _watch_tables(worker: "Worker", component: topology.Component) -> None:
    for table in component.tables:
        metrics.watch("table_rows", partial(worker.live_count, table), table=table)


def _faults_of(worker: "Worker | None") -> tuple[str, ...]:
    return ("starting",) if worker is None else worker.faults()


def _retention_watch_of(connection: KafkaConnection, component: topology.Component) -> RetentionWatch:
    return RetentionWatch(connection, component.name, [topic(name) for name in component.source_topics])


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


async def _work(
    worker: _Runnable,
    stopping: asyncio.Event,
    ready: Callable[[int], None],
    *,
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
) -> None:
    """Run the worker until told to stop; a background task that fails stops it too. Raises: what failed."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(each()) for each in (*background, stopping.wait)]
    for task in tasks:
        task.add_done_callback(lambda done: None if done.cancelled() else worker.request_stop())
    announcer = loop.create_task(_announce(worker, ready))
    try:
        await worker.run()
    finally:
        for task in (announcer, *tasks):
            task.cancel()
        ended = await asyncio.gather(announcer, *tasks, return_exceptions=True)
    for each in ended:
        if isinstance(each, Exception):
            raise each


async def _announce(worker: _Runnable, ready: Callable[[int], None]) -> None:
    await worker.ready.wait()
    ready(0)
