"""How a broker is reached: the one value that every client is built from.

Made from the settings by `connection_of`; the environment is read there and not here. Turned into the options of the
two client libraries, so that both reach the same broker in the same way.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from streams.kafka_clients import aiokafka_fences
from streams.settings import KafkaSettings

aiokafka_fences.install()

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

DEFAULT_REQUEST_TIMEOUT_S = 10.0
RETRY_BACKOFF_MS = 100
METADATA_MAX_AGE_MS = 30_000
"""A topic made a moment ago, or a leader that moved unnoticed, is seen within this."""

MURMUR2 = "murmur2_random"
"""librdkafka's name for Java's partitioner; its own default sends a key elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """A broker's address, credentials and time-outs. Secrets are not in its repr."""

    bootstrap_servers: str  # host:port with commas
    client_id: str = "payment-engine"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: Path | None = None  # None: the system's certificates
    request_timeout_s: float = DEFAULT_REQUEST_TIMEOUT_S  # longest wait for one answer of a broker

    @property
    def request_timeout_ms(self) -> int:
        """The request time-out, milliseconds."""
        return round(self.request_timeout_s * 1000)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, or None when connections are not encrypted."""
        if not self.security_protocol.endswith("SSL"):
            return None
        return ssl.create_default_context(cafile=None if self.ssl_cafile is None else str(self.ssl_cafile))

    def aiokafka_options(self) -> dict[str, object]:
        """Return the options that every aiokafka client takes."""
        options: dict[str, object] = {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": self.request_timeout_ms,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        }
        context = self.ssl_context()
        if context is not None:
            options["ssl_context"] = context
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options

    def confluent_options(self) -> dict[str, str | int | float | bool]:
        """Return the options that every confluent-kafka client takes."""
        options: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            "security.protocol": self.security_protocol,
            "socket.timeout.ms": self.request_timeout_ms,
            "log_level": 0,  # librdkafka writes to standard error by itself; errors reach us as results
        }
        if self.ssl_cafile is not None and self.security_protocol.endswith("SSL"):
            options["ssl.ca.location"] = str(self.ssl_cafile)
        if self.security_protocol.startswith("SASL"):
            options["sasl.mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl.username"] = self.sasl_username or ""
            options["sasl.password"] = self.sasl_password or ""
        return options


def connection_of(settings: KafkaSettings, *, client_id: str) -> KafkaConnection:
    """Return how the broker is reached by these settings, under this name (`streams.topology`)."""
    password = settings.sasl_password
    return KafkaConnection(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=client_id,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_username=settings.sasl_username,
        sasl_password=None if password is None else password.get_secret_value(),
        ssl_cafile=settings.ssl_cafile,
        request_timeout_s=settings.request_timeout_s,
    )
