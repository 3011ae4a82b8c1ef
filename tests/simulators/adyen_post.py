"""The webhooks of the Adyen simulator: signed items, dated one after the other, delivered to whoever is to be told."""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import aiohttp

from gateway_adapters.adyen import signature, wire
from gateway_adapters.adyen.wire import Notification
from tests.simulators.adyen_ledger import Json, Word

HMAC_KEY: Final = "5A" * 32
MERCHANT_ACCOUNT: Final = "SimulatedMerchant"
DELAY_S: Final = 0.03
"""Between an answer and what is told later, and between two words."""

BATCH_S: Final = 0.1
DELIVERY_TIMEOUT_S: Final = 5.0
MAX_DELIVERIES: Final = 3


@dataclass(slots=True, kw_only=True)
class AdyenPost:
    """Delivers what happened. Whoever owns it closes it."""

    target: str | None = None  # where webhooks go; None: nowhere
    _batch: list[Json] = field(default_factory=list)
    _last_s: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def item(self, word: Word) -> Json:
        """Return the signed item that says this, dated after all before it."""
        self._last_s = max(self._last_s + 1, int(time.time()))
        at = datetime.fromtimestamp(self._last_s, UTC).astimezone(timezone(timedelta(hours=1)))
        return item_of(word, at)

    def tell_later(self, words: Sequence[Word]) -> None:
        """Tell each in a body of its own, one after the other."""
        self.send_later([[self.item(word)] for word in words])

    def send_later(self, bodies: Sequence[Sequence[Json]]) -> None:
        """Send these bodies, one after the other."""
        if bodies:
            self._run(self._send(bodies))

    def tell_in_batch(self, word: Word) -> None:
        """Tell it in one body with what comes soon after, and with items about others."""
        self._batch.append(self.item(word))
        if len(self._batch) == 1:
            self._run(self._deliver_batch())

    async def deliver(self, items: Sequence[Json]) -> None:
        """Post the items as one body until somebody takes it, a few times at most."""
        if self.target is None:
            return
        for _ in range(MAX_DELIVERIES):
            with suppress(aiohttp.ClientError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=DELIVERY_TIMEOUT_S)
                async with aiohttp.ClientSession(timeout=timeout) as session:
                    headers = {"Content-Type": "application/json"}
                    async with session.post(self.target, data=body_of(items), headers=headers) as response:
                        if response.ok:
                            return
            await asyncio.sleep(DELAY_S)

    async def close(self) -> None:
        """Deliver nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(self, bodies: Sequence[Sequence[Json]]) -> None:
        for items in bodies:
            await asyncio.sleep(DELAY_S)
            await self.deliver(items)

    async def _deliver_batch(self) -> None:
        await asyncio.sleep(BATCH_S)
        mine, self._batch = self._batch, []
        await self.deliver([*mine, *of_others()])

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def item_of(word: Word, at: datetime) -> Json:
    """Return the signed item that says this of that time."""
    original = {} if word.original is None else {"originalReference": word.original}
    return signed(
        {
            "pspReference": word.psp,
            **original,
            "merchantAccountCode": MERCHANT_ACCOUNT,
            "merchantReference": word.reference,
            "amount": {"currency": word.currency, "value": word.value},
            "eventCode": word.event,
            "eventDate": at.isoformat(),
            "success": "true" if word.success else "false",
            "reason": word.reason,
            "paymentMethod": "visa",
        }
    )


def signed(item: Json, *, secret: str = HMAC_KEY) -> Json:
    """Return the item with its signature."""
    read = wire.read(Notification, {"notificationItems": [{"NotificationRequestItem": item}]}).items[0]
    mac = signature.sign(signature.signed_text(read).encode(), secret=secret)
    return {**item, "additionalData": {**item.get("additionalData", {}), signature.ITEM_MEMBER: mac}}


def body_of(items: Sequence[Json]) -> bytes:
    """Return a standard webhook of these items."""
    wrapped = [{"NotificationRequestItem": item} for item in items]
    return json.dumps({"live": "false", "notificationItems": wrapped}).encode()


def of_others() -> list[Json]:
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
