"""Settings that are well-formed each, and wrong or risky together. Called by `examination`; pure."""

from collections.abc import Iterator
from ipaddress import ip_address

from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.settings import Settings

PRODUCTION_COPIES = 3
MIN_HEARTBEATS_PER_SESSION = 3
"""Fewer, and one lost heartbeat costs a rebalance (Kafka's own advice for `heartbeat.interval.ms`)."""


def judge(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong or risky; one `ok` when nothing is."""
    found = [*_kafka(settings), *_workers(settings), *_http(settings)]
    yield from found or [ok(Subject.SETTINGS, "the settings fit together")]


def _kafka(settings: Settings) -> Iterator[Finding]:
    kafka = settings.kafka
    if kafka.min_insync_replicas > kafka.replication_factor:
        yield failure(
            Subject.SETTINGS,
            f"min_insync_replicas {kafka.min_insync_replicas} is above replication_factor {kafka.replication_factor}",
            why="No write with acks=all can ever succeed.",
            fix="Set PAYMENT_ENGINE_KAFKA_MIN_INSYNC_REPLICAS to replication_factor - 1, that is 2 in production.",
        )
    elif kafka.min_insync_replicas == kafka.replication_factor > 1:
        yield warning(
            Subject.SETTINGS,
            f"min_insync_replicas equals replication_factor ({kafka.replication_factor})",
            why="When one broker is down, every write is refused.",
            fix="Set PAYMENT_ENGINE_KAFKA_MIN_INSYNC_REPLICAS one lower.",
        )
    if kafka.security_protocol == "SASL_PLAINTEXT":
        yield warning(
            Subject.SETTINGS,
            "credentials and payments travel to the broker unencrypted",
            why="Whoever listens on the network reads them.",
            fix="Set PAYMENT_ENGINE_KAFKA_SECURITY_PROTOCOL to SASL_SSL.",
        )


def _workers(settings: Settings) -> Iterator[Finding]:
    stream = settings.stream
    if stream.heartbeat_interval_s * MIN_HEARTBEATS_PER_SESSION > stream.session_timeout_s:
        yield warning(
            Subject.SETTINGS,
            f"a heartbeat every {stream.heartbeat_interval_s:g} s in a session of {stream.session_timeout_s:g} s",
            why="One late heartbeat makes the group take the worker's partitions away.",
            fix="Set PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S to a third of the session or less.",
        )
    if settings.executor.drain_timeout_s < settings.executor.call_timeout_s:
        yield warning(
            Subject.SETTINGS,
            "the executor's drain ends before its longest call",
            why="A stop abandons calls under way; they are in doubt until an inquiry.",
            fix="Set PAYMENT_ENGINE_EXECUTOR_DRAIN_TIMEOUT_S above PAYMENT_ENGINE_EXECUTOR_CALL_TIMEOUT_S.",
        )
    names_mock = "mock" in {name.strip() for name in settings.gateway.default_gateways.split(",")}
    if names_mock and settings.gateway.mock_url is None:
        yield warning(
            Subject.SETTINGS,
            "default_gateways names the Mock, but mock_url is not set",
            why="An origin without a policy has no gateway that could be called.",
            fix="Set PAYMENT_ENGINE_GATEWAY_MOCK_URL, or other PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS.",
        )


def _http(settings: Settings) -> Iterator[Finding]:
    http = settings.http
    if http.dev and not _is_loopback(http.host):
        yield failure(
            Subject.SETTINGS,
            f"http dev mode on {http.host}",
            why="Anyone who reaches the port can make payments in any origin's name.",
            fix="Set PAYMENT_ENGINE_HTTP_DEV to false, with a keys file, or listen on 127.0.0.1.",
        )
    if not http.dev and (http.keys_file is None or http.keys_pepper is None):
        yield warning(
            Subject.SETTINGS,
            "no API keys: keys_file or keys_pepper is not set",
            why="The ingress refuses to start, or refuses every request.",
            fix="Run `payment-engine keys create`, then set PAYMENT_ENGINE_HTTP_KEYS_FILE and _KEYS_PEPPER.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
