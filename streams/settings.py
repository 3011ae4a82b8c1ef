"""Every setting of the engine, its meaning, unit, default and reason. The only reader of the environment.

Variables are named `PAYMENT_ENGINE_<GROUP>_<FIELD>`. Read once by a program's start (`load`), then passed on as frozen
values. A variable that is malformed, or that no group knows, refuses to start and is named: a typing error must not
turn into a default. `payment-engine settings` prints the table of them all, which docs/configuration.md holds too.

What an account at a gateway needs, its gateway says (`gateway_adapters.spec`); where it is said, `streams.accounts`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

from gateway_adapters.registry import GATEWAYS, SPECS
from gateway_adapters.spec import Accounts, AccountSettings
from schemas.identifiers import (
    DEFAULT_ACCOUNT,
    AccountName,
    GatewayName,
    GatewayRoute,
    account_name,
    gateway_route,
    parts_of,
)
from schemas.misconfigured import MisconfiguredError
from schemas.topics import DAY_MS, DLQ, topic
from streams.accounts import FILE_VARIABLE, accounts_in_file, accounts_of, place_of, said, variable_of
from streams.accounts_file import FileAccount
from streams.addresses import broker_list, is_loopback
from streams.desk_settings import OperatorsSettings
from streams.setting_kinds import PREFIX, Certificates, FilePath, Group, MemberId, Port, Seconds, WebAddress
from streams.topology import MERCHANTS_PORT

DEAD_LETTER_LIFE_DAYS = (topic(DLQ).retention_ms or 0) // DAY_MS + topic(DLQ).segment_ms // DAY_MS + 1
"""How long a dead letter may be there. A broker deletes whole segments, so that a letter outlives the retention by up
to `segment.ms`; a day is margin for when the broker looks, and for clocks. A command that is redriven when neither row
nor key knows it any more would be carried out again."""

MAX_SESSION_S = 80.0
"""Faust waits 90 s for one answer (`streams.kafka`), and refuses a session that is longer."""

MIN_HEARTBEATS_PER_SESSION = 3
"""Fewer, and one lost heartbeat costs a rebalance (Kafka's own advice for `heartbeat.interval.ms`)."""


def _bearer_token(token: SecretStr) -> SecretStr:
    # RFC 6750 section 2.1. Another one, such as a file with its line break, an HTTP client shows in its error.
    if re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", token.get_secret_value()) is None:
        raise ValueError("is no bearer token: letters, digits and ._~+/- alone, without spaces and line breaks")
    return token


class KafkaSettings(Group):
    """The broker and how it is reached."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}KAFKA_")

    bootstrap_servers: Annotated[str, AfterValidator(broker_list)] = Field(
        default="localhost:9092", description="Brokers to start from, `host:port` with commas."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How connections are secured."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="SASL mechanism, with a SASL protocol."
    )
    sasl_username: str | None = Field(
        default=None, validate_default=True, description="SASL user, needed with a SASL protocol."
    )
    sasl_password: SecretStr | None = Field(
        default=None, validate_default=True, description="SASL password, needed with a SASL protocol."
    )
    ssl_cafile: Certificates | None = Field(
        default=None, description="CA certificates (PEM) that the brokers' are checked against."
    )
    partitions: int = Field(
        default=8, ge=1, le=1000, description="Partitions of every topic. Never changes under a system."
    )
    replication_factor: int = Field(default=1, ge=1, le=9, description="Copies of every topic; 3 in production.")
    min_insync_replicas: int = Field(
        default=1, ge=1, le=9, validate_default=True, description="Copies that must have a write; 2 in production."
    )
    request_timeout_s: Seconds = Field(default=10.0, description="Longest wait for one answer of a broker, seconds.")
    start_wait_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=300.0,
        description="Longest wait at a program's start for a broker that answers, seconds; then it ends with code 4.",
    )

    @field_validator("sasl_username", "sasl_password")
    @classmethod
    def _is_there_when_sasl_needs_it(
        cls, credential: str | SecretStr | None, others: ValidationInfo
    ) -> str | SecretStr | None:
        protocol = others.data.get("security_protocol", "")
        empty = credential is None or not (
            credential.get_secret_value() if isinstance(credential, SecretStr) else credential
        )
        if empty and protocol.startswith("SASL"):
            raise ValueError(f"needed with SECURITY_PROTOCOL {protocol}")
        return credential

    @field_validator("min_insync_replicas")
    @classmethod
    def _has_so_many_copies(cls, wanted: int, others: ValidationInfo) -> int:
        copies = others.data.get("replication_factor", wanted)
        if wanted > copies:
            raise ValueError(f"{wanted} is above REPLICATION_FACTOR ({copies}): no write could ever succeed")
        return wanted


class StreamSettings(Group):
    """The Faust apps `orders` and `claims`."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}STREAM_")

    state_dir: FilePath | None = Field(
        default=None,
        description="Folder of the RocksDB tables. None: tables in memory, recovered from the changelog at start.",
    )
    instance_id: MemberId | None = Field(
        default=None,
        description="Stable id of this worker (static membership): a restart within the session is no rebalance.",
    )
    standby_replicas: int = Field(default=0, ge=0, le=3, description="Warm copies of each table on other workers.")
    max_inputs_in_flight: int = Field(
        default=1024,
        ge=1,
        le=65_536,
        description="Inputs decided but not yet committed, a worker: bounds memory and replay.",
    )
    session_timeout_s: Annotated[float, Field(gt=0, le=MAX_SESSION_S)] = Field(
        default=10.0, description="A silent worker loses its partitions after this, seconds."
    )
    heartbeat_interval_s: Seconds = Field(
        default=1.0,
        validate_default=True,
        description="Between heartbeats, seconds; at most a third of the session.",
    )
    claim_life_days: int = Field(default=30, ge=1, le=3650, description="Days an idempotency key is remembered.")
    order_life_days: int = Field(
        default=180,
        ge=1,
        le=3650,
        validate_default=True,
        description="Days a finished order stays in the table: those that a key is remembered, and those that a dead "
        "letter of its last repetition may be redriven.",
    )
    drive_again_s: Annotated[float, Field(ge=60, le=86_400)] = Field(
        default=600.0,
        description="How long a claim or a gateway call may wait for its answer, seconds; then a sweep, or a retry of "
        "the client's, has it said again.",
    )
    paid_order_life_days: int = Field(
        default=540,
        ge=1,
        le=3650,
        description="The same of an order that has money, if that is longer: as long as it can be refunded here, and a "
        "dispute finds its order.",
    )
    sweep_interval_s: Seconds = Field(
        default=600.0,
        description="What has expired, or waits for an answer for too long, is asked about within a minute; what is "
        "still there so long after, once more, seconds.",
    )

    @field_validator("heartbeat_interval_s")
    @classmethod
    def _session_holds_several_heartbeats(cls, interval_s: float, others: ValidationInfo) -> float:
        # The lease that lets a worker speak lasts a session: with rare heartbeats it is over most of the time, and all
        # payments hang.
        session_s = others.data.get("session_timeout_s", MAX_SESSION_S)
        if interval_s * MIN_HEARTBEATS_PER_SESSION > session_s:
            raise ValueError(f"{interval_s:g} s is more than a third of SESSION_TIMEOUT_S ({session_s:g} s)")
        return interval_s

    @field_validator("order_life_days")
    @classmethod
    def _order_outlives_its_keys(cls, days: int, others: ValidationInfo) -> int:
        # The claim grants the same operation again, however often it asks: that it is done already, only the row knows.
        # A command may be repeated on the last day of its key, become a dead letter, and be redriven on the letter's.
        claim_life_days = others.data.get("claim_life_days", 0)
        needed_days = claim_life_days + DEAD_LETTER_LIFE_DAYS
        if days < needed_days:
            raise ValueError(
                f"{days} days are fewer than CLAIM_LIFE_DAYS ({claim_life_days}) and the {DEAD_LETTER_LIFE_DAYS} of a "
                f"dead letter together: a repeated or redriven command would pay twice; set {needed_days} at least"
            )
        return days


class ExecutorSettings(Group):
    """The gateway executor."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}EXECUTOR_")

    max_calls_in_flight: int = Field(
        default=512,
        ge=1,
        le=10_000,
        description="Calls under way at once at one account of a gateway, a worker: its slots.",
    )
    max_requests_in_flight: int = Field(
        default=4096,
        ge=1,
        le=100_000,
        description="Requests taken and not done, a worker: calls under way, and those that wait for a slot. Not fewer "
        "than MAX_CALLS_IN_FLIGHT.",
    )
    slot_wait_s: Seconds = Field(
        default=10.0,
        description="How long a payment's first call waits for a slot of its gateway account, seconds; then its order "
        "goes to the plan's next gateway.",
    )
    breaker_failures: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="So many failures (time-outs, lost connections, 5xx) among the last twice as many calls to one "
        "gateway account: then it is not asked.",
    )
    breaker_open_s: Seconds = Field(
        default=10.0, description="How long that lasts before one call is let through as a probe, seconds."
    )
    call_timeout_s: Seconds = Field(default=30.0, description="Longest wait for one gateway call, seconds.")
    drain_timeout_s: Seconds = Field(
        default=35.0,
        description="Longest wait for calls under way at a stop, seconds; others have its partitions by then.",
    )
    instance_id: MemberId | None = Field(default=None, description="Stable id of this worker (static membership).")
    session_timeout_s: Seconds = Field(
        default=10.0, description="A silent worker loses its partitions after this, seconds."
    )

    @field_validator("max_requests_in_flight")
    @classmethod
    def _room_holds_the_slots(cls, requests: int, others: ValidationInfo) -> int:
        slots = others.data.get("max_calls_in_flight", 1)
        if requests < slots:
            raise ValueError(f"{requests} are fewer than MAX_CALLS_IN_FLIGHT ({slots})")
        return requests


class GatewaySettings(Group):
    """What holds of every gateway. What an account at one of them needs stands in `Settings.accounts`."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}GATEWAY_")

    connect_timeout_s: Seconds = Field(default=3.0, description="Longest wait for a connection to a gateway, seconds.")
    read_timeout_s: Seconds = Field(
        default=20.0, description="Longest wait for a gateway's answer, seconds; then in doubt."
    )
    late_call_s: Annotated[float, Field(ge=60, le=86_400)] = Field(
        default=1200.0,
        description="How long after it was given up a call may still reach its gateway, seconds; until then it proves "
        "nothing that the gateway knows nothing of it. Linux delivers for 924 s at least: less is for tests.",
    )
    default_gateways: str = Field(
        default=SPECS[0].name,
        description="Gateways, with commas and in order, of an origin that has no policy, as `gateway` or "
        "`gateway/account`. Empty: none.",
    )
    accounts_file: FilePath | None = Field(
        default=None,
        description="TOML file with the accounts at gateways, their secrets by reference; "
        "`payment-engine accounts example` prints one to begin with.",
    )

    @field_validator("default_gateways")
    @classmethod
    def _every_gateway_is_known(cls, names: str) -> str:
        unknown = [route for route in routes_of(names) if parts_of(route)[0] not in GATEWAYS]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such gateway; known: {', '.join(sorted(GATEWAYS))}")
        return names


def routes_of(text: str) -> tuple[GatewayRoute, ...]:
    """Return the gateways, or accounts at them, that a list with commas names, in its order.

    Raises:
        InvalidIdentifierError: what stands behind a `/` is no account's name.
    """
    named = (name.strip().partition("/") for name in text.split(",") if name.strip())
    return tuple(
        gateway_route(GatewayName(gateway), account_name(account) if slash else DEFAULT_ACCOUNT)
        for gateway, slash, account in named
    )


class HttpSettings(Group):
    """The HTTP ingress."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}HTTP_")

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(default=MERCHANTS_PORT, description="Port to listen on; 0 takes a free one.")
    dev: bool = Field(
        default=False,
        description="Serve without API keys. For development only: it is refused on an address that is not loopback, "
        "and beside KEYS_FILE.",
    )
    dev_off_loopback: bool = Field(
        default=False,
        description="Allow DEV on any address: whoever reaches the port acts for every merchant. Only where something "
        "else keeps strangers out, as Compose does, which publishes the port on 127.0.0.1.",
    )
    keys_file: FilePath | None = Field(
        default=None, description="API keys as keyed hashes, as `payment-engine keys create` writes."
    )
    keys_pepper: SecretStr | None = Field(default=None, description="Secret that API keys are hashed with.")
    instance: int = Field(
        default=0, ge=0, le=999, description="Number of this instance: it waits on this partition of replies."
    )
    sync_timeout_s: Seconds = Field(default=10.0, description="Longest wait of a sync request, seconds; then 202.")
    requests_per_second: int = Field(default=1000, ge=1, le=100_000, description="Requests a second allowed an origin.")
    max_waiting: int = Field(
        default=10_000, ge=1, le=100_000, description="Requests that may wait for a reply at once; then 503."
    )

    def why_dev_is_refused(self) -> str | None:
        """Return what makes development mode dangerous here, naming the variables; None: nothing, or it is off."""
        if not self.dev:
            return None
        if self.keys_file is not None:
            return (
                f"{PREFIX}HTTP_DEV: is on beside {PREFIX}HTTP_KEYS_FILE, and would ask nobody for a key of that file; "
                "take one of them away"
            )
        if not (is_loopback(self.host) or self.dev_off_loopback):
            return (
                f"{PREFIX}HTTP_DEV: is on, and {PREFIX}HTTP_HOST ({self.host}) is not loopback: whoever reaches it "
                "could pay in any merchant's name; give a key file, or listen on 127.0.0.1"
            )
        return None


class HealthSettings(Group):
    """A component's own port, for whoever watches it."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}HEALTH_")

    host: str = Field(
        default="127.0.0.1",
        min_length=1,  # to a server an empty one means every address
        description="Address that `/healthz`, `/readyz` and `/metrics` are served on. Not for merchants: they say what "
        "is wrong inside.",
    )
    port: Port | None = Field(
        default=None,
        description="Port that they are served on. None: the component's own, as "
        "`payment-engine topology` shows it; 0 serves none.",
    )


class RegistrySettings(Group):
    """The schema registry."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}REGISTRY_")

    url: WebAddress | None = Field(
        default=None, description="Confluent-compatible schema registry. None: the packaged lock file."
    )
    timeout_s: Seconds = Field(default=10.0, description="Longest wait for one answer of the registry, seconds.")
    start_wait_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=300.0, description="How long a program that starts waits for the registry to answer, seconds."
    )
    user: Annotated[str, Field(pattern=r"^[^:]+$")] | None = Field(
        default=None, description="User of the registry, for basic authentication."
    )
    password: SecretStr | None = Field(
        default=None, validate_default=True, description="Password of that user, needed with one."
    )
    token: Annotated[SecretStr, AfterValidator(_bearer_token)] | None = Field(
        default=None, description="Bearer token for the registry, instead of a user."
    )
    ssl_cafile: Certificates | None = Field(
        default=None, description="CA certificates (PEM) that the registry's is checked against. None: the system's."
    )

    @field_validator("password")
    @classmethod
    def _belongs_to_a_user(cls, value: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if (value is None) != (others.data.get("user") is None):
            raise ValueError("PAYMENT_ENGINE_REGISTRY_USER and this belong together")
        return value

    @field_validator("token")
    @classmethod
    def _excludes_a_user(cls, value: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if value is not None and others.data.get("user") is not None:
            raise ValueError("PAYMENT_ENGINE_REGISTRY_USER and this exclude each other")
        return value


class TelemetrySettings(Group):
    """Logs, and the names this process goes by in traces and metrics."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TELEMETRY_")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that is logged."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="JSON lines, or lines for a person.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups together."""

    kafka: KafkaSettings
    stream: StreamSettings
    executor: ExecutorSettings
    gateway: GatewaySettings
    http: HttpSettings
    operators: OperatorsSettings
    health: HealthSettings
    registry: RegistrySettings
    telemetry: TelemetrySettings
    accounts: Accounts = field(default_factory=dict)  # at gateways
    in_file: Mapping[GatewayRoute, FileAccount] = field(default_factory=dict)  # those of them that the file has

    GROUPS: ClassVar[Mapping[str, type[Group]]] = {
        "kafka": KafkaSettings,
        "stream": StreamSettings,
        "executor": ExecutorSettings,
        "gateway": GatewaySettings,
        "http": HttpSettings,
        "operators": OperatorsSettings,
        "health": HealthSettings,
        "registry": RegistrySettings,
        "telemetry": TelemetrySettings,
    }


def variables() -> Iterator[tuple[str, FieldInfo]]:
    """Yield the name of each variable and its field: the groups in their order, then the gateways' default accounts."""
    for name, group in Settings.GROUPS.items():
        for field_name, info in group.model_fields.items():
            yield f"{PREFIX}{name}_{field_name}".upper(), info
    for spec in SPECS:
        for field_name, info in spec.settings.model_fields.items():
            yield variable_of(spec.name, field_name), info


def add_to_environment(values: Mapping[str, str]) -> None:
    """Put variables into this process's environment, and so into its children's. What is there already stays."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def use_accounts_file(path: Path) -> None:
    """Let `load` read this accounts file instead of the one that the environment names."""
    os.environ[FILE_VARIABLE] = str(path)


def load() -> Settings:
    """Read the environment.

    Raises:
        MisconfiguredError: A variable is malformed, or unknown; every one is named, values are not shown.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    faults: list[str] = []
    groups: dict[str, Group] = {}
    for name, group in Settings.GROUPS.items():
        for field_name in group.model_fields:
            given.pop(f"{PREFIX}{name}_{field_name}".upper(), None)
        try:
            groups[name] = group()
        except ValidationError as error:
            faults += [
                f"{PREFIX}{name}_{'_'.join(map(str, each['loc']))}".upper() + f": {said(each['msg'])}"
                for each in error.errors()
            ]
    gateway = groups.get("gateway")
    file = gateway.accounts_file if isinstance(gateway, GatewaySettings) else None
    in_file = accounts_in_file(file, GATEWAYS, os.environ, faults)
    accounts = {spec.name: accounts_of(spec, given, in_file, faults) for spec in SPECS}
    faults += [f"{name}: no such setting" for name in given]
    if faults:
        raise MisconfiguredError("; ".join(sorted(faults)))
    set_up = MappingProxyType({name: by_account for name, by_account in accounts.items() if by_account})
    return Settings(accounts=set_up, in_file=in_file, **groups)  # type: ignore[arg-type]  # each has the group of its class


def accounts_with_webhook_secrets(settings: Settings) -> Accounts:
    """Return the accounts as whoever verifies webhooks needs them: each has a secret that only its gateway shares.

    In development mode, and only there, an account without one has its simulator's, which everybody can read.

    Raises:
        MisconfiguredError: an account has none, or the public one outside development mode; each variable is named.
    """
    faults: list[str] = []
    accounts: dict[GatewayName, dict[AccountName, AccountSettings]] = {}
    for gateway, by_account in settings.accounts.items():
        public = GATEWAYS[gateway].development_webhook_secret
        accounts[gateway] = dict(by_account)
        for account, values in by_account.items():
            variable = place_of(gateway, "webhook_secret", account, settings.in_file)
            if public is not None and settings.http.dev:
                secret = values.webhook_secret or SecretStr(public)
                accounts[gateway][account] = values.model_copy(update={"webhook_secret": secret})
            elif not values.webhook_secrets():
                faults.append(
                    f"{variable}: needed, or anybody could sign this gateway's webhooks; "
                    "set the secret that the gateway signs them with"
                )
            elif public in values.webhook_secrets():
                faults.append(
                    f"{variable}: holds the secret of development, which everybody can read; set one of your own here "
                    "and at the gateway"
                )
    if faults:
        raise MisconfiguredError("; ".join(sorted(faults)))
    return MappingProxyType(accounts)
