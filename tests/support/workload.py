"""A seeded workload of mixed operations over HTTP, and the record of every request and answer.

What a shopper does when the payer has to act stands in `tests/support/payers.py`.

Used by the acceptance tests and the fault tests; `tests/support/checker.py` decides whether the history was right.
"""

import asyncio
import itertools
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.means import with_tokens
from tests.support.payers import COMPLETED_BY_MERCHANT, Cashier

REQUEST_TIMEOUT_S = 60.0
MAX_TRIES = 40
MANY_REFUNDS = 24
RETRY_DELAY_S = 0.25
ACCEPTED = 202
NOT_FINAL = frozenset({0, 202, 429, 500, 502, 503, 504})
"""What stands for "try again": says nothing of the operation."""
NOT_EXECUTED = "gateway_unavailable"
"""The problem whose 502 is an operation's last word: it was not executed, and its key stays its own."""
PAYER_TOKENS = (COMPLETED_BY_MERCHANT, COMPLETED_BY_MERCHANT, "pm_card_authenticationRequired")
"""The merchant has to complete what the first makes, and the bank's word is enough for the last."""
PARTIAL_TOKEN = "tok_mock_partial_approval"
DECLINES = ("tok_chargeDeclined", "tok_chargeDeclinedInsufficientFunds", "tok_chargeDeclinedExpiredCard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How clients behave. The shares are chances for each order, 0 to 1."""

    tries: int = MAX_TRIES
    retry_delay_s: float = RETRY_DELAY_S
    request_timeout_s: float = REQUEST_TIMEOUT_S
    awkward_tokens: Sequence[str] = ()  # that make the gateway misbehave
    awkward: float = 0.0
    asynchronous: float = 0.0  # asks with mode=async first, then for the outcome under the same key
    race: float = 0.0  # two clients send the same key at once: the same wish, another order or another amount
    direct: float = 0.0  # the command is appended to Kafka by another producer as well
    looks: float = 0.0  # reads the payment back at the end of an order
    trusting: float = 0.0  # believes a 202 and never asks again: nothing but the engine can carry the command out
    tells: float = 0.0  # says who pays, and brings a token for each gateway: read from the command when it is called
    direct_only: float = 0.0  # the command is appended to Kafka by another producer, and never sent over HTTP
    returns: float = 0.0  # gives a payment back in so many parts that the first of them leave the order's row
    payers: float = 0.0  # the payer has to act: does, refuses, or leaves, and the merchant completes or cancels
    partial: float = 0.0  # takes an approval of less than the amount, and the issuer approves less


PATIENT = Habits()

AppendDirectly = Callable[["Request"], Awaitable[None]]
"""Appends the command of a payment request past the ingress; returns when it is acknowledged, its id noted."""


VisitBank = Callable[[str, bool], Awaitable[dict[str, str]]]
"""Lets a payer agree, or not, at an action's URL; returns what the payer brings back from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer. `status` 0: the connection broke, nobody knows what became of the request."""

    status: int
    body: dict[str, Any]
    replayed: bool
    seconds: float
    request_id: str = ""
    """The id under which the ingress appended the command: `X-Request-Id`."""

    @property
    def final(self) -> bool:
        """Whether it says what became of the operation."""
        return self.status not in NOT_FINAL or self.body.get("code") == NOT_EXECUTED

    @property
    def waits_for_payer(self) -> bool:
        """Whether it says that the payer has to act."""
        return self.status == ACCEPTED and self.body.get("state") == "requires_action"


@dataclass(slots=True, kw_only=True)
class Request:
    """One wish of a client: sent with one key until it is answered."""

    number: int
    origin_id: str
    order_id: str
    key: str
    path: str
    body: dict[str, Any]
    answers: list[Answer] = field(default_factory=list)
    appended_ids: list[str] = field(default_factory=list)
    """Of commands appended to Kafka directly, and acknowledged by the broker."""
    trusting: bool = False
    """Whether the client asks no more once it knows that the command is taken."""

    @property
    def last(self) -> Answer:
        return self.answers[-1]

    @property
    def done(self) -> bool:
        """Whether the client has no reason to ask again."""
        if self.trusting and (self.appended_ids or (self.answers and self.last.status == ACCEPTED)):
            return True
        return bool(self.answers) and self.last.final


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A payment as a client read it, and the operations that it had been told to have succeeded before it asked."""

    payment_id: str
    told: frozenset[str]
    status: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a payer said at the bank's page of a payment, noted before it was said."""

    payment_id: str
    agreed: bool


@dataclass(slots=True, kw_only=True)
class Ruling:
    """One decision that an operator asks the desk for, with one key until it is answered."""

    operator: str
    key: str
    order_id: str
    body: dict[str, Any]
    answers: list[Answer] = field(default_factory=list)

    @property
    def why(self) -> str:
        """By which the decision is known wherever it stands: no two rulings have the same."""
        return str(self.body["why"])


class History:
    """Everything that clients asked and were told, in the order of asking."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.looks: list[Look] = []
        self.acts: list[Act] = []
        self.rulings: list[Ruling] = []

    def new(self, *, origin_id: str, order_id: str, key: str, path: str, body: dict[str, Any]) -> Request:
        request = Request(
            number=len(self.requests), origin_id=origin_id, order_id=order_id, key=key, path=path, body=body
        )
        self.requests.append(request)
        return request


class Client:
    """Sends requests as a careful merchant does: the same key again until there is a final answer."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str | Sequence[str], history: History, habits: Habits = PATIENT
    ) -> None:
        """`url`: of the ingress, or of each of them: every try goes to the next."""
        self._session = session
        self._urls = itertools.cycle([url] if isinstance(url, str) else url)
        self._history = history
        self._habits = habits

    def wish(self, *, origin_id: str, order_id: str, key: str, path: str, body: dict[str, Any]) -> Request:
        """Note a request that is not sent yet."""
        return self._history.new(origin_id=origin_id, order_id=order_id, key=key, path=path, body=body)

    async def ask(self, *, origin_id: str, order_id: str, key: str, path: str, body: dict[str, Any]) -> Request:
        request = self.wish(origin_id=origin_id, order_id=order_id, key=key, path=path, body=body)
        await self.pursue(request)
        return request

    async def pursue(self, request: Request, *, asynchronous_first: bool = False, to_payer: bool = False) -> None:
        """Send the request until it has a final answer, or the client's patience ends.

        `to_payer`: an answer that says that the payer has to act will do.
        """
        path = request.path.replace("mode=sync", "mode=async") if asynchronous_first else request.path
        for _ in range(self._habits.tries):
            answer = await self._once(request, path)
            request.answers.append(answer)
            if request.done or (to_payer and answer.waits_for_payer):
                break
            if answer.status == ACCEPTED:
                path = request.path  # taken: from now on it asks what became of it
            await asyncio.sleep(self._habits.retry_delay_s)  # a client's back-off, not a test's wait

    def note_act(self, payment_id: str, *, agreed: bool) -> None:
        """Note what a payer is about to say."""
        self._history.acts.append(Act(payment_id=payment_id, agreed=agreed))

    async def look(self, payment_id: str, *, origin_id: str, told: frozenset[str]) -> None:
        """Read the payment until there is an answer, or the client's patience ends."""
        for _ in range(self._habits.tries):
            answer = await self.send("GET", f"/payments/{payment_id}", {"X-Origin-Id": origin_id}, None)
            if answer.final:
                break
            await asyncio.sleep(self._habits.retry_delay_s)  # a client's back-off, not a test's wait
        self._history.looks.append(Look(payment_id=payment_id, told=told, status=answer.status, body=answer.body))

    async def _once(self, request: Request, path: str) -> Answer:
        headers = {"Idempotency-Key": request.key, "X-Origin-Id": request.origin_id}
        return await self.send("POST", path, headers, request.body)

    async def send(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None) -> Answer:
        """Send one request once; return its answer, or that the connection broke."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._session.request(
                method,
                next(self._urls) + path,
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._habits.request_timeout_s),
            ) as response:
                said = await response.json(content_type=None)
                return Answer(
                    status=response.status,
                    body=said,
                    replayed=response.headers.get("Idempotent-Replayed") == "true",
                    seconds=loop.time() - began,
                    request_id=response.headers.get("X-Request-Id", ""),
                )
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError):  # the last: half a body
            return Answer(status=0, body={}, replayed=False, seconds=loop.time() - began)


class Shopper:
    """One client's life on orders of its own: pay, capture, refund, void, repeat itself, and contradict itself."""

    def __init__(
        self,
        client: Client,
        *,
        seed: int,
        run: str,
        name: str,
        origins: Sequence[str],
        habits: Habits = PATIENT,
        append: AppendDirectly | None = None,
        visit: VisitBank | None = None,
        four: bool = False,
    ) -> None:
        """`append` and `visit`: as the habits `direct` and `payers` need them; None: they are not followed.

        `four`: each payment brings a token for each of four gateways.
        """
        self._four = four
        self._client = client
        self._visit = visit
        self._habits = habits
        self._append = append
        self._random = random.Random(seed)
        self._run = run
        self._name = name
        self._origins = origins
        self._orders = 0
        self.sent = 0

    def _key(self) -> str:
        return f"{self._run}-{uuid.UUID(int=self._random.getrandbits(128))}"

    async def live(self, operations: int) -> None:
        """Send about this many operations."""
        while self.sent < operations:
            await self.one_order()

    async def one_order(self) -> None:
        """Live through one order: from its payment to its last refund."""
        self._orders += 1
        order = f"{self._run}-{self._name}-{self._orders}"
        origin = self._random.choice(self._origins)
        amount = self._random.randrange(100, 100_000)
        capture = self._random.random() < 0.5
        body = {
            "originId": origin,
            "orderId": order,
            "amount": amount,
            "currency": "USD",
            "token": self._token(),
            "capture": capture,
        }
        if self._habits.tells and self._random.random() < self._habits.tells:
            tokens = [
                {"gateway": "elsewhere", "kind": "vault", "value": "vault-7"},
                {"gateway": "mock", "kind": "stored", "value": body.pop("token")},
            ]
            body |= {"tokens": tokens, "payer": {"reference": order, "ip": "203.0.113.9"}}
        key = self._key()
        if self._visit is not None and self._random.random() < self._habits.payers:
            body |= {"token": self._random.choice(PAYER_TOKENS)}
            body.pop("tokens", None)
            body = self._with_tokens(body, payer_acts=True)
            paid = await self._pay_at_bank(origin, order, key, body)
        else:
            if self._random.random() < self._habits.partial:
                body |= {"token": PARTIAL_TOKEN, "allowPartial": True}
                body.pop("tokens", None)
            body = self._with_tokens(body, payer_acts=False)
            paid = await self._pay(origin, order, key, body)
        if paid.trusting:
            return  # to ask once more would bring back a command that was lost
        if self._random.random() < 0.15:
            await self._ask(origin, order, key, "/payments?mode=sync", body)
        if self._random.random() < 0.05:
            await self._ask(origin, order, key, "/payments?mode=sync", {**body, "amount": amount + 1})
        if self._random.random() < 0.05:
            await self._ask(origin, order + "-x", key, "/payments?mode=sync", {**body, "orderId": order + "-x"})
        if paid.last.status == 201:
            payment = str(paid.last.body["id"])
            approved = int(paid.last.body["authorizedAmount"]) or amount  # as it is now: it may be taken back
            await self._after(origin, order, payment, approved, captured=capture)
            if self._random.random() < self._habits.looks:
                told = frozenset({str(paid.last.body["operation"]["id"])}) | self._captures
                await self._client.look(payment, origin_id=origin, told=told)

    def _with_tokens(self, body: dict[str, Any], *, payer_acts: bool) -> dict[str, Any]:
        return with_tokens(body, self._random, payer_acts=payer_acts) if self._four else body

    def _token(self) -> str:
        if self._habits.awkward_tokens and self._random.random() < self._habits.awkward:
            return self._random.choice(self._habits.awkward_tokens)
        return self._random.choice(DECLINES) if self._random.random() < 0.1 else f"tok_{self._random.randrange(10**6)}"

    async def _pay(self, origin: str, order: str, key: str, body: dict[str, Any]) -> Request:
        """Open the payment, by the door and with the rival that chance decides."""
        request = self._client.wish(origin_id=origin, order_id=order, key=key, path="/payments?mode=sync", body=body)
        self.sent += 1
        asynchronous = self._random.random() < self._habits.asynchronous
        if await self._trusted(request):
            return request
        direct = self._random.random() < self._habits.direct
        rivals = [self._rival(origin, order, key, body)] if self._random.random() < self._habits.race else []
        if direct and self._append is not None:
            await self._append(request)
        await asyncio.gather(self._client.pursue(request, asynchronous_first=asynchronous), *rivals)
        return request

    async def _pay_at_bank(self, origin: str, order: str, key: str, body: dict[str, Any]) -> Request:
        """Open a payment whose payer has to act, and see it through."""
        assert self._visit is not None
        request = self._client.wish(origin_id=origin, order_id=order, key=key, path="/payments?mode=sync", body=body)
        self.sent += 1
        await self._client.pursue(request, to_payer=True)
        if not request.done:
            cashier = Cashier(self._client, request, visit=self._visit, chance=self._random, new_key=self._key)
            self.sent += await cashier.see_through()
        return request

    async def _trusted(self, request: Request) -> bool:
        """Perhaps have the command taken, once, and never ask what became of it; return whether it was so."""
        if self._append is not None and self._random.random() < self._habits.direct_only:
            request.trusting = True
            await self._append(request)
        elif self._random.random() < self._habits.trusting:
            request.trusting = True
            await self._client.pursue(request, asynchronous_first=True)
        return request.trusting

    async def _rival(self, origin: str, order: str, key: str, body: dict[str, Any]) -> None:
        """The same key at the same time: for the same wish, for another amount, or for another order."""
        kind = self._random.randrange(3)
        amount = int(body["amount"])
        other = order + "-x" if kind == 2 else order
        changed = {**body, "orderId": other, "amount": amount + 1 if kind == 1 else amount}
        await self._ask(origin, other, key, "/payments?mode=sync", changed)

    async def _after(self, origin: str, order: str, payment: str, amount: int, *, captured: bool) -> None:
        self._captures: frozenset[str] = frozenset()
        if not captured:
            if self._random.random() < 0.2:
                await self._ask(origin, order, self._key(), f"/payments/{payment}/void?mode=sync", {})
                return
            part = self._random.randrange(1, amount + 1)
            for some in {part, amount - part} - {0}:
                capture = await self._ask(
                    origin,
                    order,
                    self._key(),
                    f"/payments/{payment}/capture?mode=sync",
                    {"amount": some, "final": False},
                )
                if capture.last.status == 200:
                    self._captures |= {str(capture.last.body["operation"]["id"])}
        wishes = [self._random.randrange(1, amount + 1) for _ in range(self._random.randrange(3))]
        if self._habits.returns and self._random.random() < self._habits.returns:
            wishes += [self._random.randrange(1, 2 * amount // MANY_REFUNDS) for _ in range(MANY_REFUNDS)]
        await asyncio.gather(*(self._refund(origin, order, payment, wish) for wish in wishes))

    async def _refund(self, origin: str, order: str, payment: str, amount: int) -> None:
        body = {"paymentId": payment, "amount": amount}
        trusting = self._random.random() < self._habits.trusting
        self.sent += 1
        request = self._client.wish(
            origin_id=origin, order_id=order, key=self._key(), path="/refunds?mode=sync", body=body
        )
        request.trusting = trusting
        await self._client.pursue(request, asynchronous_first=trusting)

    async def _ask(self, origin: str, order: str, key: str, path: str, body: dict[str, Any]) -> Request:
        self.sent += 1
        return await self._client.ask(origin_id=origin, order_id=order, key=key, path=path, body=body)


async def run_workload(
    url: str, *, seed: int, clients: int, operations: int, run: str, origins: Sequence[str] = ("originA", "originB")
) -> History:
    """Run the workload to its end and return its history."""
    history = History()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(session, url, history)
        shoppers = [
            Shopper(client, seed=seed * 1000 + number, run=run, name=f"c{number}", origins=origins)
            for number in range(clients)
        ]
        await asyncio.gather(*(shopper.live(operations // clients) for shopper in shoppers))
    return history
