"""Adyen's adapter: fulfils the port over HTTP. `translate` reads its answers, `webhooks` its notices."""

from gateway_adapters.adyen import signature, translate, wire
from gateway_adapters.adyen.spec import ACKNOWLEDGED, CAPABILITIES, AdyenAccount
from gateway_adapters.adyen.translate import IncompleteError, Merchant
from gateway_adapters.adyen.webhooks import AdyenTranslator, notices_of
from gateway_adapters.contract import (
    Acknowledgement,
    CallResult,
    Capabilities,
    CertificateFetcher,
    Gateway,
    GatewayNotice,
    RawHeaders,
)
from gateway_adapters.errors import CallFailedError, Signal, error_for
from gateway_adapters.http_transport import HttpTransport, TransportLimits
from schemas.identifiers import GatewayName
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import Outcome


class AdyenGateway(AdyenTranslator, Gateway):
    """The port, fulfilled by Adyen's Checkout API. Safe for any number of calls at once."""

    def __init__(self, account: AdyenAccount, limits: TransportLimits | None = None) -> None:
        """Build the adapter; nothing is sent yet.

        Args:
            account: credentials, merchant account and addresses. Without a webhook secret no webhook is authentic.
            limits: of the transport; None: the defaults.
        """
        self._secrets = account.webhook_secrets()
        self._credential = {wire.API_KEY_HEADER: account.api_key.get_secret_value()}
        self._merchant = Merchant(account=account.merchant_account, return_url=account.return_url)
        self._live = account.is_live()
        self._capabilities = account.narrowed(CAPABILITIES)
        self._transport = HttpTransport(base_url=account.base_url(), limits=limits or TransportLimits())

    @property
    def name(self) -> GatewayName:
        """The name policies and records know it by."""
        return translate.NAME

    @property
    def capabilities(self) -> Capabilities:
        """What it can do with this account."""
        return self._capabilities

    @property
    def acknowledgement(self) -> Acknowledgement:
        """The word that Adyen's queue waits for."""
        return ACKNOWLEDGED

    async def authorize(self, request: GatewayCallRequested) -> CallResult:
        """Hold an amount, whatever the account's own setting of captures."""
        return await self._post(request)

    async def sale(self, request: GatewayCallRequested) -> CallResult:
        """Hold an amount and let Adyen capture it at once."""
        return await self._post(request)

    async def capture(self, request: GatewayCallRequested) -> CallResult:
        """Ask to take some of what is held: PENDING until the webhook tells."""
        return await self._post(request)

    async def void(self, request: GatewayCallRequested) -> CallResult:
        """Ask to release all that is held: PENDING until the webhook tells. What was captured stays."""
        return await self._post(request)

    async def refund(self, request: GatewayCallRequested) -> CallResult:
        """Ask to give back some of what was taken: PENDING until the webhook tells."""
        return await self._post(request)

    async def complete(self, request: GatewayCallRequested) -> CallResult:
        """Go on with a payment whose payer has come back."""
        return await self._post(request)

    async def inquire(self, request: GatewayCallRequested) -> CallResult:  # noqa: ARG002 - the port's shape
        """Say that nobody can be asked: the same call with its key is the question (`Capabilities` say so)."""
        return CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.UNSUPPORTED))

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        """Return what the webhook says to this account: of other accounts' items, that they are about nobody of ours.

        Raises: UntranslatableError.
        """
        return notices_of(headers, body, merchant_account=self._merchant.account, live=self._live)

    async def verify_webhook(
        self,
        headers: RawHeaders,
        body: bytes,
        *,
        now_ms: int,  # noqa: ARG002 - Adyen signs no time
        certificates: CertificateFetcher,  # noqa: ARG002 - the port's shape
    ) -> None:
        """Return if these raw bytes are Adyen's own. Raises: UnauthenticError."""
        signature.verify(headers, body, secrets=self._secrets)

    async def close(self) -> None:
        """Let go of connections. Calling it twice is safe."""
        await self._transport.close()

    async def _post(self, request: GatewayCallRequested) -> CallResult:
        try:
            call = translate.call_of(request, self._merchant)
        except IncompleteError as error:
            return translate.not_sent(error)
        headers = {**self._credential, wire.KEY_HEADER: request.gateway_key}
        try:
            answer = await self._transport.send("POST", call.path, headers=headers, body=call.body)
        except CallFailedError as error:
            return translate.from_failure(error)
        return translate.from_answer(request, answer)
