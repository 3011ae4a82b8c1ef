"""What the handlers are given: the one value that holds this instance's parts.

Made by `http_ingress.compose`, or by a test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway_adapters.contract import Acknowledgement, Capabilities, CertificateFetcher, GatewayNotice, RawHeaders
from http_ingress.access.api_keys import KeyRing
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.command_log import CommandLog
from http_ingress.replies.waiters import Waiters
from http_ingress.settings import IngressSettings
from schemas.identifiers import GatewayRoute


class WebhookGateway(Protocol):
    """What the webhook route needs of a gateway: a part of `gateway_adapters.contract.Gateway`."""

    @property
    def webhook_headers(self) -> frozenset[str]:
        """The headers, in lower case, that its webhooks are verified or read by."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; which of its references are indexed decides how its webhooks are split."""
        ...

    @property
    def acknowledgement(self) -> Acknowledgement:
        """What it is answered once its webhook is kept."""
        ...

    async def verify_webhook(
        self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher
    ) -> None:
        """Return if these raw bytes are the gateway's own and fresh. Raises: UnauthenticError, UnverifiableError."""
        ...

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        """Return what the webhook says. Raises: UntranslatableError."""
        ...


class Stopping:
    """Whether this instance has been told to stop."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """The parts of one instance."""

    settings: IngressSettings
    log: CommandLog
    waiters: Waiters
    limiter: RateLimiter
    keys: KeyRing | None  # None in dev mode only
    webhooks: Mapping[GatewayRoute, WebhookGateway]
    certificates: CertificateFetcher  # of those that sign with certificates
    now_ms: Callable[[], int]  # wall clock, milliseconds since the epoch
    monotonic_s: Callable[[], float]
    faults: Callable[[], tuple[str, ...]]  # what keeps it from being ready, for a person; empty: ready
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        """Refuse to be built open by mistake."""
        if self.keys is None and not self.settings.dev:
            raise ValueError("without dev mode there must be API keys")

    def not_ready(self) -> tuple[str, ...]:
        """Return why this instance may not be sent requests, for a person; empty: it may."""
        return ("stopping",) if self.stopping.begun else self.faults()
