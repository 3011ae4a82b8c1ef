"""Stripe's adapter: fulfils the port by its official library. See `translate` for what its answers mean."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from gateway_adapters.contract import CallResult, Capabilities, CertificateFetcher, Gateway, RawHeaders
from gateway_adapters.errors import CallFailedError, Signal, UnauthenticError, error_for
from gateway_adapters.http_transport import Answer, HttpTransport, TransportLimits
from gateway_adapters.stripe import requests, sdk, signature, translate, wire
from gateway_adapters.stripe.amounts import UncountableError
from gateway_adapters.stripe.spec import CAPABILITIES, StripeAccount
from gateway_adapters.stripe.webhooks import StripeTranslator
from gateway_adapters.stripe.wire import WireError
from schemas.identifiers import GatewayName
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome

if TYPE_CHECKING:
    from stripe import RequestOptions
    from stripe.params import (
        PaymentIntentCaptureParams,
        PaymentIntentCreateParams,
        RefundCreateParams,
        RefundListParams,
    )

FOUND: Final = 10
"""Most payments that a search for one attempt's key brings; there is one, or none."""

REFUNDS_A_PAGE: Final = 100
"""As many as Stripe lists at once."""

MAX_REFUND_PAGES: Final = 5
"""Looks at a payment's refunds: Stripe itself takes no more than a few hundred of one payment."""

_UNSEARCHABLE: Final = frozenset({400, 404})
"""How a search is refused where there is none, as for merchants in India."""


_UNPROVEN: Final = CallResult(outcome=Outcome.UNKNOWN, error=error_for(Signal.INQUIRY_PROVED_NOTHING))
"""There is more to look through than is looked through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What a look into a list has brought: one of them, never both."""

    found: str | None = None  # id of the object
    after: str | None = None  # id after which the list goes on


class StripeGateway(StripeTranslator, Gateway):
    """The port, fulfilled by Stripe. Safe for any number of calls at once."""

    def __init__(self, account: StripeAccount, limits: TransportLimits | None = None) -> None:
        """Build the adapter; nothing is sent yet.

        Args:
            account: the credential, and the secrets of its webhooks. Without one, no webhook is authentic.
            limits: of the transport; None: the defaults.

        Raises:
            MisconfiguredError: the library would log what it sends.
        """
        self._secrets = account.webhook_secrets()
        self._live = _mode_of(account.api_key.get_secret_value())
        self._capabilities = account.narrowed(CAPABILITIES)
        self._multicapture = self._capabilities.multiple_capture
        self._transport = HttpTransport(base_url=account.url, limits=limits or TransportLimits())
        client = sdk.opened(self._transport, base_url=account.url, api_key=account.api_key.get_secret_value())
        self._payments, self._refunds = client.v1.payment_intents, client.v1.refunds

    @property
    def name(self) -> GatewayName:
        """The name policies and records know it by."""
        return translate.NAME

    @property
    def capabilities(self) -> Capabilities:
        """What it can do with this account."""
        return self._capabilities

    async def authorize(self, request: GatewayCallRequested) -> CallResult:
        """Hold an amount: a payment intent that is confirmed at once, and captured by a call of its own."""
        return await self._create(request)

    async def sale(self, request: GatewayCallRequested) -> CallResult:
        """Take an amount at once: a payment intent that is confirmed and captured."""
        return await self._create(request)

    async def capture(self, request: GatewayCallRequested) -> CallResult:
        """Take some of what is held. Without multicapture Stripe lets the rest go with any capture."""
        try:
            params = cast("PaymentIntentCaptureParams", requests.capture(request, multicapture=self._multicapture))
        except UncountableError as error:
            return translate.uncountable(error)
        reference, options = request.payment_reference or "", _options(request)
        return await self._made(request, lambda: self._payments.capture_async(reference, params, options))

    async def void(self, request: GatewayCallRequested) -> CallResult:
        """Release all that is held, or what waits for its payer."""
        reference, options = request.payment_reference or "", _options(request)
        return await self._made(
            request, lambda: self._payments.cancel_async(reference, {"expand": ["latest_charge"]}, options)
        )

    async def refund(self, request: GatewayCallRequested) -> CallResult:
        """Give back some of what was taken."""
        try:
            params = cast("RefundCreateParams", requests.refund(request))
        except UncountableError as error:
            return translate.uncountable(error)
        return await self._made(request, lambda: self._refunds.create_async(params, _options(request)))

    async def complete(self, request: GatewayCallRequested) -> CallResult:
        """Look at the payment: Stripe completes it by itself once its payer has agreed."""
        return await self._retrieved(request, request.payment_reference or "")

    async def inquire(self, request: GatewayCallRequested) -> CallResult:
        """Return what became of the operation.

        A payment is known by its reference, or else is searched for by its attempt's key: found, it is looked at; not
        found, nothing is proved, for what was made a minute ago may not be there yet. Captures and voids stand in
        their payment, refunds in its list, both of which Stripe shows as they are.
        """
        match request.inquired_kind:
            case CallKind.REFUND:
                return await self._find_refund(request)
            case CallKind.AUTHORIZE | CallKind.SALE:
                reference = request.own_reference
                return await (self._retrieved(request, reference) if reference else self._find_payment(request))
            case _:
                return await self._retrieved(request, request.payment_reference or "")

    async def verify_webhook(
        self,
        headers: RawHeaders,
        body: bytes,
        *,
        now_ms: int,
        certificates: CertificateFetcher,  # noqa: ARG002 - the port's shape
    ) -> None:
        """Return if these raw bytes are Stripe's own and fresh. Raises: UnauthenticError."""
        signature.verify(headers.get(signature.HEADER), body, secrets=self._secrets, now_s=now_ms // 1000)
        if self._live is not None and wire.is_live(body) not in {None, self._live}:
            raise UnauthenticError("an event of Stripe's other mode: the key and the secret are of two modes")

    async def close(self) -> None:
        """Let go of connections. Calling it twice is safe."""
        await self._transport.close()

    async def _create(self, request: GatewayCallRequested) -> CallResult:
        try:
            params = cast("PaymentIntentCreateParams", requests.creation(request, multicapture=self._multicapture))
        except UncountableError as error:
            return translate.uncountable(error)
        return await self._made(request, lambda: self._payments.create_async(params, _options(request)))

    async def _retrieved(self, request: GatewayCallRequested, reference: str) -> CallResult:
        return await self._made(
            request, lambda: self._payments.retrieve_async(reference, {"expand": ["latest_charge"]})
        )

    async def _find_payment(self, request: GatewayCallRequested) -> CallResult:
        look = await self._look(
            request,
            lambda: self._payments.search_async({"query": requests.search(request), "limit": FOUND}),
            refused_when=_UNSEARCHABLE,
        )
        if isinstance(look, CallResult):
            return look
        if look.found is None:
            return _UNPROVEN
        return await self._retrieved(request, look.found)  # what a search brings may be a minute old

    async def _find_refund(self, request: GatewayCallRequested) -> CallResult:
        look = _Look(found=request.own_reference)
        for _ in range(MAX_REFUND_PAGES):
            if look.found is not None:
                break
            params: RefundListParams = {"payment_intent": request.payment_reference or "", "limit": REFUNDS_A_PAGE}
            if look.after is not None:
                params["starting_after"] = look.after
            page = await self._look(request, partial(self._refunds.list_async, params), nothing_is_proof=True)
            if isinstance(page, CallResult):
                return page
            look = page
        if look.found is None:
            return _UNPROVEN
        return await self._made(request, partial(self._refunds.retrieve_async, look.found))

    async def _look(
        self,
        request: GatewayCallRequested,
        call: Callable[[], Awaitable[object]],
        *,
        nothing_is_proof: bool = False,
        refused_when: frozenset[int] = frozenset(),
    ) -> "_Look | CallResult":
        """Return what a list has of the operation, or after which object it goes on; else what the look comes to."""
        try:
            answer = await sdk.answer_to(call)
            if answer.status in refused_when:
                return translate.failed(request, answer, Signal.INQUIRY_PROVED_NOTHING)
            if answer.status != translate.HTTP_OK:
                return translate.from_answer(request, answer)
            found, after = translate.found_in(request, answer)
        except CallFailedError as error:
            return translate.from_failure(request, error)
        except WireError:
            return translate.failed(request, answer, Signal.UNREADABLE)
        if found is None and after is None:
            signal = Signal.INQUIRY_FOUND_NOTHING if nothing_is_proof else Signal.INQUIRY_PROVED_NOTHING
            return translate.failed(request, answer, signal)
        return _Look(found=found, after=after)

    async def _made(self, request: GatewayCallRequested, call: Callable[[], Awaitable[object]]) -> CallResult:
        try:
            answer: Answer = await sdk.answer_to(call)
        except CallFailedError as error:
            return translate.from_failure(request, error)
        return translate.from_answer(request, answer)


def _mode_of(api_key: str) -> bool | None:
    """Return whether the key moves money; None: it does not say."""
    kind = api_key.partition("_")[2]
    return True if kind.startswith("live_") else False if kind.startswith("test_") else None


def _options(request: GatewayCallRequested) -> "RequestOptions":
    return {"idempotency_key": request.gateway_key}
