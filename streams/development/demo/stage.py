"""What a scene of the tour can do, and how each act becomes a moment of the timeline.

Called by `script`. Calls the ingress over HTTP as any merchant would, and `log_desk`. An expectation that is not met
becomes a fault of the scene; the tour goes on, so that one look shows everything that is wrong.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from schemas import money
from schemas.identifiers import PAYMENT_PREFIX, OrderId, OriginId
from streams.development.demo.casts import Cast
from streams.development.demo.log_desk import LogDesk, now_ms
from streams.development.demo.scenes import Answer, Expected, Moment, Scene, Speaker
from streams.development.demo.words import answer_words, entry_title, entry_words
from streams.operator_tools.dead_letters import Letter
from streams.operator_tools.timelines import Entry

ORIGIN = OriginId("demo-shop")
REQUEST_TIMEOUT_S = 15.0
WAIT_LIMIT_S = 20.0
POLL_S = 0.1


@dataclass(slots=True, kw_only=True)
class Shared:
    """What the scenes of one tour share."""

    session: aiohttp.ClientSession
    url: str
    desk: LogDesk
    cast: Cast
    began_ms: int
    payments: dict[OrderId, str] = field(default_factory=dict)
    shown: set[tuple[str, int, int]] = field(default_factory=set)  # records that an earlier moment told of


class Stage:
    """One scene under way."""

    def __init__(self, shared: Shared, scene: Scene) -> None:
        self._shared = shared
        self._scene = scene

    def payment_of(self, order: OrderId) -> str:
        """Return the id of the payment that an earlier scene made. Raises: KeyError when it did not."""
        return self._shared.payments[order]

    @property
    def cast(self) -> Cast:
        """What the gateway of this tour knows."""
        return self._shared.cast

    @property
    def desk(self) -> LogDesk:
        """The log."""
        return self._shared.desk

    def act(self, what: str, details: str = "") -> None:
        """Tell of something done by hand."""
        self._scene.moments.append(Moment(at_ms=now_ms(), speaker=Speaker.YOU, what=what, details=details))

    async def pay(
        self, order: OrderId, *, key: str, amount: int, token: str | None = None, capture: bool = True,
        mode: str = "sync", expect: Expected,
    ) -> Answer:  # fmt: skip
        """Open the order's payment and remember its id. Without a token it is by one that simply works."""
        token = token or self.cast.token
        body = {
            "originId": ORIGIN, "orderId": order, "amount": amount, "currency": "USD", "token": token,
            "capture": capture,
        }  # fmt: skip
        wish = f"{money.display(amount, 'USD')} {token} capture={str(capture).lower()} order={order} key={key}"
        answer = await self.ask(f"/payments?mode={mode}", key=key, body=body, wish=wish, expect=expect)
        if isinstance(answer.said("id"), str):
            self._shared.payments.setdefault(order, str(answer.said("id")))
        return answer

    async def ask(self, path: str, *, key: str, body: Mapping[str, object], wish: str, expect: Expected) -> Answer:
        """Send one request and hold the answer to what is expected."""
        self.act(f"POST {_short(path)}", wish)
        async with self._shared.session.post(
            self._shared.url + path,
            json=body,
            headers={"Idempotency-Key": key, "X-Origin-Id": ORIGIN},
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        ) as response:
            answer = await _answer_of(response)
        self._judge(answer, expect)
        return answer

    async def read_until(self, order: OrderId, *, expect: Expected) -> None:
        """Read the order's payment until it is as expected, or the limit is over."""
        path = f"/payments/{self.payment_of(order)}"
        self.act(f"GET {_short(path)}", "until it is as expected")
        answer: Answer | None = None
        deadline_s = _clock_s() + WAIT_LIMIT_S
        while answer is None or (expect.faults(answer) and _clock_s() < deadline_s):
            if answer is not None:
                await asyncio.sleep(POLL_S)
            async with self._shared.session.get(
                self._shared.url + path,
                headers={"X-Origin-Id": ORIGIN},
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            ) as response:
                answer = await _answer_of(response)
        self._judge(answer, expect)

    def _judge(self, answer: Answer, expect: Expected) -> None:
        faults = expect.faults(answer)
        self._scene.faults += faults
        self._scene.moments.append(
            Moment(
                at_ms=now_ms(),
                speaker=Speaker.ENGINE,
                what=str(answer.status),
                details=answer_words(answer),
                as_expected=not faults,
            )
        )

    async def follow(self, order: OrderId, *, until: Sequence[str]) -> None:
        """Tell what the log has new of the order, once it has new records of these types (one named twice: two)."""
        deadline_s = _clock_s() + WAIT_LIMIT_S
        while True:  # bounded by deadline_s
            life = await self.desk.life_of(ORIGIN, order, since_ms=self._shared.began_ms)
            new = [entry for entry in life if _place(entry) not in self._shared.shown]
            missing = Counter(until) - Counter(entry.event_type for entry in new)
            if not missing or _clock_s() >= deadline_s:
                break
            await asyncio.sleep(POLL_S)
        self._scene.faults += [f"the log has no {each} of {order}" for each in sorted(missing)]
        self._shared.shown |= {_place(entry) for entry in new}
        self._scene.moments += [
            Moment(at_ms=entry.at_ms, speaker=Speaker.LOG, what=entry_title(entry), details=entry_words(entry))
            for entry in new
        ]

    async def letters_when(
        self, order: OrderId, wanted: Callable[[tuple[Letter, ...]], bool], what: str
    ) -> tuple[Letter, ...]:
        """Return the order's dead letters once they are as wanted, or at the limit, then with a fault."""
        deadline_s = _clock_s() + WAIT_LIMIT_S
        while not wanted(letters := await self.desk.letters_of(order)):
            if _clock_s() >= deadline_s:
                self._scene.faults.append(f"dead letters of {order}: never {what}")
                break
            await asyncio.sleep(POLL_S)
        return letters

    def require(self, holds: bool, fault: str) -> None:
        """Note the fault unless it holds."""
        if not holds:
            self._scene.faults.append(fault)


def _place(entry: Entry) -> tuple[str, int, int]:
    return entry.topic, entry.partition, entry.offset


def _clock_s() -> float:
    return asyncio.get_running_loop().time()


def _short(path: str) -> str:
    """Return the path with the payment's id shortened, to fit a line."""
    parts = path.split("/")
    return "/".join(f"{part[:14]}…" if part.startswith(PAYMENT_PREFIX) else part for part in parts)


async def _answer_of(response: aiohttp.ClientResponse) -> Answer:
    return Answer(
        status=response.status,
        body=await response.json(content_type=None),
        replayed=response.headers.get("Idempotent-Replayed") == "true",
    )
