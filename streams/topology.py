"""The one page of who reads and writes what: each component, its topics, tables, group, ports, settings and principal.

For everybody who would otherwise say it a second time: agents and executor (what they read), `doctor` (which groups
there are), the settings (their default ports), `payment-engine topology`, and Compose, which a test holds to this page.
Another test runs every component on a broker and compares what it asked for with what stands here.

A program without a group of its own (the ingress, an operator's tools, a merchant's producer) reads where it likes and
commits nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from schemas import topics

ORDERS_TABLE: Final = "orders"
OPERATIONS_TABLE: Final = "operations"
TIMERS_TABLE: Final = "timers"
REFERENCES_TABLE: Final = "references"
PARKED_TABLE: Final = "parked"
CLAIMS_TABLE: Final = "claims"

MERCHANTS_PORT: Final = 8080
OPERATORS_PORT: Final = 8081

OPERATOR_CLIENT_ID: Final = "payment-engine-operator"
"""Of the command line's own tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One program of the engine that speaks to the log."""

    name: str
    """Of the program, `payment-engine <name>`, and of its logs."""
    does: str
    """In one line, for a person."""
    source_topics: tuple[str, ...] = ()
    """Read as a member of its group, each record at least once."""
    follows: tuple[str, ...] = ()
    """Read without the group: from the beginning, from a time on, or what is new."""
    tables: tuple[str, ...] = ()
    """Kept by it alone; each has a changelog, which it writes and recovers from."""
    writes: tuple[str, ...] = ()
    """Topics it appends to, changelogs apart."""
    http_port: int | None = None
    """Default port for merchants. None: it serves none."""
    health_port: int
    """Default port of `/healthz`, `/readyz` and `/metrics`; each has its own, so that one machine holds them all."""
    settings_groups: tuple[str, ...]
    """The groups of `streams.settings` that it reads."""

    @property
    def group(self) -> str | None:
        """The consumer group that it joins and commits for, Faust's app id where Faust runs it: its name. Else None."""
        return self.name if self.source_topics else None

    @property
    def changelogs(self) -> tuple[str, ...]:
        """The changelog topic of each table, in the tables' order."""
        return tuple(topics.changelog_topic(self.name, table) for table in self.tables)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every topic it fetches from, each once."""
        return tuple(dict.fromkeys((*self.source_topics, *self.follows, *self.changelogs)))

    @property
    def client_id(self) -> str:
        """How it calls itself to the brokers: in their logs, quotas and metrics."""
        return f"payment-engine-{self.name}"

    @property
    def event_source(self) -> str:
        """The `source` of the CloudEvents that it writes."""
        return f"payment-engine/{self.name}"

    @property
    def principal(self) -> str:
        """The Kafka user that it should be, and that `payment-engine topology --output acls` grants its rights to."""
        return f"User:{self.client_id}"


ORDERS: Final = Component(
    name="orders",
    does="decides what orders do",
    source_topics=(
        topics.COMMANDS,
        topics.VERDICTS,
        topics.GATEWAY_RESULTS,
        topics.WEBHOOKS,
        topics.REFERENCES,
        topics.DECISIONS,
        topics.TIMERS,
        topics.QUERIES,
    ),
    follows=(topics.POLICIES, topics.UPGRADES),
    tables=(ORDERS_TABLE, OPERATIONS_TABLE, TIMERS_TABLE, REFERENCES_TABLE, PARKED_TABLE),
    writes=(
        topics.CLAIMS,
        topics.GATEWAY_REQUESTS,
        topics.WEBHOOKS,  # on their way to the order that they turn out to be about
        topics.REFERENCES,
        topics.EVENTS,
        topics.TIMERS,
        topics.REPLIES,
        topics.WAITING,
        topics.DLQ,
    ),
    health_port=9465,
    settings_groups=("kafka", "stream", "gateway", "health", "registry", "telemetry"),
)

CLAIMS: Final = Component(
    name="claims",
    does="keeps idempotency keys unique",
    source_topics=(topics.CLAIMS,),
    follows=(topics.UPGRADES,),
    tables=(CLAIMS_TABLE,),
    writes=(topics.VERDICTS, topics.CLAIMS, topics.DLQ),  # its sweep asks on its own source topic for old claims to go
    health_port=9466,
    settings_groups=("kafka", "stream", "gateway", "health", "registry", "telemetry"),
)

EXECUTOR: Final = Component(
    name="executor",
    does="calls the gateways",
    source_topics=(topics.GATEWAY_REQUESTS,),
    # Its memory of what was answered, read at each assignment; and what a command alone holds, read for its call.
    follows=(topics.GATEWAY_RESULTS, topics.COMMANDS, topics.UPGRADES),
    writes=(topics.GATEWAY_RESULTS, topics.DLQ),
    health_port=9467,
    settings_groups=("kafka", "executor", "gateway", "health", "registry", "telemetry"),
)

INGRESS: Final = Component(
    name="ingress",
    does="takes requests and webhooks over HTTP",
    follows=(topics.REPLIES, topics.UPGRADES),
    writes=(topics.COMMANDS, topics.QUERIES, topics.WEBHOOKS),
    http_port=MERCHANTS_PORT,
    health_port=9464,  # OpenTelemetry's own default for a Prometheus exporter; the others count on from it
    settings_groups=("kafka", "executor", "gateway", "http", "health", "registry", "telemetry"),
)

OPERATORS: Final = Component(
    name="operators",
    does="takes what a person decides",
    # Decisions: what waits for a second person, read when somebody asks.
    follows=(topics.REPLIES, topics.DECISIONS, topics.UPGRADES),
    writes=(topics.DECISIONS, topics.QUERIES),
    http_port=OPERATORS_PORT,
    health_port=9468,
    settings_groups=("kafka", "operators", "health", "registry", "telemetry"),
)

COMPONENTS: Final[Mapping[str, Component]] = MappingProxyType(
    {each.name: each for each in (INGRESS, ORDERS, CLAIMS, EXECUTOR, OPERATORS)}
)
"""By name, in the order of a payment's life."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {each.group: each.source_topics for each in COMPONENTS.values() if each.group is not None}
)
"""Consumer group -> the topics that it commits on."""

SOURCE_TOPICS: Final = tuple(dict.fromkeys(name for names in GROUPS.values() for name in names))
"""Every topic that a group reads, each once: what a record can have died on, and be redriven to."""
