"""Payments at a steady rate over all partitions, and when each was answered: what gaps of service are read from."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import aiohttp

from tests.faults.figures.report import Report
from tests.faults.figures.stage import PARTITIONS, Stage
from tests.support.checker import violations
from tests.support.evidence import EvidenceGatherer
from tests.support.waiting import until
from tests.support.workload import Client, Habits, History

ORIGIN = "originA"
CREATED = 201
ANSWERED_TIMEOUT_S = 120.0
"""After the load's end, for the last of its answers."""

STUBBORN = Habits(tries=2_000)
"""A merchant who does not give up while the scenario lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One payment that came to its end."""

    order_id: str
    key: str
    sent_s: float
    answered_s: float
    status: int


PartitionOf = Callable[[Served], int]


class SteadyLoad:
    """Sends by the clock, whether answers have come or not."""

    def __init__(
        self,
        stage: Stage,
        *,
        per_second: float,
        mode: Literal["sync", "async"] = "sync",
        habits: Habits = STUBBORN,
    ) -> None:
        self.run = f"f{uuid.uuid4().hex[:8]}"
        self.history = History()
        self.served: list[Served] = []
        self._stage = stage
        self._per_second = per_second
        self._asynchronous = mode == "async"
        self._habits = habits
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def order_partition(self, payment: Served) -> int:
        """Where its order lives."""
        return self._stage.partition_of(payment.order_id)

    def claim_partition(self, payment: Served) -> int:
        """Where its idempotency key lives."""
        return self._stage.partition_of(f"{ORIGIN}|{payment.key}")

    def now(self) -> float:
        """The clock of all times here."""
        return self._loop.time()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load flows while the body runs; at its end every answer is waited for."""
        sending = asyncio.create_task(self._send())
        try:
            yield
        finally:
            self._stopping.set()
            await asyncio.wait_for(sending, ANSWERED_TIMEOUT_S)

    async def _send(self) -> None:
        began = self.now()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            client = Client(session, self._stage.engine.url, self.history, self._habits)
            async with asyncio.TaskGroup() as group:
                number = 0
                while not self._stopping.is_set():
                    group.create_task(self._pay(client, f"{self.run}-{number}"))
                    number += 1
                    await asyncio.sleep(max(0.0, began + number / self._per_second - self.now()))  # the pace

    async def _pay(self, client: Client, order_id: str) -> None:
        body = {
            "originId": ORIGIN, "orderId": order_id, "amount": 1999, "currency": "USD", "token": "tok_visa",
            "capture": True,
        }  # fmt: skip
        request = client.wish(
            origin_id=ORIGIN, order_id=order_id, key=f"k-{order_id}", path="/payments?mode=sync", body=body
        )
        sent_s = self.now()
        await client.pursue(request, asynchronous_first=self._asynchronous)
        self.served.append(
            Served(
                order_id=order_id,
                key=request.key,
                sent_s=sent_s,
                answered_s=self.now(),
                status=request.last.status,
            )
        )

    async def flowing(self, partition_of: PartitionOf, *, since_s: float, timeout_s: float) -> dict[int, float]:
        """Wait until each partition has served a payment that was sent after this time.

        Returns: for each partition, how many seconds after that time the first one was answered.
        """

        def first_answers() -> dict[int, float]:
            found: dict[int, float] = {}
            for payment in self.served:
                if payment.sent_s >= since_s and payment.status == CREATED:
                    found.setdefault(partition_of(payment), payment.answered_s - since_s)
            return found

        await until(lambda: len(first_answers()) == PARTITIONS, timeout_s=timeout_s)
        return first_answers()

    def gaps(self, partition_of: PartitionOf, *, since_s: float) -> dict[int, float]:
        """The longest time between two answers of each partition, of those that ended after this time."""
        answered: defaultdict[int, list[float]] = defaultdict(list)
        for payment in self.served:
            if payment.status == CREATED:
                answered[partition_of(payment)].append(payment.answered_s)
        return {number: _longest_gap(sorted(times), since_s) for number, times in answered.items()}

    async def nothing_lost(self, report: Report) -> None:
        """Check every payment of the load against the ledger, the events and the rows."""
        evidence = await EvidenceGatherer(self._stage.engine, run=self.run).when_settled(self.history)
        report.say(f"payments sent: {len(self.history.requests)}")
        report.none_of("payments lost, doubled or contradicted", violations(evidence))


def _longest_gap(times: list[float], since_s: float) -> float:
    return max((after - before for before, after in pairwise(times) if after > since_s), default=float("inf"))
