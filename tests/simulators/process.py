"""What the three simulators have in common as processes: the clock of a call, the postman, and the control endpoint.

Started by `python -m tests.simulators`. A vendor's own rules stand in its module (`stripe_process`, …).

`POST /_control/rules` {situation, probability, seed}, `POST /_control/post` {delay_s, twice, shuffled},
`DELETE /_control` (all is as usual again), `POST /_control/payer` {reference, agreed} (a payer acts), and
`GET /_control/owed` (webhooks that nobody has taken yet).
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiohttp
import orjson
from aiohttp import web

from tests.simulators.book import UNTOLD, Book, Delivery
from tests.simulators.weather import Post, Rule, Weather
from tests.support.gateway_under_test import Situation

CONTROL: Final = "/_control"
DELIVERIES_AT_ONCE: Final = 8
LOOK_EVERY_S: Final = 0.05
DELIVERY_TIMEOUT_S: Final = 8.0
AGAIN_S: Final = (0.3, 5.0)
"""Until a webhook that nobody took comes again: doubled each time, up to that. Gateways wait for longer."""

Sign = Callable[[bytes], Mapping[str, str]]
"""Returns the headers of one try; of a gateway that signs each anew."""


class Clock:
    """Whole seconds since the epoch. Within a call each thing that happens has a second of its own."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._next = 0

    def begin(self) -> None:
        """Begin a call."""
        self._next = int(self._now_s())

    def tick(self) -> int:
        """Return the next second."""
        self._next += 1
        return self._next - 1


@dataclass(slots=True, kw_only=True)
class Desk:
    """What a process keeps and tells: the book, the weather, and the clock of the call under way."""

    book: Book
    weather: Weather = field(default_factory=Weather)
    clock: Clock = field(default_factory=Clock)
    _words: int = 0

    def begin(self) -> None:
        """Begin a call."""
        self.clock.begin()
        self._words = 0

    def tell(self, body: bytes, headers: Mapping[str, str] | None = None, *, at_once: bool = False) -> None:
        """Have it told, once or twice, soon or late, as the weather is."""
        now_ms = time.time_ns() // 1_000_000
        for delay_s in [0.0] if at_once else self.weather.delays_s(self._words):
            self.book.tell(body, headers or {}, due_ms=now_ms + round(delay_s * 1000))
        self._words += 1


class Postman:
    """Delivers what is due until somebody takes it."""

    def __init__(self, book: Book, url: str, *, sign: Sign = lambda _: {}) -> None:
        self._book = book
        self._url = url
        self._sign = sign
        self._under_way: set[int] = set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            while True:
                now_ms = time.time_ns() // 1_000_000
                room = DELIVERIES_AT_ONCE - len(self._under_way)
                for each in self._book.due(now_ms, most=DELIVERIES_AT_ONCE) if room else ():
                    if each.seq not in self._under_way and len(self._under_way) < DELIVERIES_AT_ONCE:
                        self._under_way.add(each.seq)
                        tasks.create_task(self._deliver(session, each))
                await asyncio.sleep(LOOK_EVERY_S)

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        headers = {"Content-Type": "application/json", **delivery.headers, **self._sign(delivery.body)}
        status: int | None = None
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
            async with session.post(self._url, data=delivery.body, headers=headers) as answer:
                status = answer.status
        pause_s = min(AGAIN_S[0] * 2 ** min(delivery.attempts, 10), AGAIN_S[1])
        again_ms = time.time_ns() // 1_000_000 + round(pause_s * 1000)
        self._book.delivered(delivery.seq, status, again_ms=again_ms)
        self._under_way.discard(delivery.seq)


class PayerActs(Protocol):
    """Lets the payer of what waits under this reference agree or refuse; returns what the payer brings back."""

    def __call__(self, reference: str, *, agreed: bool) -> Mapping[str, str]:
        """Raise KeyError when nothing waits there."""
        ...


def control_routes(desk: Desk, payer_acts: PayerActs) -> list[web.RouteDef]:
    """Return the routes of the control endpoint."""

    async def add_rule(request: web.Request) -> web.Response:
        said: dict[str, Any] = orjson.loads(await request.read())
        rule = Rule(
            situation=Situation(said["situation"]),
            probability=said["probability"],
            chance=random.Random(said["seed"]),
        )
        desk.weather.rules.append(rule)
        return web.Response(status=204)

    async def set_post(request: web.Request) -> web.Response:
        said: dict[str, Any] = orjson.loads(await request.read())
        desk.weather.post = Post(**{**said, "delay_s": tuple(said.get("delay_s", Post().delay_s))})
        return web.Response(status=204)

    async def clear(_: web.Request) -> web.Response:
        desk.weather.clear()
        return web.Response(status=204)

    async def payer(request: web.Request) -> web.Response:
        said: dict[str, Any] = orjson.loads(await request.read())
        desk.begin()
        try:
            brought = payer_acts(said["reference"], agreed=said["agreed"])
        except KeyError:
            return web.json_response({}, status=404)
        desk.book.commit()
        return web.json_response({"return_parameters": dict(brought)})

    return [
        web.post(f"{CONTROL}/rules", add_rule),
        web.post(f"{CONTROL}/post", set_post),
        web.post(f"{CONTROL}/payer", payer),
        web.delete(CONTROL, clear),
    ]


__all__ = ["CONTROL", "UNTOLD", "Clock", "Desk", "Postman", "Sign", "control_routes"]
