"""How a worker behaves: units, defaults and reasons. Filled by `streams.bootstrap` from the engine's settings."""

import ssl
from dataclasses import dataclass
from pathlib import Path

MAX_ROW_BYTES = 512 * 1024
"""Largest value of a row. Half of Kafka's default message size of 1 MiB, which also has to hold key and headers."""

MAX_MESSAGE_BYTES = 900 * 1024
"""Largest outgoing message, key and headers included: below the broker's default limit, which would refuse it after the
decision was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaslLogin:
    """User and password for SASL."""

    mechanism: str
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    username: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """All times in seconds; the values in brackets are Faust's own defaults."""

    client_id: str = "payment-engine"
    """How the worker calls itself to the brokers: in their logs, quotas and metrics [faust-<version>]."""
    data_dir: Path | None = None
    """Folder of the local rows (RocksDB), for this worker alone. None: in memory, read back from the changelogs."""
    instance_id: str | None = None
    """Static membership: with a stable id, a restart within the session time-out is no rebalance."""
    standby_replicas: int = 0
    """Workers beside the owner that keep a warm copy of each partition's rows [1]."""
    replication_factor: int = 1
    """Only told to Faust, which creates no topic here."""
    max_inputs_in_flight: int = 1024
    """Inputs decided and not yet acknowledged; beyond, the worker reads no further. Bounds memory, replay and drain."""
    commit_interval_s: float = 0.5
    """Between commits [2.8]: what is committed is not replayed."""
    session_timeout_s: float = 45.0
    """A silent worker loses its partitions after this [60]."""
    heartbeat_interval_s: float = 3.0
    """Between heartbeats; at most a third of the session time-out."""
    rebalance_timeout_s: float = 60.0
    """How long the group waits for a member to hand over; must exceed `drain_timeout_s`."""
    drain_timeout_s: float = 40.0
    """Longest wait for inputs in flight when partitions go away or the worker stops; then it stops without them."""
    ack_timeout_s: float = 45.0
    """Longest that nothing may move while inputs wait; above `request_timeout_s`, in which the producer retries."""
    request_timeout_s: float = 30.0
    """How long the producer tries to deliver [1200]."""
    stop_timeout_s: float = 60.0
    """Longest clean stop; after a failure `FAILED_STOP_TIMEOUT_S` of the worker."""
    max_poll_records: int = 500
    """Records of one fetch."""
    stream_buffer: int = 512
    """Records between fetch and handler [4096]: all of them are read again after a crash."""
    ssl_context: ssl.SSLContext | None = None
    """TLS to the brokers."""
    sasl: SaslLogin | None = None
    """Login to the brokers."""
