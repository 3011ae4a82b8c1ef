"""A simulator of Adyen's Checkout v71, written by this project: a server on loopback with a ledger in memory.

It proves that the adapter and this page agree, not that Adyen does as it says. So each request is validated against
Adyen's own document first, and Prism judges the same requests in a test of its own. What it does is what Adyen's pages
say: keys, 'received' answers, signed webhooks, refusals, redirects and their completion, disputes, late failures.

A test tells it what happens to the next call under a reference (`provoke`). Stored payment methods choose what becomes
of a payment: `declined_12` is refused with that refusalReasonCode, `redirect` makes the payer act, after which Adyen
goes on by itself, `redirect_completed` makes the payer act and waits for /payments/details; any other is authorised.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp import web

from gateway_adapters.adyen import signature, wire
from gateway_adapters.adyen.wire import Notification
from gateway_adapters.mock import faults
from tests.simulators.adyen_ledger import Json, Ledger, Payment, Word, of_payment, of_payments_part
from tests.simulators.vendor_document import VendorDocument
from tests.support.gateway_under_test import Situation

API_KEY: Final = "AQE-simulator"
MERCHANT_ACCOUNT: Final = "SimulatedMerchant"
HMAC_KEY: Final = "5A" * 32
DOCUMENT: Final = "adyen/CheckoutService-v71.json"
DELAY_S: Final = 0.03
"""Between an answer and what is told later, and between two words."""

BATCH_S: Final = 0.1
SLOW_S: Final = 0.2
DELIVERY_TIMEOUT_S: Final = 5.0
MAX_DELIVERIES: Final = 3
PART_PERCENT: Final = 30
SECOND_PART_PERCENT: Final = 20
APPROVED_PERCENT: Final = 60
MAX_BODY_BYTES: Final = 128 * 1024

BEFORE: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.RESET_BEFORE,
        Situation.HTML_502_BEFORE,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
    }
)
REFUSALS: Final = {"12": "Not enough balance", "2": "Refused"}
DISPUTES: Final = {
    Situation.DISPUTE_OPENED: ("NOTIFICATION_OF_CHARGEBACK",),
    Situation.DISPUTE_WON: ("NOTIFICATION_OF_CHARGEBACK", "ISSUER_RESPONSE_TIMEFRAME_EXPIRED"),
    Situation.DISPUTE_LOST: ("NOTIFICATION_OF_CHARGEBACK", "SECOND_CHARGEBACK"),
    Situation.PARTIAL_DISPUTE_LOST: ("NOTIFICATION_OF_CHARGEBACK", "SECOND_CHARGEBACK"),
    Situation.CHARGEBACK_WON: ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK", "CHARGEBACK_REVERSED"),
    Situation.CHARGEBACK_LOST: ("CHARGEBACK", "NOTIFICATION_OF_CHARGEBACK", "DISPUTE_DEFENSE_PERIOD_ENDED"),
    Situation.PARTIAL_CHARGEBACK_LOST: ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK", "SECOND_CHARGEBACK"),
    Situation.PARTIAL_CHARGEBACK_WON: ("NOTIFICATION_OF_CHARGEBACK", "CHARGEBACK", "CHARGEBACK_REVERSED"),
    Situation.PARTIAL_REVERSAL: ("CHARGEBACK",),
}
PARTIAL: Final = frozenset(
    {
        Situation.PARTIAL_DISPUTE_LOST,
        Situation.PARTIAL_CHARGEBACK_LOST,
        Situation.PARTIAL_CHARGEBACK_WON,
        Situation.PARTIAL_REVERSAL,
    }
)
TAKING: Final = frozenset({"CHARGEBACK", "SECOND_CHARGEBACK"})
PENDING: Final = frozenset(
    {
        Situation.PENDING_THEN_SUCCEEDED,
        Situation.PENDING_THEN_FAILED,
        Situation.DUPLICATE_WEBHOOKS,
        Situation.OUT_OF_ORDER_WEBHOOKS,
        Situation.BATCHED_WEBHOOKS,
    }
)


class RefusedError(Exception):
    """A ServiceError."""

    def __init__(self, status: int, code: str, *, kind: str = "validation", **headers: str) -> None:
        super().__init__(code)
        self.status, self.code, self.kind, self.headers = status, code, kind, headers


@dataclass(frozen=True, slots=True)
class _Stored:
    status: int
    body: bytes


@dataclass(slots=True, kw_only=True)
class AdyenSimulator:
    """The server. An async context manager; it listens on a free loopback port."""

    multiple_captures: bool = False
    tells_what_it_answered: bool = False  # by AUTHORISATION, as Adyen does; a test that counts webhooks wants less
    names_the_payment: bool = False  # modifications' notices give the payment's reference back, not their own
    port: int = 0
    target: str | None = None  # where webhooks go
    requests: list[tuple[str, Json]] = field(default_factory=list)  # each that the document took, with its path
    _rules: dict[str, Situation] = field(default_factory=dict)
    _keys: dict[str, _Stored | None] = field(default_factory=dict)  # None: under way
    _batch: list[Json] = field(default_factory=list)
    _last_s: int = 0
    _redirects: list[str] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None
    ledger: Ledger = field(init=False)
    document: VendorDocument = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(multiple_captures=self.multiple_captures)
        self.document = VendorDocument(DOCUMENT)

    @property
    def url(self) -> str:
        """The base URL of the API, with a path as Adyen's has."""
        return f"http://127.0.0.1:{self.port}/v71"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/v71/payments", self._payments)
        app.router.add_post("/v71/payments/details", self._details)
        app.router.add_post("/v71/payments/{psp}/{resource:captures|cancels|refunds}", self._modification)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self._site.port

    async def stop_listening(self) -> None:
        """Take no connections any more."""
        assert self._site is not None
        await self._site.stop()

    def provoke(self, situation: Situation, reference: str) -> None:
        """Let this happen to the next call under this reference."""
        self._rules[reference] = situation

    def effects(self, reference: str) -> list[tuple[str, int]]:
        """Return kind and amount of what really happened to the payment of this reference."""
        payment = self.ledger.of_reference(reference)
        return [] if payment is None else list(payment.effects)

    async def act(self, *, agreed: bool) -> str:
        """Act as the payer who was redirected last; return the redirect result to come back with."""
        result = self._redirects.pop()
        payment = self.ledger.waiting_for(result)
        assert payment is not None
        if not agreed:
            payment.waits_for_payer = f"{result}.refused"
        return payment.waits_for_payer or ""

    async def settle_redirect(self) -> None:
        """Act as the payer who was redirected last, of a payment that Adyen goes on with by itself."""
        payment = self.ledger.waiting_for(self._redirects.pop())
        assert payment is not None
        payment.authorise(payment.asked)
        self._tell_later([of_payment(payment, "AUTHORISATION")])

    # Routes

    async def _payments(self, request: web.Request) -> web.StreamResponse:
        return await self._served(request, "/payments", self._carry_out_payment)

    async def _details(self, request: web.Request) -> web.StreamResponse:
        return await self._served(request, "/payments/details", self._carry_out_completion)

    async def _modification(self, request: web.Request) -> web.StreamResponse:
        resource = request.match_info["resource"]
        psp = request.match_info["psp"]

        def carry_out(body: Json, situation: Situation | None) -> tuple[int, Json]:
            return self._carry_out_modification(psp, resource, body, situation)

        return await self._served(request, f"/payments/{{paymentPspReference}}/{resource}", carry_out)

    async def _served(
        self,
        request: web.Request,
        template: str,
        carry_out: Callable[[Json, Situation | None], tuple[int, Json]],
    ) -> web.StreamResponse:
        try:
            body = await self._checked(request, template)
            situation = self._rules.pop(str(body.get("reference")), None)
            if situation in BEFORE:
                return await self._fault(request, situation, b"")
            key = request.headers.get(wire.KEY_HEADER, "")
            stored = await self._once(key, body, situation, carry_out)
        except RefusedError as refusal:
            return _refused(refusal)
        if situation is Situation.EARLY_WEBHOOK:
            await self._delivered(self._early)
        if situation is not None and situation.value.endswith("_after"):
            return await self._fault(request, situation, stored.body)
        return web.Response(
            status=stored.status,
            body=stored.body,
            content_type="application/json",
            headers={wire.KEY_HEADER: key},
        )

    async def _once(
        self,
        key: str,
        body: Json,
        situation: Situation | None,
        carry_out: Callable[[Json, Situation | None], tuple[int, Json]],
    ) -> _Stored:
        if key in self._keys:
            stored = self._keys[key]
            if stored is None:
                raise RefusedError(422, "704", **{wire.TRANSIENT_HEADER: "true"})
            return stored  # whatever the second request says
        if situation is Situation.SLOW:
            self._keys[key] = None
            try:
                await asyncio.sleep(SLOW_S)
            finally:
                del self._keys[key]
        status, answer = carry_out(body, situation)
        stored = _Stored(status, json.dumps(answer).encode())
        self._keys[key] = stored
        return stored

    async def _checked(self, request: web.Request, template: str) -> Json:
        """Return the body of a request that Adyen would take. Raises: RefusedError."""
        if request.headers.get(wire.API_KEY_HEADER) != API_KEY:
            raise RefusedError(401, "000", kind="security")
        if request.content_type != "application/json":
            raise RefusedError(415, "000")
        key = request.headers.get(wire.KEY_HEADER, "")
        if not 0 < len(key) <= wire.MAX_KEY_CHARS:
            raise RefusedError(422, "708")
        try:
            body: Json = await request.json()
        except json.JSONDecodeError:
            raise RefusedError(400, "702") from None
        complaints = self.document.complaints(template, body)
        if complaints:
            raise RefusedError(422, "702", complaints="; ".join(complaints)[:500])
        _check_beyond_the_document(body)
        self.requests.append((request.path.removeprefix("/v71"), body))
        return body

    # What a request comes to

    def _carry_out_payment(self, body: Json, situation: Situation | None) -> tuple[int, Json]:
        payment = self.ledger.open(body)
        method = body["paymentMethod"].get("storedPaymentMethodId", "")
        answer: Json = {
            "pspReference": payment.psp,
            "merchantReference": payment.reference,
            "amount": {"currency": payment.currency, "value": payment.asked},
        }
        refused = method.startswith("declined_") or situation is Situation.REFUSED_THEN_SUCCEEDED
        if refused:
            code = method.removeprefix("declined_") if method.startswith("declined_") else "2"
            answer |= {"resultCode": "Refused", "refusalReasonCode": code, "refusalReason": REFUSALS.get(code, "No")}
            words = [of_payment(payment, "AUTHORISATION", success=False, reason=answer["refusalReason"])]
            self._tell_later(words if self.tells_what_it_answered else [])
            if situation is Situation.REFUSED_THEN_SUCCEEDED:
                payment.authorise(payment.asked)
                self._tell_later([of_payment(payment, "AUTHORISATION")])
            return 200, answer
        if method.startswith("redirect") or situation is Situation.ACTION_EXPIRED:
            payment.waits_for_payer = f"X6X{payment.psp}"
            self._redirects.append(payment.waits_for_payer)
            if situation is Situation.ACTION_EXPIRED:
                payment.waits_for_payer = None
                self._tell_later([of_payment(payment, "OFFER_CLOSED")])
            action = {"type": "redirect", "method": "GET", "url": f"{self.url}/redirect/{payment.psp}"}
            # As Adyen's examples show: the payment is not named before the payer has acted.
            return 200, {"resultCode": "RedirectShopper", "action": {**action, "paymentMethodType": "scheme"}}
        if situation in PENDING:
            self._settle_pending(payment, situation)
            return 200, answer | {"resultCode": "Received"}
        self._authorise(payment, situation, answer)
        return 200, answer

    def _authorise(self, payment: Payment, situation: Situation | None, answer: Json) -> None:
        value = payment.asked
        answer["resultCode"] = "Authorised"
        match situation:
            case Situation.AMOUNT_MISMATCH:
                value -= 1
            case Situation.PARTIAL_APPROVAL:
                value = value * APPROVED_PERCENT // 100
                answer["resultCode"] = "PartiallyAuthorised"
            case Situation.UNKNOWN_STATUS:
                answer["resultCode"] = "SettlingElsewhere"
        payment.authorise(value)
        answer["amount"]["value"] = value
        told = [of_payment(payment, "AUTHORISATION")]
        if situation is Situation.EARLY_WEBHOOK:
            self._early = [self._item(each) for each in told]
            return
        self._tell_later((told if self.tells_what_it_answered else []) + self._what_follows(payment, situation))

    _early: list[Json] = field(default_factory=list)

    def _settle_pending(self, payment: Payment, situation: Situation | None) -> None:
        if situation is Situation.PENDING_THEN_FAILED:
            self._tell_later([of_payment(payment, "AUTHORISATION", success=False, reason="Not enough balance")])
            return
        payment.authorise(payment.asked)
        done = of_payment(payment, "AUTHORISATION")
        match situation:
            case Situation.DUPLICATE_WEBHOOKS:
                self._send_later([[item] for item in [self._item(done)] * 2])
            case Situation.OUT_OF_ORDER_WEBHOOKS:
                older = self._item(of_payment(payment, "PENDING"))
                self._send_later([[self._item(done)], [older]])
            case Situation.BATCHED_WEBHOOKS:
                self._batch.append(self._item(done))
                if len(self._batch) == 1:
                    self._run(self._deliver_batch())
            case _:
                self._tell_later([done])

    def _what_follows(self, payment: Payment, situation: Situation | None) -> list[Word]:
        """Return what comes later of a payment that was authorised."""
        value = payment.captured or payment.authorised
        if situation in DISPUTES:
            part = value * PART_PERCENT // 100 if situation in PARTIAL else value
            return self._dispute(payment, DISPUTES[situation], part)
        match situation:
            case Situation.TWO_REVERSALS:
                second = value * SECOND_PART_PERCENT // 100
                first = self._dispute(payment, ("CHARGEBACK",), value * PART_PERCENT // 100)
                return first + self._dispute(payment, ("CHARGEBACK",), second)
            case Situation.LATE_FAILURE | Situation.RECAPTURED:
                return self._failed_capture(payment, self.ledger.new_reference(), value, payment.reference, situation)
            case Situation.HOLD_EXPIRED:
                payment.released = True
                return [of_payment(payment, "EXPIRE")]
            case Situation.DESK_REFUND | Situation.PARTIAL_DESK_REFUND:
                part = value * PART_PERCENT // 100 if situation is Situation.PARTIAL_DESK_REFUND else value
                assert self.ledger.refund(payment, part) is None
                return [of_payments_part(payment, "REFUND", self.ledger.new_reference(), part)]
            case _:
                return []

    def _dispute(self, payment: Payment, events: Iterable[str], value: int) -> list[Word]:
        case, taken = self.ledger.new_reference(), False
        for event in events:
            if event in TAKING and not taken:
                taken = True
                payment.effects.append(("reversal", value))
            if event == "CHARGEBACK_REVERSED":
                payment.effects.append(("restoral", value))
        return [of_payments_part(payment, event, case, value) for event in events]

    def _failed_capture(
        self, payment: Payment, psp: str, value: int, reference: str, situation: Situation
    ) -> list[Word]:
        payment.effects.append(("reversal", value))
        words = [of_payments_part(payment, "CAPTURE_FAILED", psp, value, reference=reference, reason="Capture Failed")]
        if situation is Situation.RECAPTURED:
            payment.effects.append(("restoral", value))
            again = of_payments_part(
                payment, "CAPTURE", psp, value, reference=reference, reason="Transaction Recaptured"
            )
            words.append(again)
        return words

    def _carry_out_completion(self, body: Json, situation: Situation | None) -> tuple[int, Json]:
        result = body["details"].get("redirectResult", "")
        payment = self.ledger.waiting_for(result)
        if payment is None:
            raise RefusedError(422, "14_0408")
        answer: Json = {
            "pspReference": payment.psp,
            "merchantReference": payment.reference,
            "amount": {"currency": payment.currency, "value": payment.asked},
        }
        if result.endswith(".refused"):
            payment.waits_for_payer = None
            return 200, answer | {
                "resultCode": "Refused",
                "refusalReasonCode": "11",
                "refusalReason": "3D Not Authenticated",
            }
        payment.authorise(payment.asked)
        if self.tells_what_it_answered:
            self._tell_later([of_payment(payment, "AUTHORISATION")])
        return 200, answer | {"resultCode": "Authorised"}

    def _carry_out_modification(
        self, psp: str, resource: str, body: Json, situation: Situation | None
    ) -> tuple[int, Json]:
        payment = self.ledger.payments.get(psp)
        if payment is None:
            raise RefusedError(422, "167")
        own = self.ledger.new_reference()
        value = body["amount"]["value"] if "amount" in body else payment.authorised - payment.captured
        match resource:
            case "captures":
                event, why = "CAPTURE", self.ledger.capture(payment, value)
            case "cancels":
                event, why = "CANCELLATION", self.ledger.cancel(payment)
            case _:
                event, why = "REFUND", self.ledger.refund(payment, value)
        by_payment = self.names_the_payment or situation is Situation.WEBHOOKS_BY_REFERENCE
        reference = payment.reference if by_payment else body["reference"]
        words = [
            of_payments_part(payment, event, own, value, success=why is None, reason=why or "", reference=reference)
        ]
        if why is None and situation in {Situation.LATE_FAILURE, Situation.RECAPTURED}:
            words += self._failed_capture(payment, own, value, reference, situation)
        self._tell_later(words)
        said: Json = {
            "merchantAccount": MERCHANT_ACCOUNT,
            "paymentPspReference": psp,
            "pspReference": own,
            "reference": body["reference"],
            "status": "received",
        }
        return 201, said | ({"amount": body["amount"]} if "amount" in body else {})

    # Webhooks

    def _item(self, word: Word) -> Json:
        """Return the signed item that says this, dated after all before it."""
        self._last_s = max(self._last_s + 1, int(time.time()))
        at = datetime.fromtimestamp(self._last_s, UTC).astimezone(timezone(timedelta(hours=1)))
        payment = self.ledger.payments[word.original or word.psp]
        return signed(
            {
                "pspReference": word.psp,
                **({} if word.original is None else {"originalReference": word.original}),
                "merchantAccountCode": MERCHANT_ACCOUNT,
                "merchantReference": word.reference,
                "amount": {"currency": payment.currency, "value": word.value},
                "eventCode": word.event,
                "eventDate": at.isoformat(),
                "success": "true" if word.success else "false",
                "reason": word.reason,
                "paymentMethod": "visa",
                "additionalData": dict(word.additional),
            }
        )

    def _tell_later(self, words: list[Word]) -> None:
        self._send_later([[self._item(word)] for word in words])

    def _send_later(self, bodies: list[list[Json]]) -> None:
        if bodies:
            self._run(self._send(bodies))

    async def _send(self, bodies: list[list[Json]]) -> None:
        for items in bodies:
            await asyncio.sleep(DELAY_S)
            await self._delivered(items)

    async def _deliver_batch(self) -> None:
        await asyncio.sleep(BATCH_S)
        mine, self._batch = self._batch, []
        await self._delivered([*mine, *_of_others()])

    async def _delivered(self, items: list[Json]) -> None:
        """Post the items as one body until somebody takes it, a few times at most."""
        if self.target is None:
            return
        body = body_of(items)
        for _ in range(MAX_DELIVERIES):
            with suppress(aiohttp.ClientError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_S)
                async with aiohttp.ClientSession(timeout=timeout) as session:
                    headers = {"Content-Type": "application/json"}
                    async with session.post(self.target, data=body, headers=headers) as response:
                        if response.ok:
                            return
            await asyncio.sleep(DELAY_S)

    def _run(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fault(self, request: web.Request, situation: Situation, body: bytes) -> web.StreamResponse:
        match situation:
            case Situation.RATE_LIMITED:
                return _refused(RefusedError(429, "000", kind="configuration", **{"Retry-After": "7"}))
            case Situation.UNAUTHORIZED:
                return _refused(RefusedError(401, "000", kind="security"))
            case Situation.SERVER_ERROR_AFTER:
                return _refused(RefusedError(500, "905", kind="internal"))
            case Situation.RESET_BEFORE | Situation.RESET_AFTER:
                return faults.reset(request)
            case Situation.HTML_502_BEFORE | Situation.HTML_502_AFTER:
                return faults.bad_gateway()
            case Situation.CUT_AFTER:
                return faults.cut(body)
            case _:
                return await faults.silence(request, self._stopping)


def _check_beyond_the_document(body: Json) -> None:
    """Raise RefusedError for what Adyen's pages forbid, and the document says in sentences alone, or not at all."""
    reference = body.get("reference", "")
    if len(reference) > wire.MAX_REFERENCE_CHARS:
        raise RefusedError(422, "130")
    if body.get("merchantAccount", MERCHANT_ACCOUNT) != MERCHANT_ACCOUNT:
        raise RefusedError(403, "901", kind="security")
    method = body.get("paymentMethod", {})
    if "storedPaymentMethodId" in method and "shopperReference" not in body:
        raise RefusedError(422, "14_004")
    if body.get("amount", {}).get("value", 1) <= 0:
        raise RefusedError(422, "137")


def _refused(refusal: RefusedError) -> web.Response:
    said = {
        "status": refusal.status,
        "errorCode": refusal.code,
        "message": "The simulator refuses.",
        "errorType": refusal.kind,
    }
    return web.json_response(said, status=refusal.status, headers=refusal.headers)


def signed(item: Json, *, secret: str = HMAC_KEY) -> Json:
    """Return the item with its signature."""
    read = wire.read(Notification, {"notificationItems": [{"NotificationRequestItem": item}]}).items[0]
    mac = signature.sign(signature.signed_text(read).encode(), secret=secret)
    return {**item, "additionalData": {**item.get("additionalData", {}), signature.ITEM_MEMBER: mac}}


def body_of(items: list[Json]) -> bytes:
    """Return a standard webhook of these items."""
    wrapped = [{"NotificationRequestItem": item} for item in items]
    return json.dumps({"live": "false", "notificationItems": wrapped}).encode()


def _of_others() -> list[Json]:
    """Return items about a payment of another system that shares the account, and about nothing of ours at all."""
    item = {
        "pspReference": "OTHER00000000001",
        "merchantAccountCode": MERCHANT_ACCOUNT,
        "merchantReference": "cart:17",
        "amount": {"currency": "EUR", "value": 100},
        "eventCode": "AUTHORISATION",
        "eventDate": "2026-12-01T10:00:00+01:00",
        "success": "true",
    }
    report = {**item, "eventCode": "REPORT_AVAILABLE", "pspReference": "settlement_report_batch_1.csv"}
    return [signed(item), signed({**report, "merchantReference": ""})]
