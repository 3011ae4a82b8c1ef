"""One desk over a real socket, on a log in memory with an order behind it that answers as it is told."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp

from http_ingress.access.api_keys import KeyRing
from http_ingress.access.rate_limit import RateLimiter
from http_ingress.command_log import LogUnavailableError
from http_ingress.operators.app import build_desk
from http_ingress.operators.decision_log import Appendable
from http_ingress.operators.desk import Desk, DeskRules
from http_ingress.operators.proposals import Proposals
from http_ingress.replies.waiters import ReplyPump, Waiters
from http_ingress.server import HttpServer
from schemas import identifiers
from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId
from schemas.messages import Envelope, Headers, MessageCodec, SchemaIds
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, DecisionView
from schemas.records.payments import OperationReplied, OperationView, PaymentQueried, PaymentView
from schemas.vocabulary import DecisionRefusal, Initiator, OperationKind, OperationState, Overlay, PaymentStatus

CODEC = MessageCodec(SchemaIds.packaged())
NOW_MS = 1_764_000_000_123
ORIGIN = OriginId("originA")
ORDER = OrderId("order-1")
OP = OpId("op_" + "A" * 32)
PAYMENT = identifiers.payment_id(ORDER, OP)
OPERATION = OperationView(
    op_id=OP,
    kind=OperationKind.SALE,
    initiator=Initiator.MERCHANT,
    state=OperationState.MANUAL_REVIEW,
    idempotency_key=IdempotencyKey("k"),
    amount_minor=1_000,
    counted_minor=0,
    currency="USD",
    refund_id=None,
    gateway=None,
    gateway_reference="gw_1",
    attempts=1,
    error=None,
    rejection=None,
    action_url=None,
    requested_at_ms=1,
    updated_at_ms=2,
)
VIEW = PaymentView(
    payment_id=PAYMENT,
    origin_id=ORIGIN,
    order_id=ORDER,
    status=PaymentStatus.AUTHORIZING,
    overlays=(Overlay.REVIEW,),
    amount_minor=1_000,
    currency="USD",
    authorized_minor=0,
    captured_minor=0,
    refunded_minor=0,
    released_minor=0,
    disputed_minor=0,
    created_at_ms=1,
    updated_at_ms=2,
)


class FakeOrder:
    """A `DecisionLog` and a `ReplyFeed` in one: what is decided succeeds, unless the test says otherwise."""

    def __init__(self) -> None:
        self.records: list[tuple[Appendable, Envelope]] = []
        self.refusal: DecisionRefusal | None = None
        self.refuses_trials = True
        self.silent_about: type[Appendable] | None = None
        self.fault: LogUnavailableError | None = None
        self._replies: asyncio.Queue[tuple[bytes | None, Headers]] = asyncio.Queue()

    def made(self) -> list[DecisionMade]:
        """Return the decisions on the log."""
        return [record for record, _ in self.records if isinstance(record, DecisionMade)]

    def proposed(self) -> list[DecisionProposed]:
        """Return the proposals on the log."""
        return [record for record, _ in self.records if isinstance(record, DecisionProposed)]

    async def append(self, record: Appendable, envelope: Envelope) -> None:
        """Take a record, and answer it."""
        if self.fault is not None:
            raise self.fault
        CODEC.encode(record, envelope)  # what cannot be encoded would fail in reality too
        self.records.append((record, envelope))
        if isinstance(record, DecisionProposed) or type(record) is self.silent_about:
            return
        match record:
            case PaymentQueried():
                decision, trial = None, False
            case DecisionTried():
                decision, trial = record.decision, True
            case DecisionMade():
                decision, trial = record, False
        self._reply(record, envelope, decision, refused=not trial or self.refuses_trials)

    async def proposals(self, *, since_ms: int) -> Proposals:
        """Return what stands on the log since then."""
        if self.fault is not None:
            raise self.fault
        found = Proposals()
        for record, envelope in self.records:
            if isinstance(record, DecisionMade | DecisionProposed) and (envelope.time_ms or 0) >= since_ms:
                found.take(record)
        return found

    def _reply(self, record: Appendable, envelope: Envelope, decision: DecisionMade | None, *, refused: bool) -> None:
        refusal = self.refusal if refused and decision is not None else None
        holds = decision is not None and refusal is None
        operation = replace(OPERATION, state=OperationState.SUCCEEDED) if holds else OPERATION
        payment = replace(VIEW, status=PaymentStatus.CAPTURED, overlays=(), captured_minor=1_000) if holds else VIEW
        view = None if decision is None else view_of(decision, refusal)
        reply = OperationReplied(
            request_id=envelope.id,
            origin_id=record.origin_id,
            order_id=record.order_id,
            final=True,
            found=True,
            replayed=False,
            operation=operation,
            payment=payment,
            operations=(operation,) if decision is None else (),
            replied_at_ms=NOW_MS,
            decision=view,
        )
        message = CODEC.encode(
            reply,
            Envelope(id="r", source="fake", type=TYPES[OperationReplied], subject=reply.request_id, time_ms=NOW_MS),
        )
        self._replies.put_nowait((message.value, message.headers))

    async def open(self) -> None:
        """Nothing to open."""

    async def read(self) -> Sequence[tuple[bytes | None, Headers]]:
        """Return the next replies."""
        return [await self._replies.get()]

    async def close(self) -> None:
        """Nothing to close."""


def view_of(decision: DecisionMade, refusal: DecisionRefusal | None) -> DecisionView:
    """Return the decision as an answer shows it."""
    return DecisionView(
        decision_id=decision.decision_id,
        verdict=decision.verdict,
        amount_minor=decision.amount_minor,
        why=decision.why,
        decided_by=decision.decided_by,
        approved_by=decision.approved_by,
        decided_at_ms=decision.decided_at_ms,
        refusal=refusal,
    )


@dataclass(slots=True, kw_only=True)
class RunningDesk:
    """A running desk, the order behind it, and a client."""

    order: FakeOrder
    http: aiohttp.ClientSession
    url: str
    clock: list[int]

    async def post(
        self, path: str, operator: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, object]]:
        """Send a request in an operator's name (development mode)."""
        sent = {"X-Operator": operator} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(path, json=body, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    async def pending(self, operator: str = "anna") -> list[dict[str, object]]:
        """Return what waits for a second person."""
        async with self.http.get("/proposals", headers={"X-Operator": operator}) as response:
            assert response.status == 200
            found: list[dict[str, object]] = (await response.json())["proposals"]
            return found


@asynccontextmanager
async def running_desk(
    order: FakeOrder | None = None, *, keys: KeyRing | None = None, four_eyes: bool = False
) -> AsyncIterator[RunningDesk]:
    """Serve a desk on a free loopback port until the block ends. `clock[0]` is its time."""
    log = order or FakeOrder()
    clock = [NOW_MS]
    waiters = Waiters(limit=50)
    pump = ReplyPump(feed=log, waiters=waiters, codec=CODEC)
    desk = Desk(
        rules=DeskRules(dev=keys is None, four_eyes=four_eyes, proposal_life_ms=3_600_000, reply_partition=3),
        log=log,
        waiters=waiters,
        limiter=RateLimiter(requests_per_second=1_000),
        keys=keys,
        now_ms=lambda: clock[0],
        monotonic_s=time.monotonic,
        faults=lambda: () if pump.live else ("replies are not read",),
    )
    server = HttpServer(desk, build_desk(desk))
    await pump.start()
    try:
        port = await server.start(host="127.0.0.1", port=0)
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(base_url=url, timeout=aiohttp.ClientTimeout(total=20)) as http:
            yield RunningDesk(order=log, http=http, url=url, clock=clock)
    finally:
        await server.stop(drain_timeout_s=0.2)
        await pump.stop()
