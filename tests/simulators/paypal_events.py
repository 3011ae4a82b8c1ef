"""The clock, the numbers and the webhooks of the simulator of PayPal: one event a webhook, in their order."""

import asyncio
import base64
import itertools
import json
import zlib
from datetime import UTC, datetime, timedelta

import aiohttp

from tests.simulators.paypal_objects import Json, time_text
from tests.support.webhook_certificates import SigningCertificate


class PayPalEvents:
    """Tells what happens, signed with a certificate of a test authority. Its clock takes a second for each thing."""

    def __init__(self, *, certificate: SigningCertificate, webhook_id: str, certificate_url: str) -> None:
        self.certificate = certificate
        self.webhook_id = webhook_id
        self.certificate_url = certificate_url
        self.webhook_url: str | None = None
        self._numbers = itertools.count(1)
        self._ahead_s = 0
        self._began = datetime.now(UTC).replace(microsecond=0)
        self._later: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):015d}"

    def now(self) -> datetime:
        self._ahead_s += 1
        return self._began + timedelta(seconds=self._ahead_s)

    def tell(self, event_type: str, resource_type: str, resource: Json, *, copies: int = 1) -> None:
        event = self.event(event_type, resource_type, resource)
        for _ in range(copies):
            self.post(event)

    def event(self, event_type: str, resource_type: str, resource: Json) -> bytes:
        event = {
            "id": self.new_id("WH-"),
            "event_version": "1.0",
            "create_time": time_text(self.now()),
            "resource_type": resource_type,
            "resource_version": "2.0",
            "event_type": event_type,
            "summary": "said by a test",
            "resource": resource,
            "links": [],
        }
        return json.dumps(event).encode()

    def post(self, body: bytes) -> None:
        if self.webhook_url is None:
            return
        before = tuple(self._later)  # in their order, one after the other
        task = asyncio.get_running_loop().create_task(self._delivered(self.webhook_url, body, before))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _delivered(self, url: str, body: bytes, before: tuple[asyncio.Task[None], ...]) -> None:
        if before:
            await asyncio.gather(*before)
        transmission, time = self.new_id("T"), time_text(datetime.now(UTC))
        text = f"{transmission}|{time}|{self.webhook_id}|{zlib.crc32(body)}".encode()
        headers = {
            "Content-Type": "application/json",
            "PAYPAL-TRANSMISSION-ID": transmission,
            "PAYPAL-TRANSMISSION-TIME": time,
            "PAYPAL-TRANSMISSION-SIG": base64.b64encode(self.certificate.sign(text)).decode(),
            "PAYPAL-CERT-URL": self.certificate_url,
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        }
        if self._client is None:
            self._client = aiohttp.ClientSession()
        async with self._client.post(url, data=body, headers=headers) as response:
            assert response.ok, await response.text()

    async def told(self) -> None:
        """Return once what was told so far has arrived: PayPal tells before it answers as often as after."""
        if self._later:
            await asyncio.gather(*self._later)

    async def close(self) -> None:
        await self.told()
        if self._client is not None:
            await self._client.close()
