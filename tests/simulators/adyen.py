"""A simulator of Adyen's Checkout v71, written by this project: a server on loopback with a ledger in memory.

It proves that the adapter and this page agree, not that Adyen does as it says. So each request is validated against
Adyen's own document first, and Prism judges the same requests in a test of its own. What it does is what Adyen's pages
say: keys, 'received' answers, signed webhooks, refusals, redirects and their completion, disputes, late failures.

A test tells it what happens to the next call under a reference (`provoke`). Stored payment methods choose what becomes
of a payment: `declined_12` is refused with that refusalReasonCode, `redirect` makes the payer act, after which Adyen
goes on by itself, `redirect_completed` makes the payer act and waits for /payments/details. `meets_reset_after` meets
that situation once. Any other is authorised.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from gateway_adapters.adyen import wire
from gateway_adapters.mock import faults
from tests.peers import ADYEN_DOCUMENT
from tests.simulators.adyen_bank import AdyenBank, Answer, RefusedError
from tests.simulators.adyen_ledger import Json
from tests.simulators.adyen_post import MERCHANT_ACCOUNT, AdyenPost
from tests.support.gateway_under_test import Situation
from tests.support.openapi_judge import RequestJudge, judge_of

API_KEY: Final = "AQE-simulator"
SLOW_S: Final = 0.2
MAX_BODY_BYTES: Final = 128 * 1024
BASE_PATH: Final = "/v71"
MEETS: Final = "meets_"

CarryOut = Callable[[Json, Situation | None], Answer]

BEFORE: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.RESET_BEFORE,
        Situation.HTML_502_BEFORE,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
    }
)


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
    requests: list[tuple[str, Json]] = field(default_factory=list)  # each that was taken, with its path
    complaints: list[str] = field(default_factory=list)  # what the document had against the others
    _rules: dict[str, Situation] = field(default_factory=dict)
    _met: set[str] = field(default_factory=set)  # references that were called under before
    _keys: dict[str, _Stored | None] = field(default_factory=dict)  # None: under way
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None
    post: AdyenPost = field(default_factory=AdyenPost)
    bank: AdyenBank = field(init=False)
    judge: RequestJudge = field(init=False)

    def __post_init__(self) -> None:
        self.bank = AdyenBank(
            self.post,
            multiple_captures=self.multiple_captures,
            tells_what_it_answered=self.tells_what_it_answered,
            names_the_payment=self.names_the_payment,
        )
        self.judge = judge_of(ADYEN_DOCUMENT)

    @property
    def url(self) -> str:
        """The base URL of the API, with a path as Adyen's has."""
        return f"http://127.0.0.1:{self.port}{BASE_PATH}"

    def _read_document(self) -> None:
        """Let the judge compile what it needs: the first request would wait for it, and its caller's time be over."""
        headers = {"Content-Type": "application/json"}
        for path in ("", "/details", "/psp/captures", "/psp/cancels", "/psp/refunds"):
            self.judge.refusals("POST", f"/payments{path}", headers, b"{}")
        self.judge.refusals("POST", "/cancels", headers, b"{}")

    async def __aenter__(self) -> Self:
        self._read_document()
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes(self.control())
        app.router.add_post(f"{BASE_PATH}/payments", self._payments)
        app.router.add_post(f"{BASE_PATH}/payments/details", self._details)
        app.router.add_post(f"{BASE_PATH}/cancels", self._cancel_unnamed)
        app.router.add_post(BASE_PATH + "/payments/{psp}/{resource:captures|cancels|refunds}", self._modification)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self.post.close()
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

    # What a simulator that is a process of its own does besides (`adyen_process`)

    def control(self) -> Sequence[web.RouteDef]:
        """Return further routes."""
        return ()

    def drawn(self, body: Json, path: str) -> Situation | None:
        """Return what a call meets that no test has told."""
        return None

    def begins(self, key: str, body: Json) -> None:
        """Be told that the call with this key is about to be carried out."""

    def carried_out(self, key: str, status: int, body: bytes) -> None:
        """Be told what came of it, before anybody is answered."""

    def provoke(self, situation: Situation, reference: str) -> None:
        """Let this happen to the next call under this reference."""
        self._rules[reference] = situation

    def effects(self, reference: str) -> list[tuple[str, int]]:
        """Return kind and amount of what really happened to the payment of this reference."""
        return self.bank.effects(reference)

    # Routes

    async def _payments(self, request: web.Request) -> web.StreamResponse:
        return await self._served(request, self.bank.pay)

    async def _details(self, request: web.Request) -> web.StreamResponse:
        return await self._served(request, self.bank.complete)

    async def _cancel_unnamed(self, request: web.Request) -> web.StreamResponse:
        return await self._served(request, self.bank.cancel_unnamed)

    async def _modification(self, request: web.Request) -> web.StreamResponse:
        resource = request.match_info["resource"]
        psp = request.match_info["psp"]

        def carry_out(body: Json, situation: Situation | None) -> Answer:
            return self.bank.modify(psp, resource, body, situation)

        return await self._served(request, carry_out)

    async def _served(self, request: web.Request, carry_out: CarryOut) -> web.StreamResponse:
        try:
            body = await self._checked(request)
            situation = self._met_by(body) or self.drawn(body, request.path.removeprefix(BASE_PATH))
            if situation in BEFORE:
                return await self._fault(request, situation, b"")
            key = request.headers.get(wire.KEY_HEADER, "")
            stored = await self._once(key, body, situation, carry_out)
        except RefusedError as refusal:
            return _refused(refusal)
        if situation is Situation.EARLY_WEBHOOK:
            await self.post.deliver(self.bank.early)
        if situation is not None and situation.value.endswith("_after"):
            return await self._fault(request, situation, stored.body)
        return web.Response(
            status=stored.status,
            body=stored.body,
            content_type="application/json",
            headers={wire.KEY_HEADER: key},
        )

    def _met_by(self, body: Json) -> Situation | None:
        reference = str(body.get("reference"))
        method = body.get("paymentMethod", {}).get("storedPaymentMethodId", "")
        if method.startswith(MEETS) and reference not in self._met:
            self._rules.setdefault(reference, Situation(method.removeprefix(MEETS)))
        self._met.add(reference)
        return self._rules.pop(reference, None)

    async def _once(
        self,
        key: str,
        body: Json,
        situation: Situation | None,
        carry_out: CarryOut,
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
        self.begins(key, body)
        status, answer = carry_out(body, situation)
        stored = _Stored(status, json.dumps(answer).encode())
        self._keys[key] = stored
        self.carried_out(key, stored.status, stored.body)
        return stored

    async def _checked(self, request: web.Request) -> Json:
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
        path = request.path.removeprefix(BASE_PATH)
        found = self.judge.refusals("POST", path, request.headers, await request.read())
        if found:
            self.complaints += found
            raise RefusedError(422, "702")
        _check_beyond_the_document(body)
        self.requests.append((path, body))
        return body

    async def _fault(  # noqa: PLR0911 - one a fault
        self, request: web.Request, situation: Situation, body: bytes
    ) -> web.StreamResponse:
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
