"""The Faust app of a worker: its settings, its parts, and the points where Faust calls into ours.

Called by `worker`. No global app, no discovery, no web server, no leader topic, nothing created on the broker: Faust is
here for group membership, assignment, table recovery and standby replicas, and for the stream that one agent reads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import faust
import mode
from faust.auth import SASLCredentials
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import Transport, credentials_to_aiokafka_auth
from faust.types import TP

from streams.kafka.changelog_ledger import ChangelogLedger
from streams.kafka.faust_fences.recovery import OrderedTableManager
from streams.kafka.faust_fences.transport import LedgerConsumer, WorkerTransport
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.pipeline import Pipeline
from streams.kafka.worker_settings import WorkerSettings
from streams.kafka_clients.lease import Lease
from streams.kafka_clients.producer import MAX_RECORD_BYTES

COMMIT_EVERY_INPUTS = 1000
"""Commit also after so many inputs [10000]."""

BROKER_REQUEST_TIMEOUT_S = 90.0
"""Faust's and aiokafka's longest wait for one answer; must exceed the session time-out."""

MAX_POLL_INTERVAL_S = 10 * 365 * 24 * 3600.0
"""After so long without a fetch aiokafka leaves the group, and does not come back before one [1000]. A worker without a
partition fetches nothing, for as long as nobody leaves it one: so never. What stands still in one that has partitions
has watches of its own (`pipeline`, `changelog_catch_up`)."""

METADATA_MAX_AGE_MS = 10_000
"""How soon a topic is seen that a lagging broker did not know when partitions were assigned [300,000]: the assignor
leaves unknown topics out, and nobody would read them until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaustParts:
    """Which of Faust's parts are replaced. The defaults are the only safe ones; tests take one out to show why."""

    transport: type[Transport] = WorkerTransport
    table_manager: type[TableManager] = OrderedTableManager


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHooks:
    """What the app calls when the assignment changes; filled in by `worker`."""

    lanes_ready: Callable[[int], Awaitable[None]]
    """(generation): rows are recovered and positions sought, no input flows yet."""
    lanes_revoked: Callable[[], Awaitable[None]]
    """Inputs are drained and committed, the partitions go away."""
    worker_ready: Callable[[], None]
    """Inputs flow."""


class WorkerApp(faust.App):
    """A Faust app that knows the pipeline of its worker; what the other fences use of it is told by `EngineApp`."""

    ledger: OffsetLedger[tuple[str, int]]
    changelog_ledger: ChangelogLedger[TP]
    lease: Lease
    pipeline: Pipeline
    bootstrap_servers: str
    source_topics: frozenset[str]
    source_queue: Any = None
    """The queue that the agent reads; None until it does."""
    partitions_resumed: asyncio.Event
    hooks: WorkerHooks
    parts: FaustParts
    revocations: int = 0
    fetches_ended: int = 0
    assigned_after: int = 0

    async def on_first_start(self) -> None:
        """Faust would make folders for its own store, which is not used."""

    def on_rebalance_start(self) -> None:
        """Faust takes the state of no sensors for a lost one, and warns of it twice in each rebalance."""
        super().on_rebalance_start()
        self._rebalancing_sensor_state = self._rebalancing_sensor_state or {"sensors": "none"}

    def _new_transport(self) -> Any:
        return self.parts.transport(self.conf.broker_consumer, self)

    def on_init_dependencies(self) -> Any:
        """Faust's own services without its monitor, which would count every record for pages that nobody serves."""
        return self.boot_strategy.server()

    def delivery_is_immediate(self) -> bool:
        """True when a record that is delivered now cannot be made to wait: flow is open and no queue is full."""
        queue = self.source_queue
        changelog = cast("TableManager", self.tables).changelog_queue
        return queue is not None and not queue.full() and not changelog.full() and self.flow_control.is_active()

    def has_assignment(self) -> bool:
        """True from when the group has assigned partitions, be it none, until they are given away."""
        return self.consumer_generation_id > 0 and self.assigned_after == self.revocations

    def is_assigned(self, generation: int) -> bool:
        """True while the assignment of this generation stands."""
        return self.consumer_generation_id == generation and self.assigned_after == self.revocations

    def is_current(self, message: Any) -> bool:
        """True when a delivered record is of this assignment, and the flow has not been stopped since."""
        return self.flow_control.is_active() and message.generation_id == self.consumer_generation_id

    def records_waiting(self) -> bool:
        """True when a delivered record waits for the handler."""
        return self.source_queue is not None and not self.source_queue.empty()

    def connection_options(self) -> dict[str, Any]:
        """How an aiokafka client of its own reaches the broker."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.conf.broker_client_id,
            "request_timeout_ms": round(BROKER_REQUEST_TIMEOUT_S * 1000),
            **credentials_to_aiokafka_auth(self.conf.broker_credentials, self.conf.ssl_context),
        }

    def check_membership(self) -> None:
        """Return if the worker is a member of its group, or on the way. Raises: MembershipEndedError."""
        if isinstance(self._consumer, LedgerConsumer):  # None before the start
            self._consumer.check_membership()

    async def wait_for_crash(self) -> None:
        """Returns when any of Faust's services has crashed the app."""
        await self._crashed.wait()

    async def start_fetching(self) -> None:
        """Start Faust's fetcher, unless it runs."""
        await self._fetcher.maybe_start()

    async def on_lanes_ready(self, generation: int) -> None:
        """Called by the recovery."""
        await self.hooks.lanes_ready(generation)

    async def on_lanes_revoked(self) -> None:
        """Called by the consumer."""
        await self.hooks.lanes_revoked()

    def on_worker_ready(self) -> None:
        """Called by the recovery."""
        self.hooks.worker_ready()


def build_app(
    *, app_id: str, bootstrap_servers: str, partitions: int, settings: WorkerSettings, parts: FaustParts
) -> WorkerApp:
    """Returns an app without tables and agents, its settings as FAUST.md has them (reasons: `WorkerSettings`)."""
    app = WorkerApp(
        app_id,
        broker=[f"kafka://{server.strip()}" for server in bootstrap_servers.split(",")],
        broker_client_id=settings.client_id,
        broker_credentials=credentials_of(settings),
        broker_commit_interval=settings.commit_interval_s,
        broker_commit_every=COMMIT_EVERY_INPUTS,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_interval_s,
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_request_timeout=BROKER_REQUEST_TIMEOUT_S,
        broker_max_poll_interval=MAX_POLL_INTERVAL_S,
        broker_max_poll_records=settings.max_poll_records,
        consumer_group_instance_id=settings.instance_id,
        consumer_auto_offset_reset="none",
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        producer_acks=-1,
        producer_linger=0,
        producer_max_batch_size=262_144,
        producer_max_request_size=MAX_RECORD_BYTES,
        producer_request_timeout=settings.request_timeout_s,
        producer_threaded=False,
        processing_guarantee="at_least_once",
        stream_buffer_maxsize=settings.stream_buffer,
        stream_wait_empty=True,
        stream_recovery_delay=0.0,
        topic_partitions=partitions,
        topic_replication_factor=settings.replication_factor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=settings.standby_replicas,
        web_enabled=False,
        agent_supervisor=mode.CrashingSupervisor,
        TableManager=parts.table_manager,
        autodiscover=False,
        ssl_context=settings.ssl_context,
    )
    app.parts = parts
    app.bootstrap_servers = bootstrap_servers
    app.partitions_resumed = asyncio.Event()
    app.finalize()
    return app


def credentials_of(settings: WorkerSettings) -> SASLCredentials | None:
    """Faust's form of the login."""
    login = settings.sasl
    if login is None:
        return None
    return SASLCredentials(
        username=login.username,
        password=login.password,
        mechanism=login.mechanism,
        ssl_context=settings.ssl_context,
    )
