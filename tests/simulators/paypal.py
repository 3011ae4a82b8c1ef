"""A stateful simulator of PayPal, of our own: nobody else has written one.

It keeps orders, authorizations, captures and refunds, honours request ids, refuses what PayPal's documents name as
refusals, and signs webhooks with a certificate of a test authority. So that it is no kinder than a judge that nobody
here wrote, each request is first validated against PayPal's own document, as `judge` is told. What no document says
(when which webhook comes, what a resend answers) is as `docs/gateways/paypal.md` tells it: no proof of PayPal.

Runs in the test's own event loop, on a loopback port. What happens to a call is armed by the reference that it carries
(`sale:op_…`), or by the id at PayPal that its path names. Its clock takes a second for each thing, since PayPal tells
whole seconds.
"""

import asyncio
import base64
import json
import urllib.parse
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tests.simulators.paypal_bank import PayPalBank
from tests.simulators.paypal_events import PayPalEvents
from tests.simulators.paypal_objects import Json, RefusedError
from tests.support.gateway_under_test import Situation
from tests.support.webhook_certificates import SigningCertificate

Judge = Callable[[str, str, Mapping[str, str], bytes], list[str]]
"""What PayPal's document has against a request: method, path with query, headers, body."""

CLIENT_ID = "client"
CLIENT_SECRET = "secret-of-the-app"
TOKEN_LIFE_S = 32_400
VERIFICATION_PATH: Final = "/v1/notifications/verify-webhook-signature"
BEFORE: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.RESET_BEFORE,
        Situation.HTML_502_BEFORE,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.NOT_FOUND_YET,
    }
)
AFTER: Final = frozenset(
    {
        Situation.TIMEOUT_AFTER,
        Situation.RESET_AFTER,
        Situation.HTML_502_AFTER,
        Situation.SERVER_ERROR_AFTER,
        Situation.CUT_AFTER,
    }
)
SLOW_S: Final = 0.2


@dataclass
class _Stored:
    fingerprint: bytes
    render: Callable[[], Json] | None = None  # None: under way
    refusal: RefusedError | None = None


class PayPalSimulator:
    """The server and its books. Start it, and stop it."""

    def __init__(self, *, judge: Judge, certificate: SigningCertificate, webhook_id: str, certificate_url: str) -> None:
        self.judge = judge
        self.events = PayPalEvents(certificate=certificate, webhook_id=webhook_id, certificate_url=certificate_url)
        self.bank = PayPalBank(self.events)
        self.stored: dict[str, _Stored] = {}
        self.armed: defaultdict[str, deque[Situation]] = defaultdict(deque)
        self.verified: list[str] = []  # webhook ids that deliveries were asked about under
        self.verification_word: str | None = None  # what is said of each; None: what is so
        self.judged = 0  # requests that fitted the document
        self.tokens_given = 0
        self.refuses_credentials = False
        self.good_tokens: set[str] = set()
        self.port = 0
        self._held = asyncio.Event()  # set at the end: lets go of calls that are never answered
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    # Life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(self.control())
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.listen()

    async def listen(self) -> None:
        """Take connections, on the port it had before if it had one."""
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self._site.port

    async def close_listener(self) -> None:
        """Take no connections, and end those that there are."""
        assert self._runner is not None
        assert self._runner.server is not None
        assert self._site is not None
        await self._site.stop()
        await self._runner.server.shutdown(0.0)

    async def stop(self) -> None:
        self._held.set()
        await self.events.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # What a simulator that is a process of its own does besides (`paypal_process`)

    def control(self) -> Sequence[web.RouteDef]:
        """Return further routes."""
        return ()

    def drawn(self, method: str, path: str, said: Json) -> Situation | None:
        """Return what a call meets that no test has armed."""
        return None

    def refuses(self, method: str, path: str, against: list[str]) -> None:
        """Be told of a request that does not fit the document."""

    def begins(self, key: str) -> None:
        """Be told that the call with this request id is about to be carried out."""

    def carried_out(self, key: str, stored: "_Stored", answer: Json | None) -> None:
        """Be told what came of it, before anybody is answered; None: it was refused."""

    def arm(self, situation: Situation, key: str) -> None:
        """Let this happen to the next call that carries the reference, or names the id."""
        self.armed[key].append(situation)

    # A request's way

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        against = self.judge(request.method, request.path_qs, headers, body)
        if against:
            self.refuses(request.method, request.path, against)
            return _json(400, {"name": "INVALID_REQUEST", "details": [{"issue": each} for each in against]})
        self.judged += 1
        return await self._answered(request, headers, body)

    async def _answered(self, request: web.Request, headers: dict[str, str], body: bytes) -> web.StreamResponse:
        if request.path == "/v1/oauth2/token":
            return self._give_token(headers, body)
        if request.path == VERIFICATION_PATH:
            return await self._verify(request, headers, body)
        said: Json = json.loads(body) if body else {}
        situation = self._next_situation(request.path, said) or self.drawn(request.method, request.path, said)
        if situation in BEFORE:
            return await self._met(request, situation)
        if headers["authorization"].removeprefix("Bearer ") not in self.good_tokens:
            return _json(401, {"error": "invalid_token", "error_description": "said by a test"})
        try:
            status, answer = await self._done(request, headers, body, said, situation)
        except RefusedError as refused:
            status, answer = refused.status, refused.body
        if situation in AFTER:
            return await self._met(request, situation)
        return _json(status, answer)

    def _give_token(self, headers: dict[str, str], body: bytes) -> web.Response:
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if self.refuses_credentials or headers.get("authorization") != f"Basic {pair}":
            return _json(401, {"error": "invalid_client", "error_description": "said by a test"})
        assert urllib.parse.parse_qs(body.decode()) == {"grant_type": ["client_credentials"]}
        self.tokens_given += 1
        token = f"A21AA-{self.tokens_given}"
        self.good_tokens.add(token)
        return _json(200, {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE_S})

    async def _verify(self, request: web.Request, headers: dict[str, str], body: bytes) -> web.StreamResponse:
        """Say whether this event, byte for byte, was signed for that endpoint."""
        if self.armed[VERIFICATION_PATH]:
            return await self._met(request, self.armed[VERIFICATION_PATH].popleft())
        if headers["authorization"].removeprefix("Bearer ") not in self.good_tokens:
            return _json(401, {"error": "invalid_token", "error_description": "said by a test"})
        said: Json = json.loads(body)
        self.verified.append(said["webhook_id"])
        event = body.partition(b'"webhook_event":')[2][:-1]
        text = "|".join(
            (said["transmission_id"], said["transmission_time"], said["webhook_id"], str(zlib.crc32(event)))
        )
        is_signed = said["webhook_id"] == self.events.webhook_id and self.events.certificate.has_signed(
            text.encode(), base64.b64decode(said["transmission_sig"])
        )
        status = self.verification_word or ("SUCCESS" if is_signed else "FAILURE")
        return _json(200, {"verification_status": status})

    def _next_situation(self, path: str, said: Json) -> Situation | None:
        parts = path.split("/")
        unit = (said.get("purchase_units") or [{}])[0]
        names = [unit.get("custom_id"), said.get("invoice_id"), *([parts[4]] if len(parts) > 4 else [])]
        for name in names:
            if name is not None and self.armed[name]:
                return self.armed[name].popleft()
        return None

    async def _met(self, request: web.Request, situation: Situation) -> web.StreamResponse:
        match situation:
            case Situation.TIMEOUT_BEFORE | Situation.TIMEOUT_AFTER:
                await self._held.wait()
            case Situation.HTML_502_BEFORE | Situation.HTML_502_AFTER:
                return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
            case Situation.SERVER_ERROR_AFTER:
                return _json(500, {"name": "INTERNAL_SERVER_ERROR", "debug_id": "1"})
            case Situation.RATE_LIMITED:
                return _json(429, {"name": "RATE_LIMIT_REACHED"}, {"Retry-After": "7"})
            case Situation.UNAUTHORIZED:
                return _json(403, {"name": "NOT_AUTHORIZED", "details": [{"issue": "PERMISSION_DENIED"}]})
            case Situation.NOT_FOUND_YET:
                return _json(404, RefusedError(404, "RESOURCE_NOT_FOUND", "INVALID_RESOURCE_ID").body)
            case Situation.CUT_AFTER:
                response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "900"})
                await response.prepare(request)
                await response.write(b'{"id":')
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)

    async def _done(
        self, request: web.Request, headers: dict[str, str], body: bytes, said: Json, situation: Situation | None
    ) -> tuple[int, Json]:
        if request.method == "GET":
            return 200, self.bank.shown(request.path)
        key, fingerprint = headers["paypal-request-id"], request.path.encode() + b" " + body
        stored = self.stored.get(key)
        if stored is None:
            stored = self.stored[key] = _Stored(fingerprint=fingerprint)
            if situation is Situation.SLOW:
                await asyncio.sleep(SLOW_S)
            self.begins(key)
            try:
                stored.render = self.bank.carried_out(request.path, said, situation)
            except RefusedError as refused:
                stored.refusal = refused
                self.carried_out(key, stored, None)
                raise
            answer = stored.render()
            self.carried_out(key, stored, answer)
            await self.events.told()
            return (200 if request.path.endswith("/void") else 201), answer
        if stored.fingerprint != fingerprint:
            raise RefusedError(400, "DUPLICATE_REQUEST_ID")
        if stored.refusal is not None:
            raise stored.refusal
        if stored.render is None:
            raise RefusedError(409, "RESOURCE_CONFLICT", "PREVIOUS_REQUEST_IN_PROGRESS")
        return 200, stored.render()


def _json(status: int, body: Json, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers=headers)
