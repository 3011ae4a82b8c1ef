"""PayPal's adapter: fulfils the port by calling Orders v2 and Payments v2. See `translate` for what the answers mean.

Each call is one request, with two exceptions. A call whose token is refused is sent once more with a new one, for
PayPal did nothing with the first. A completion looks at its order first, for nothing else tells whether it was to be
authorized or captured. A look changes nothing, so when it fails, nothing was sent.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import certifi

from gateway_adapters.contract import CallResult, Capabilities, CertificateFetcher, Gateway, RawHeaders
from gateway_adapters.errors import CallFailedError, error_for
from gateway_adapters.http_transport import JSON_TYPE, Answer, HttpTransport, TransportLimits
from gateway_adapters.paypal import requests, translate, wire
from gateway_adapters.paypal.access import AccessTokens, NoAccessError
from gateway_adapters.paypal.notices import PayPalTranslator
from gateway_adapters.paypal.requests import UnsendableError
from gateway_adapters.paypal.signature import Verifier, signer_of, store_of
from gateway_adapters.paypal.spec import CAPABILITIES, PayPalAccount
from gateway_adapters.paypal.verification import CallVerifier
from schemas.identifiers import GatewayName
from schemas.misconfigured import MisconfiguredError
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome

if TYPE_CHECKING:
    from cryptography.x509.verification import Store

HTTP_UNAUTHORIZED: Final = 401
WHOLE: Final = {"Prefer": "return=representation"}
"""Without it an answer holds neither amounts nor what was made."""


class PayPalGateway(PayPalTranslator, Gateway):
    """The port, fulfilled by PayPal. Safe for any number of calls at once."""

    def __init__(
        self,
        account: PayPalAccount,
        limits: TransportLimits | None = None,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Build the adapter; nothing is sent yet.

        Args:
            account: where PayPal is, whose credentials are used, and the ids of its webhooks. Without one of these, no
                webhook is authentic.
            limits: of the transport; None: the defaults.
            monotonic_s: a clock that never goes back, seconds: by it tokens end.

        Raises:
            MisconfiguredError: the file of roots cannot be read, or holds no certificates.
        """
        self._capabilities = account.narrowed(CAPABILITIES)
        self._transport = HttpTransport(base_url=account.url, limits=limits or TransportLimits())
        self._tokens = AccessTokens(
            self._transport,
            client_id=account.client_id,
            client_secret=account.client_secret,
            monotonic_s=monotonic_s,
        )
        webhook_ids, signer = account.webhook_secrets(), signer_of(account.url)
        self._verifier = Verifier(webhook_ids=webhook_ids, signer=signer, roots=_roots_of(account))
        self._by_call: CallVerifier | None = None
        if account.webhook_check == "call":
            self._by_call = CallVerifier(webhook_ids=webhook_ids, signer=signer, ask=self._asked_about_webhook)

    @property
    def name(self) -> GatewayName:
        """The name policies and records know it by."""
        return translate.NAME

    @property
    def capabilities(self) -> Capabilities:
        """What it can do with this account."""
        return self._capabilities

    async def authorize(self, request: GatewayCallRequested) -> CallResult:
        """Hold an amount: an order that is authorized with its token, or that waits for its payer's approval."""
        return await self._opened(request)

    async def sale(self, request: GatewayCallRequested) -> CallResult:
        """Take an amount: an order that is captured with its token, or that waits for its payer's approval."""
        return await self._opened(request)

    async def capture(self, request: GatewayCallRequested) -> CallResult:
        """Take some of what is held; `final` releases the rest."""
        path = wire.authorization_path(request.payment_reference or "", "/capture")
        return await self._effect(request, path, lambda: requests.capture_request(request).encoded())

    async def void(self, request: GatewayCallRequested) -> CallResult:
        """Release all that is held."""
        path = wire.authorization_path(request.payment_reference or "", "/void")
        return await self._effect(request, path, lambda: None, translate.from_void)

    async def refund(self, request: GatewayCallRequested) -> CallResult:
        """Give back some of what a capture took, which must be named."""
        if request.capture_reference is None:
            return translate.unsendable(request, "PayPal refunds captures, and none is named")
        path = wire.capture_path(request.capture_reference, "/refund")
        return await self._effect(request, path, lambda: requests.refund_request(request).encoded())

    async def complete(self, request: GatewayCallRequested) -> CallResult:
        """Authorize or capture an order that its payer has approved."""
        try:
            order_id = requests.order_to_complete(request)
            key = requests.request_id(request)
        except UnsendableError as error:
            return translate.unsendable(request, str(error))
        try:
            shown = await self._answered("GET", wire.order_path(order_id))
        except NoAccessError as error:
            return _without_access(error)
        except CallFailedError as error:
            return translate.unsent(translate.from_failure(request, error))
        order = translate.order_in(shown, order_id)
        if order is None:
            return translate.unlooked(request, shown)
        kind = requests.INTENTS[order.intent or ""]
        if order.status == translate.DONE:  # by an earlier completion: PayPal would refuse this one
            return translate.from_order(request, shown, kind)
        step: Literal["/authorize", "/capture"] = "/authorize" if kind is CallKind.AUTHORIZE else "/capture"
        return await self._exchange(
            request,
            wire.order_path(order_id, step),
            key,
            b"{}",
            lambda _, answer: translate.from_order(request, answer, kind),
        )

    async def inquire(self, request: GatewayCallRequested) -> CallResult:
        """Return what became of the operation whose id at PayPal is known."""
        try:
            answer = await self._answered("GET", _inquired_path(request))
        except CallFailedError as error:
            return translate.from_failure(request, error)
        except NoAccessError as error:
            return translate.as_inquiry(_without_access(error))
        return translate.from_inquiry(request, answer)

    async def verify_webhook(
        self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher
    ) -> None:
        """Return if these raw bytes are PayPal's own and fresh. Raises: UnauthenticError, UnverifiableError."""
        if self._by_call is not None:
            await self._by_call.verify(headers, body, now_ms=now_ms)
        else:
            await self._verifier.verify(headers, body, now_ms=now_ms, certificates=certificates)

    async def close(self) -> None:
        """Let go of connections. Calling it twice is safe."""
        self._tokens.close()
        await self._transport.close()

    async def _asked_about_webhook(self, body: bytes) -> Answer:
        return await self._answered("POST", wire.VERIFICATION_PATH, body=body)

    async def _opened(self, request: GatewayCallRequested) -> CallResult:
        return await self._effect(
            request,
            wire.ORDERS_PATH,
            lambda: requests.order_request(request).encoded(),
            lambda _, answer: translate.from_order(request, answer, request.kind),
        )

    async def _effect(
        self,
        request: GatewayCallRequested,
        path: str,
        body: Callable[[], bytes | None],
        read: Callable[[GatewayCallRequested, Answer], CallResult] = translate.from_made,
    ) -> CallResult:
        try:
            key, sent = requests.request_id(request), body()
        except UnsendableError as error:
            return translate.unsendable(request, str(error))
        return await self._exchange(request, path, key, sent, read)

    async def _exchange(
        self,
        request: GatewayCallRequested,
        path: str,
        key: str,
        body: bytes | None,
        read: Callable[[GatewayCallRequested, Answer], CallResult],
    ) -> CallResult:
        try:
            answer = await self._answered("POST", path, key=key, body=body)
        except CallFailedError as error:
            return translate.from_failure(request, error)
        except NoAccessError as error:
            return _without_access(error)
        return read(request, answer)

    async def _answered(
        self, method: Literal["GET", "POST"], path: str, *, key: str | None = None, body: bytes | None = None
    ) -> Answer:
        """Return the answer, to the second copy where the first one's token was refused.

        Raises:
            CallFailedError: the exchange broke.
            NoAccessError: there is no token, so nothing was sent.
        """
        token = await self._tokens.value()
        answer = await self._send_with(token, method, path, key, body)
        if answer.status == HTTP_UNAUTHORIZED:
            token = await self._tokens.another(token)
            answer = await self._send_with(token, method, path, key, body)
        return answer

    async def _send_with(
        self, token: str, method: Literal["GET", "POST"], path: str, key: str | None, body: bytes | None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}"}
        if key is not None:
            # A void has no body, and is refused without the type of one.
            headers |= {wire.REQUEST_ID_HEADER: key, "Content-Type": JSON_TYPE, **WHOLE}
        return await self._transport.send(method, path, headers=headers, body=body)


def _roots_of(account: PayPalAccount) -> "Store":
    """Return who may vouch for webhooks. Raises: MisconfiguredError."""
    try:
        return store_of(Path(account.webhook_roots or certifi.where()).read_bytes())
    except (OSError, ValueError) as error:
        raise MisconfiguredError(f"webhook_roots of an account at PayPal: {error}") from error


def _inquired_path(request: GatewayCallRequested) -> str:
    reference = request.own_reference or ""
    match request.inquired_kind:
        case CallKind.COMPLETE:
            return wire.order_path(reference)
        case CallKind.AUTHORIZE | CallKind.VOID:
            return wire.authorization_path(reference)
        case CallKind.REFUND:
            return wire.refund_path(reference)
        case _:
            return wire.capture_path(reference)


def _without_access(error: NoAccessError) -> CallResult:
    problem = error_for(error.signal, detail="no access token", retry_after_ms=error.retry_after_ms)
    return CallResult(outcome=Outcome.NOT_EXECUTED, error=problem)
