"""A stateful Stripe of our own, over real sockets: idempotency keys, declines, lost answers, events that are signed.

It is ours, and said so (see `stripe_bank`). It refuses parameters that it does not know, a version other than the
pinned one, and a wrong credential. A situation is told for the next call of an order and kind, and happens once.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from tests.simulators.stripe_bank import VERSION, Bank, Json, RefusedError, shown, whole
from tests.simulators.stripe_events import Events, Later
from tests.support.gateway_under_test import Situation

API_KEY: Final = "sk_test_simulated"
BASE_PATH: Final = "/behind/a/proxy"
HELD_BACK_S: Final = 0.2
"""How long a slow call is worked on, unless another with its key comes first."""

MAX_HELD_S: Final = 10.0
RETRY_AFTER_S: Final = 7

CREATE = {
    *("amount", "currency", "confirm", "capture_method", "payment_method", "confirmation_token"),
    *("payment_method_types", "payment_method_options", "metadata", "expand", "customer", "return_url"),
    *("statement_descriptor_suffix", "statement_descriptor", "off_session"),
}
CAPTURE = {"amount_to_capture", "final_capture", "metadata", "expand"}
CANCEL = {"cancellation_reason", "expand"}
REFUND = {"payment_intent", "amount", "metadata"}

BEFORE: Final = frozenset({Situation.TIMEOUT_BEFORE, Situation.RESET_BEFORE, Situation.HTML_502_BEFORE})
REFUSALS: Final = {
    Situation.RATE_LIMITED: (429, "rate_limit"),
    Situation.UNAUTHORIZED: (401, "api_key_expired"),
}


@dataclass(slots=True)
class Stored:
    """What a key stands for: an answer, or a call that is under way (status 0)."""

    asked: tuple[str, bytes]
    status: int = 0
    body: bytes = b""


@dataclass(slots=True)
class StripeSimulator:
    """The server. Use `running`."""

    bank: Bank
    events: Events
    announces: bool = False  # also events of what an answer has just told: off, a test sees its own alone
    api_key: str = API_KEY
    port: int = 0
    requests: list[tuple[str, str, dict[str, str], Json]] = field(default_factory=list)
    _situations: dict[tuple[str, str], Situation] = field(default_factory=dict)
    _keys: dict[str, Stored] = field(default_factory=dict)
    _came_again: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _later: set[asyncio.Task[None]] = field(default_factory=set)
    _runner: web.AppRunner | None = None
    _site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        """Its base URL, with a path, as one behind a proxy may have."""
        return f"http://127.0.0.1:{self.port}{BASE_PATH}"

    def provoke(self, situation: Situation, order_id: str, kind: str) -> None:
        """Let this happen to the next call of the order and kind; `inquire` is any look."""
        self._situations[order_id, kind] = situation

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.add_routes(self.control())
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await self.listen()

    # What a simulator that is a process of its own does besides (`stripe_process`)

    def control(self) -> Sequence[web.RouteDef]:
        """Return further routes."""
        return ()

    def drawn(self, kind: str) -> Situation | None:
        """Return what a call meets that no test has told."""
        return None

    def begins(self, key: str) -> None:
        """Be told that the call with this key is about to be carried out."""

    async def carried_out(self, key: str, stored: Stored, later: Later | None) -> Later | None:
        """Be told what came of it, before anybody is answered; return what is left to do afterwards."""
        return later

    async def listen(self) -> None:
        """Take connections, on the port it had before if it had one."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await self._site.start()
        self.port = self._site.port

    async def refuse(self) -> None:
        """Take no connections until `listen`."""
        assert self._site is not None
        await self._site.stop()

    async def stop(self) -> None:
        """End, with what is still held back."""
        self._closing.set()
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)
        assert self._runner is not None
        await self._runner.cleanup()

    # What comes in

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = request.path.removeprefix(BASE_PATH)
        given = nested(body.decode() if request.method == "POST" else request.query_string)
        self.requests.append((request.method, path, dict(request.headers), given))
        if refusal := _unfit(request, self.api_key):
            return _json(*refusal)
        situation = self._situation_of(request.method, path, given)
        if situation in REFUSALS:
            status, code = REFUSALS[situation]
            return _json(status, RefusedError(status, code).body, {"Retry-After": str(RETRY_AFTER_S)})
        if situation in BEFORE:
            return await self._lost(request, situation)
        if request.method == "GET":
            answer = _json(*self._look(path, given, situation))
            return await self._cut(request, answer) if situation is Situation.CUT_AFTER else answer
        return await self._keyed(request, path, body, given, situation)

    async def _keyed(
        self, request: web.Request, path: str, body: bytes, given: Json, situation: Situation | None
    ) -> web.StreamResponse:
        key, asked = request.headers["Idempotency-Key"], (path, body)
        stored = self._keys.get(key)
        if stored is not None:
            self._came_again.set()
            if stored.asked != asked:
                return _json(400, RefusedError(400, "idempotency_key_mismatch", kind="idempotency_error").body)
            if not stored.status:
                return _json(409, RefusedError(409, "idempotency_key_in_use", kind="idempotency_error").body)
            return _answer(stored.status, stored.body, {"Idempotent-Replayed": "true"})
        stored = self._keys[key] = Stored(asked=asked)
        if situation is Situation.SLOW:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came_again.wait(), HELD_BACK_S)
        later: Later | None = None
        self.begins(key)
        try:
            if situation is not Situation.STORED_500_BEFORE:
                told, later = await self._do(path, given, situation)
                stored.status, stored.body = 200, orjson.dumps(told)
        except RefusedError as refused:
            stored.status, stored.body = refused.status, orjson.dumps(refused.body)
            if situation is Situation.REFUSED_THEN_SUCCEEDED:
                payment = self.bank.payments[refused.body["error"]["payment_intent"]["id"]]
                later = partial(self.events.succeeds, payment)
        if situation in {Situation.STORED_500_BEFORE, Situation.STORED_500_AFTER}:
            failure = RefusedError(500, "api_error", kind="api_error")
            stored.status, stored.body = failure.status, orjson.dumps(failure.body)
        later = await self.carried_out(key, stored, later)
        answer = await self._told(request, _answer(stored.status, stored.body), situation)
        if later is not None:
            task = asyncio.ensure_future(_run(later))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
        return answer

    def _situation_of(self, method: str, path: str, given: Json) -> Situation | None:
        payment = self._payment_of(path, given)
        order = (payment or given).get("metadata", {}).get("order_id", "")
        if method == "GET":
            kind = "inquire"
        elif path == "/v1/payment_intents":
            kind = "authorize" if given.get("capture_method") == "manual" else "sale"
        else:
            kind = {"cancel": "void", "capture": "capture", "refunds": "refund"}[path.rsplit("/", 1)[-1]]
        return self._situations.pop((order, kind), None) or self.drawn(kind)

    def _payment_of(self, path: str, given: Json) -> Json | None:
        if path.endswith("/search"):
            found = self._searched(given)
            return found[0] if found else None
        named = re.fullmatch(r"/v1/payment_intents/([^/]+)(?:/\w+)?", path)
        refund = re.fullmatch(r"/v1/refunds/([^/]+)", path)
        name = named[1] if named else given.get("payment_intent")
        if refund and refund[1] in self.bank.refunds:
            name = self.bank.refunds[refund[1]]["payment_intent"]
        return self.bank.payments.get(name or "")

    def _searched(self, given: Json) -> list[Json]:
        query = re.fullmatch(r'metadata\["gateway_key"\]:"([^"\\]+)"', given.get("query", ""))
        if query is None:
            raise RefusedError(400, "parameter_invalid", param="query")
        return self.bank.with_key(query[1])

    # What it comes to

    def _look(self, path: str, given: Json, situation: Situation | None) -> tuple[int, Json]:
        if path.endswith("/search"):
            found = [] if situation is Situation.NOT_FOUND_YET else self._searched(given)
            return 200, {"object": "search_result", "data": [shown(each) for each in found], "has_more": False}
        if path == "/v1/refunds":
            ours = self.bank.of_payment(self.bank.payments[given["payment_intent"]])
            newest, after = ours[::-1], given.get("starting_after")
            start = 1 + [each["id"] for each in newest].index(after) if after else 0
            page = newest[start : start + int(given.get("limit", "10"))]
            return 200, {"object": "list", "data": page, "has_more": len(newest) > start + len(page)}
        payment = self._payment_of(path, given)
        if payment is None:
            return 404, RefusedError(404, "resource_missing", param="intent").body
        if path.startswith("/v1/refunds/"):
            return 200, self.bank.refunds[path.rsplit("/", 1)[-1]]
        return 200, self.bank.told(payment, expand="expand" in given)

    async def _do(self, path: str, given: Json, situation: Situation | None) -> tuple[Json, Later | None]:
        if path == "/v1/payment_intents":
            return await self._create(given, situation)
        payment = self._payment_of(path, given)
        if payment is None:
            raise RefusedError(404, "resource_missing", param="intent")
        if path == "/v1/refunds":
            _known(given, REFUND)
            refund = self.bank.refund(payment, whole(given, "amount"), given.get("metadata", {}))
            return dict(refund), self._announced("refund.created", refund)
        before = len(self.bank.refunds)
        if path.endswith("/capture"):
            _known(given, CAPTURE)
            self.bank.capture(payment, given)
            part = payment["status"] == "requires_capture"
            told = self._announced(f"payment_intent.{'amount_capturable_updated' if part else 'succeeded'}", payment)
        else:
            _known(given, CANCEL)
            waited = payment["status"] == "requires_action"
            self.bank.cancel(payment)
            told = self._announced("payment_intent.canceled", payment, always=waited)
        released = [self._announced("refund.created", each) for each in list(self.bank.refunds.values())[before:]]
        return self.bank.told(payment, expand="expand" in given), partial(_one_by_one, [told, *released])

    async def _create(self, given: Json, situation: Situation | None) -> tuple[Json, Later | None]:
        _known(given, CREATE)
        status = {
            Situation.PENDING_THEN_SUCCEEDED: "processing",
            Situation.PENDING_THEN_FAILED: "processing",
            Situation.ACTION_EXPIRED: "requires_action",
            Situation.UNKNOWN_STATUS: "brand_new",
        }.get(situation) if situation else None  # fmt: skip
        if situation is Situation.REFUSED_THEN_SUCCEEDED:
            given = {**given, "payment_method": "pm_card_chargeDeclined"}
        mismatch = int(given["amount"]) - 1 if situation is Situation.AMOUNT_MISMATCH else None
        payment = self.bank.create(given, status=status, received=mismatch)
        told = self.bank.told(payment, expand="expand" in given)
        if situation is Situation.EARLY_WEBHOOK:
            await self.events.comes_early(payment, at_s=told["latest_charge"]["created"])
            return told, None
        held = payment["capture_method"] == "manual"
        announced = self._announced(f"payment_intent.{'amount_capturable_updated' if held else 'succeeded'}", payment)
        return told, self.events.course(payment, situation) or announced

    async def payer_agrees(self, reference: str) -> None:
        """Act as the payer: yes. Stripe completes the payment by itself."""
        await self.events.succeeds(self.bank.payments[reference])

    def _announced(self, kind: str, told: Json, *, always: bool = False) -> Later | None:
        if not (self.announces or always):
            return None
        return partial(self.events.send, self.events.event(kind, told))

    async def _told(
        self, request: web.Request, answer: web.Response, situation: Situation | None
    ) -> web.StreamResponse:
        if situation is Situation.SERVER_ERROR_AFTER:
            return _json(503, RefusedError(503, "api_error", kind="api_error").body)
        if situation is Situation.CUT_AFTER:
            return await self._cut(request, answer)
        if situation in {Situation.TIMEOUT_AFTER, Situation.RESET_AFTER, Situation.HTML_502_AFTER}:
            return await self._lost(request, situation)
        return answer

    async def _lost(self, request: web.Request, situation: Situation | None) -> web.StreamResponse:
        if situation in {Situation.HTML_502_BEFORE, Situation.HTML_502_AFTER}:
            return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
        if situation in {Situation.TIMEOUT_BEFORE, Situation.TIMEOUT_AFTER}:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), MAX_HELD_S)
        _abort(request)
        return web.Response()

    async def _cut(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        body = answer.body if isinstance(answer.body, bytes) else b""
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        _abort(request)
        return response


@asynccontextmanager
async def running(*, hook_url: str | None = None, announces: bool = False) -> AsyncIterator[StripeSimulator]:
    """Run a simulator on a free loopback port, with an empty ledger, until the block ends."""
    bank = Bank()
    simulator = StripeSimulator(bank=bank, events=Events(bank, hook_url=hook_url), announces=announces)
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


def nested(form: str) -> Json:
    """Return the parameters of a form, `a[b]=1` as {"a": {"b": "1"}}; a list is an object by its numbers."""
    parsed: Json = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        first, *rest = re.findall(r"[^\[\]]+", name)
        at: Any = parsed
        for part, below in zip([first, *rest], [*rest, None], strict=True):
            if below is None:
                at[part] = value
            else:
                at = at.setdefault(part, {})
    return parsed


def _unfit(request: web.Request, api_key: str) -> tuple[int, Json] | None:
    """Return how a request is refused that no adapter of ours should send."""
    if not request.path.startswith(BASE_PATH):
        return 404, RefusedError(404, "not_behind_the_base_url").body
    if request.headers.get("Authorization") != f"Bearer {api_key}":
        return 401, RefusedError(401, "invalid_api_key").body
    if request.headers.get("Stripe-Version") != VERSION:
        return 400, RefusedError(400, "another_version").body
    form = request.content_type == "application/x-www-form-urlencoded"
    if request.method == "POST" and not (form and request.headers.get("Idempotency-Key")):
        return 400, RefusedError(400, "no_form_or_no_key").body
    return None


def _known(given: Json, allowed: set[str]) -> None:
    unknown = sorted(given.keys() - allowed)
    if unknown:
        raise RefusedError(400, "parameter_unknown", param=unknown[0])


async def _run(later: Later) -> None:
    await later()


async def _one_by_one(laters: Sequence[Later | None]) -> None:
    for later in laters:
        if later is not None:
            await later()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _json(status: int, body: Json, headers: dict[str, str] | None = None) -> web.Response:
    return _answer(status, orjson.dumps(body), headers)


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> web.Response:
    more = {"Request-Id": "req_simulated", **(headers or {})}
    return web.Response(status=status, body=body, content_type="application/json", headers=more)
