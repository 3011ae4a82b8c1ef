"""The Mock's adapter: fulfils the port by calling the Mock's server. See `translate` for what its answers mean."""

from typing import Final
from urllib.parse import quote

from gateway_adapters.contract import CallResult, Capabilities, CertificateFetcher, Gateway, RawHeaders
from gateway_adapters.errors import CallFailedError, UnauthenticError
from gateway_adapters.http_transport import HttpTransport, TransportLimits
from gateway_adapters.mock import signature, translate, wire
from gateway_adapters.mock.spec import CAPABILITIES, MockAccount
from schemas.identifiers import GatewayName
from schemas.records.gateway import GatewayCallRequested

WEBHOOK_TOLERANCE_S: Final = 300
"""Stripe's default; bounds for how long a caught webhook can be sent again."""


class MockGateway(translate.MockTranslator, Gateway):
    """The port, fulfilled by the Mock's server. Safe for any number of calls at once."""

    def __init__(self, account: MockAccount, limits: TransportLimits | None = None) -> None:
        """Build the adapter; nothing is sent yet.

        Args:
            account: where the Mock is, and the secrets of its webhooks. Without one, no webhook is authentic.
            limits: of the transport; None: the defaults.
        """
        self._secrets = account.webhook_secrets()
        key = account.api_key
        self._credential = {} if key is None else {wire.ACCOUNT_HEADER: f"Bearer {key.get_secret_value()}"}
        self._capabilities = account.narrowed(CAPABILITIES)
        self._transport = HttpTransport(base_url=account.url, limits=limits or TransportLimits())

    @property
    def name(self) -> GatewayName:
        """The name policies and records know it by."""
        return translate.NAME

    @property
    def capabilities(self) -> Capabilities:
        """What it can do with this account."""
        return self._capabilities

    async def authorize(self, request: GatewayCallRequested) -> CallResult:
        """Hold an amount."""
        return await self._post(request)

    async def sale(self, request: GatewayCallRequested) -> CallResult:
        """Hold an amount and capture it at once."""
        return await self._post(request)

    async def capture(self, request: GatewayCallRequested) -> CallResult:
        """Take some of what is held; `final` releases the rest."""
        return await self._post(request)

    async def void(self, request: GatewayCallRequested) -> CallResult:
        """Release all that is held."""
        return await self._post(request)

    async def refund(self, request: GatewayCallRequested) -> CallResult:
        """Give back some of what was taken."""
        return await self._post(request)

    async def complete(self, request: GatewayCallRequested) -> CallResult:
        """Go on with a payment whose payer has come back."""
        completion = translate.to_completion(request)
        path = wire.call_path(request.kind, quote(completion.payment, safe=""))
        return await self._send(request, path, wire.encode_completion(completion))

    async def inquire(self, request: GatewayCallRequested) -> CallResult:
        """Return what became of the operation with this key or reference."""
        try:
            answer = await self._transport.send("GET", translate.inquiry_path(request), headers=self._credential)
        except CallFailedError as error:
            return translate.from_failure(request, error)
        return translate.from_inquiry(request, answer)

    async def verify_webhook(
        self,
        headers: RawHeaders,
        body: bytes,
        *,
        now_ms: int,
        certificates: CertificateFetcher,  # noqa: ARG002 - the port's shape
    ) -> None:
        """Return if these raw bytes are the Mock's own and fresh. Raises: UnauthenticError."""
        header = headers.get(wire.SIGNATURE_HEADER.lower())
        if header is None:
            raise UnauthenticError("signature header is missing")
        signature.verify(
            header,
            body,
            secrets=self._secrets,
            now_s=now_ms // 1000,
            tolerance_s=WEBHOOK_TOLERANCE_S,
        )

    async def close(self) -> None:
        """Let go of connections. Calling it twice is safe."""
        await self._transport.close()

    async def _post(self, request: GatewayCallRequested) -> CallResult:
        call = translate.to_call(request)
        return await self._send(request, translate.posted_path(call), wire.encode_call(call))

    async def _send(self, request: GatewayCallRequested, path: str, body: bytes) -> CallResult:
        headers = {**self._credential, wire.KEY_HEADER: request.gateway_key}
        try:
            answer = await self._transport.send("POST", path, headers=headers, body=body)
        except CallFailedError as error:
            return translate.from_failure(request, error)
        return translate.from_answer(request, answer)
