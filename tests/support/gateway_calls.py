"""For tests of the executor: requests as the orders agent makes them, a gateway that is told how to behave, topics."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway_adapters.contract import CallResult, Capabilities, CertificateFetcher, Gateway, GatewayNotice, RawHeaders
from schemas import identifiers
from schemas.event_types import TYPES
from schemas.identifiers import GatewayName, GatewayRoute, IdempotencyKey, OrderId, OriginId
from schemas.messages import EncodedMessage, Envelope, MessageCodec
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.policies import OriginPolicy
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import CallKind, Outcome
from streams.executor.options import ExecutorOptions
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import LogRecord, read_log
from streams.kafka_clients.producer import LogWriter
from tests.support.kafka_topics import create_topics, unique

GATEWAY = GatewayName("mock")
ORIGIN = OriginId("originA")
NOW_MS = 1_800_000_000_000
WAIT_LIMIT_S = 60.0

CODEC = MessageCodec(SchemaIds.packaged())
WISH = OriginPolicy(
    origin_id=ORIGIN,
    version=0,
    gateways=(GatewayRoute(GATEWAY),),
    fallback=True,
    max_attempts=3,
    limits=(),
    updated_at_ms=0,
)
"""A policy as somebody would like to have it set."""


def request_of(
    number: int, *, now_ms: int = NOW_MS, attempt: int = 1, gateway: GatewayName = GATEWAY
) -> GatewayCallRequested:
    """The sale of order number so-and-so."""
    order = OrderId(f"order-{number}")
    body = identifiers.fingerprint("sale", order, str(1000 + number))
    op_id = identifiers.op_id(ORIGIN, IdempotencyKey(f"key-{number}"), order, body)
    return GatewayCallRequested(
        origin_id=ORIGIN,
        order_id=order,
        payment_id=identifiers.payment_id(order, op_id),
        op_id=op_id,
        kind=CallKind.SALE,
        inquired_kind=None,
        attempt=attempt,
        call_number=attempt,
        gateway=gateway,
        gateway_key=identifiers.gateway_key(op_id, attempt),
        amount_minor=1000 + number,
        currency="USD",
        token="tok_visa",
        payment_reference=None,
        own_reference=None,
        final=False,
        first_requested_at_ms=now_ms,
        requested_at_ms=now_ms,
    )


def message_of(request: GatewayCallRequested) -> EncodedMessage:
    """The request as the orders agent appends it."""
    return CODEC.encode(
        request,
        Envelope(
            id=identifiers.event_id(request.op_id, f"call-{request.attempt}-{request.call_number}"),
            source="payment-engine/orders",
            type=TYPES[GatewayCallRequested],
            time_ms=request.requested_at_ms,
            partitionkey=request.order_id,
            originid=request.origin_id,
        ),
    )


def capabilities_with(window_ms: int | None, *, without: frozenset[CallKind] = frozenset()) -> Capabilities:
    """What a gateway can do whose keys live that long."""
    effects = frozenset(CallKind) - {CallKind.INQUIRE}
    return Capabilities(
        operations=frozenset(CallKind) - without,
        currencies=None,
        partial_capture=True,
        multiple_capture=True,
        partial_refund=True,
        multiple_refund=True,
        inquire_by_key=True,
        inquire_by_reference=True,
        not_found_is_proof=True,
        webhooks=False,
        key_window_ms=MappingProxyType(dict.fromkeys(effects, window_ms)),
    )


class NoCertificates(CertificateFetcher):
    """For gateways that sign with secrets: nothing may be fetched."""

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        raise AssertionError(f"a certificate was asked for: {url} of {sorted(hosts)}")


NO_CERTIFICATES = NoCertificates()

Behaviour = Callable[[GatewayCallRequested], Awaitable[CallResult]]


async def succeeds(request: GatewayCallRequested) -> CallResult:
    """Say that all went well."""
    return CallResult(
        outcome=Outcome.SUCCEEDED,
        gateway_reference=f"ref-{request.gateway_key}",
        confirmed_amount_minor=request.amount_minor,
        confirmed_currency=request.currency,
    )


class TellableGateway(Gateway):
    """Behaves as told, and remembers what it was asked."""

    webhook_headers = frozenset[str]()

    def __init__(self, behave: Behaviour = succeeds, *, capabilities: Capabilities | None = None) -> None:
        self.behave = behave
        self.capability = capabilities or capabilities_with(None)
        self.calls: Counter[tuple[CallKind, str]] = Counter()
        self.at_once = 0
        self.most_at_once = 0

    @property
    def name(self) -> GatewayName:
        return GATEWAY

    @property
    def capabilities(self) -> Capabilities:
        return self.capability

    async def _behaved(self, request: GatewayCallRequested) -> CallResult:
        self.calls[request.kind, request.gateway_key] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.behave(request)
        finally:
            self.at_once -= 1

    async def authorize(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def sale(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def capture(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def void(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def refund(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def complete(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def inquire(self, request: GatewayCallRequested) -> CallResult:
        return await self._behaved(request)

    async def verify_webhook(
        self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher
    ) -> None:
        raise NotImplementedError  # the executor never asks for it

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        raise NotImplementedError  # the executor never asks for it

    async def close(self) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTopics:
    """Topics and a group that no other test has."""

    bootstrap_servers: str
    requests: str = field(default_factory=lambda: unique("requests"))
    results: str = field(default_factory=lambda: unique("results"))
    dead_letters: str = field(default_factory=lambda: unique("dlq"))
    group: str = field(default_factory=lambda: unique("executor"))

    def create(self, *, partitions: int = 4) -> "OwnTopics":
        """Create them and return this."""
        create_topics(self.bootstrap_servers, [self.requests, self.results, self.dead_letters], partitions=partitions)
        return self

    @property
    def connection(self) -> KafkaConnection:
        return KafkaConnection(bootstrap_servers=self.bootstrap_servers)

    def options(self, **changes: object) -> ExecutorOptions:
        """Options that name these topics."""
        options = ExecutorOptions(
            group=self.group,
            requests_topic=self.requests,
            results_topic=self.results,
            dead_letters_topic=self.dead_letters,
            session_timeout_s=6.0,
        )
        return dataclasses.replace(options, **changes)  # type: ignore[arg-type]  # the caller names real fields

    async def append_requests(self, requests: list[GatewayCallRequested]) -> None:
        """Append them all, as the orders agent would."""
        async with writing(self.connection) as writer:
            for start in range(0, len(requests), 1_000):
                await asyncio.gather(
                    *(append_request(writer, self.requests, each) for each in requests[start : start + 1_000])
                )

    async def read_results(self) -> list[GatewayCallCompleted]:
        """All results so far."""
        found: list[GatewayCallCompleted] = []
        async for record in read_log(self.connection, self.results):
            _, result = CODEC.decode(record.value, record.headers)
            assert isinstance(result, GatewayCallCompleted)
            found.append(result)
        return found

    async def read_dead_letters(self) -> list[LogRecord]:
        """All dead letters so far, as they stand on the log."""
        return [record async for record in read_log(self.connection, self.dead_letters)]

    async def wait_for_orders(self, wanted: set[str], *, limit_s: float = WAIT_LIMIT_S) -> Mapping[str, int]:
        """Wait until each of these orders has a result; returns how many each has."""
        seen: Counter[str] = Counter()
        async with asyncio.timeout(limit_s):
            while not wanted <= set(seen):
                seen = Counter(result.order_id for result in await self.read_results())
        return seen


async def append_request(writer: LogWriter, topic: str, request: GatewayCallRequested) -> None:
    """Append one request under its order's key."""
    message = message_of(request)
    await writer.append(
        topic, key=request.order_id.encode(), value=message.value, headers=message.headers, timeout_s=30.0
    )


@asynccontextmanager
async def writing(connection: KafkaConnection) -> AsyncIterator[LogWriter]:
    """A started writer."""
    writer = LogWriter(connection)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop()
