"""The Mock's server: the routes of calls and inquiries, and the life of a call.

A call goes through: its account → its scenario → faults before → is its key in flight? → latency → executed and
committed → faults after → its answer. A caller that hangs up changes nothing: what was begun is carried out, as at a
real gateway.

Routes: `POST /payments`, `POST /payments/{id}/captures|voids|refunds|complete`, `GET
/operations?idempotency_key=…|reference=…`, and those of `control`.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

import orjson
from aiohttp import web

from gateway_adapters.mock import bank, faults, postings
from gateway_adapters.mock.accounts import DEFAULT, Accounts, ServedAccount
from gateway_adapters.mock.courses import Scenario
from gateway_adapters.mock.latency import Fixed, Latency
from gateway_adapters.mock.scenarios import Happening, Request, ScenarioBook
from gateway_adapters.mock.signature import DEVELOPMENT_SECRET
from gateway_adapters.mock.storage import Storage, StorageBusyError
from gateway_adapters.mock.tokens import PLAIN, TokenPlan, plan_of
from gateway_adapters.mock.webhooks import Clockwork, WebhookTarget, now_ms
from gateway_adapters.mock.wire import (
    ACCOUNT_HEADER,
    KEY_HEADER,
    MAX_KEY_CHARS,
    REPLAYED_HEADER,
    Call,
    ErrorCode,
    Operation,
    Status,
    WireError,
    decode_call,
    decode_completion,
    error_json,
    operation_json,
)
from schemas.vocabulary import CallKind

MAX_IN_FLIGHT: Final = 10_000
DEFAULT_DELAY_MS: Final = 300
JSON_TYPE: Final = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How one Mock server runs."""

    ledger: Path
    host: str = "127.0.0.1"
    port: int = 0  # 0: a free one
    public_url: str | None = None  # what payers reach it by; None: by host and port
    webhook_url: str | None = None
    webhook_secret: str = DEVELOPMENT_SECRET
    accounts: tuple[ServedAccount, ...] = ()  # beside the default one, which these may replace
    latency: Latency = field(default_factory=lambda: Fixed(ms=0))
    delay_ms: int = DEFAULT_DELAY_MS  # until a pending operation's last word
    announce_all: bool = False  # webhooks about what was final at once, too
    seed: int = 0  # of latency

    def served(self) -> Accounts:
        """Return the accounts that are served. Raises: ValueError when they contradict each other."""
        default = ServedAccount(name=DEFAULT, webhook_url=self.webhook_url, webhook_secret=self.webhook_secret)
        return Accounts((default, *self.accounts))


class Server:
    """The state of one Mock server, and its handlers."""

    def __init__(self, settings: ServerSettings, stopping: asyncio.Event) -> None:
        self.settings = settings
        self.accounts = settings.served()
        self.storage = Storage(settings.ledger)
        self.book = ScenarioBook()
        self.latency: Latency = settings.latency
        targets = {
            name: WebhookTarget(url=each.webhook_url, secret=each.webhook_secret)
            for name, each in self.accounts.served.items()
        }
        self.clockwork = Clockwork(self.storage, targets)
        self.stopping = stopping
        self.action_base = ""  # known once the port is
        self.calls = 0  # requests that should have had an effect, faults included
        self._in_flight: set[tuple[str, str]] = set()  # accounts and keys
        self._chance = Random(settings.seed)  # noqa: S311 - a repeatable run, not a secret

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of calls and inquiries."""
        app.router.add_post("/payments", self._handler(CallKind.AUTHORIZE))
        app.router.add_post("/payments/{payment}/captures", self._handler(CallKind.CAPTURE))
        app.router.add_post("/payments/{payment}/voids", self._handler(CallKind.VOID))
        app.router.add_post("/payments/{payment}/refunds", self._handler(CallKind.REFUND))
        app.router.add_post("/payments/{payment}/complete", self._completed)
        app.router.add_get("/operations", self._inquired)

    def _handler(self, kind: CallKind) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._called(request, kind)

        return handle

    async def _called(self, request: web.Request, kind: CallKind) -> web.StreamResponse:
        self.calls += 1
        try:
            account, key = self._account(request), _key(request)
            call = decode_call(
                await request.read(), kind=kind, gateway_key=key, payment=request.match_info.get("payment")
            )
            return await self._carried_out(request, call, account)
        except _TurnedAwayError as turned_away:
            return turned_away.response
        except WireError as error:
            return refusal(400, ErrorCode.INVALID, str(error))
        except StorageBusyError:
            return rate_limited(1)

    async def _completed(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        try:
            account, key = self._account(request), _key(request)
            completion = decode_completion(await request.read(), gateway_key=key, payment=request.match_info["payment"])
            terms = replace(self._terms(None, account), plan=PLAIN)
            answered = await self.storage.run(lambda db: bank.complete(db, completion, terms))
        except _TurnedAwayError as turned_away:
            return turned_away.response
        except WireError as error:
            return refusal(400, ErrorCode.INVALID, str(error))
        except StorageBusyError:
            return rate_limited(1)
        if answered.waits:
            self.clockwork.wake()
        return await self._answer(request, answered, None)

    def _account(self, request: web.Request) -> str:
        account = self.accounts.named_by(request.headers.get(ACCOUNT_HEADER))
        if account is None:
            raise _TurnedAwayError(refusal(401, ErrorCode.UNAUTHORIZED, "No such API key."))
        return account

    async def _carried_out(self, request: web.Request, call: Call, account: str) -> web.StreamResponse:
        plan = await self._plan(call)
        happening = self.book.pick(
            Request(
                kind=call.kind,
                order_id=call.metadata.order_id,
                origin_id=call.metadata.origin_id,
                gateway_key=call.gateway_key,
                plan=plan,
                account=account,
            )
        )
        before = await self._fault_before(request, happening)
        if before is not None:
            return before
        in_flight = (account, call.gateway_key)
        if in_flight in self._in_flight or len(self._in_flight) >= MAX_IN_FLIGHT:
            return refusal(409, ErrorCode.KEY_IN_PROGRESS, "A request with this idempotency key is in progress.")
        self._in_flight.add(in_flight)
        try:
            await self._take_time(happening)
            answered = await self._execute(call, plan, happening, account)
        finally:
            self._in_flight.discard(in_flight)
        if answered.tell_first is not None:
            await self.clockwork.told(answered.tell_first, account)
        return await self._answer(request, answered, happening)

    async def _plan(self, call: Call) -> TokenPlan:
        if call.token is not None:
            return plan_of(call.token)
        payment = call.payment or ""
        token = await self.storage.run(lambda db: bank.find_token(db, payment))
        return PLAIN if token is None else plan_of(token)

    async def _execute(self, call: Call, plan: TokenPlan, happening: Happening | None, account: str) -> bank.Answered:
        # A decline is for the call that opens the payment.
        terms = replace(self._terms(happening, account), plan=PLAIN if call.token is None else plan)
        answered = await self.storage.run(lambda db: bank.execute(db, call, terms))
        if answered.waits:
            self.clockwork.wake()
        return answered

    def _terms(self, happening: Happening | None, account: str) -> bank.Terms:
        return bank.Terms(
            now_ms=now_ms(),
            plan=PLAIN,
            happening=happening,
            delay_ms=self.settings.delay_ms if happening is None else happening.delay_ms or self.settings.delay_ms,
            action_base=self.action_base,
            announce=self.settings.announce_all,
            account=account,
        )

    async def _take_time(self, happening: Happening | None) -> None:
        latency_ms = self.latency.draw_ms(self._chance)
        if happening is not None and happening.scenario is Scenario.SLOW:
            latency_ms += happening.delay_ms or self.settings.delay_ms
        if latency_ms > 0:
            await asyncio.sleep(latency_ms / 1000)

    async def _fault_before(self, request: web.Request, happening: Happening | None) -> web.StreamResponse | None:
        match happening:
            case Happening(scenario=Scenario.TIMEOUT_BEFORE):
                return await faults.silence(request, self.stopping)
            case Happening(scenario=Scenario.RESET_BEFORE):
                return faults.reset(request)
            case Happening(scenario=Scenario.HTML_502_BEFORE):
                return faults.bad_gateway()
            case Happening(scenario=Scenario.RATE_LIMITED, retry_after_s=retry_after_s):
                return rate_limited(retry_after_s)
            case Happening(scenario=Scenario.UNAUTHORIZED):
                return refusal(401, ErrorCode.UNAUTHORIZED, "No such API key.")
            case _:
                return None

    async def _answer(
        self, request: web.Request, answered: bank.Answered, happening: Happening | None
    ) -> web.StreamResponse:
        match happening:
            case Happening(scenario=Scenario.TIMEOUT_AFTER):
                return await faults.silence(request, self.stopping)
            case Happening(scenario=Scenario.RESET_AFTER):
                return faults.reset(request)
            case Happening(scenario=Scenario.HTML_502_AFTER):
                return faults.bad_gateway()
            case Happening(scenario=Scenario.SERVER_ERROR_AFTER):
                return refusal(500, ErrorCode.INVALID, "Something went wrong here.")
            case Happening(scenario=Scenario.CUT_AFTER):
                return faults.cut(answered.body)
            case _:
                headers = {REPLAYED_HEADER: "true"} if answered.replayed else None
                return web.Response(
                    status=answered.http_status, body=answered.body, content_type=JSON_TYPE, headers=headers
                )

    async def _inquired(self, request: web.Request) -> web.StreamResponse:
        try:
            account = self._account(request)
        except _TurnedAwayError as turned_away:
            return turned_away.response
        key, reference = request.query.get("idempotency_key"), request.query.get("reference")
        if not key and not reference:
            return refusal(400, ErrorCode.INVALID, "idempotency_key or reference is needed.")
        if not reference and (account, key) in self._in_flight:
            return web.json_response({"found": True, "status": Status.PROCESSING.value})
        try:
            operation, plan = await self.storage.run(lambda db: _found(db, key, reference, account))
        except StorageBusyError:
            return rate_limited(1)
        metadata = None if operation is None else operation.metadata
        happening = self.book.pick(
            Request(
                kind=CallKind.INQUIRE,
                order_id=request.query.get("order_id") if metadata is None else metadata.order_id,
                origin_id=request.query.get("origin_id") if metadata is None else metadata.origin_id,
                gateway_key=key,
                plan=plan,
                account=account,
            )
        )
        before = await self._fault_before(request, happening)
        if before is not None:
            return before
        await self._take_time(happening)
        hidden = happening is not None and happening.scenario is Scenario.NOT_FOUND_YET
        body: dict[str, object] = {"found": False, "authoritative": not hidden}
        if operation is not None and not hidden:
            body = {"found": True, **operation_json(operation)}
        answered = bank.Answered(http_status=200, body=orjson.dumps(body))
        return await self._answer(request, answered, happening)


class _TurnedAwayError(Exception):
    """The request is answered before it is looked at."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


def _key(request: web.Request) -> str:
    key = request.headers.get(KEY_HEADER, "")
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isascii():
        message = f"{KEY_HEADER} must have 1 to {MAX_KEY_CHARS} ASCII characters."
        raise _TurnedAwayError(refusal(400, ErrorCode.INVALID, message))
    return key


def _found(
    db: sqlite3.Connection, key: str | None, reference: str | None, account: str
) -> tuple[Operation | None, TokenPlan | None]:
    operation = postings.find_operation(db, reference=reference or None, key=key, account=account)
    token = None if operation is None else bank.find_token(db, operation.payment)
    return operation, None if token is None else plan_of(token)


def refusal(status: int, code: ErrorCode, message: str) -> web.Response:
    """Return an error answer."""
    return web.Response(status=status, body=error_json(code, message), content_type=JSON_TYPE)


def rate_limited(retry_after_s: int) -> web.Response:
    """Return 429."""
    response = refusal(429, ErrorCode.RATE_LIMITED, "Too many requests.")
    response.headers["Retry-After"] = str(retry_after_s)
    return response
