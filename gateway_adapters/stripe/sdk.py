"""The seam to Stripe's own library: it forms the requests, our transport sends them, and its exceptions stay here.

The library's aiohttp client waits 80 s, follows redirects, and lets exceptions of aiohttp through. So it is given an
`HTTPClient` over `http_transport`, which sends once, within its limits. What came back is kept beside the library: an
answer is translated from its own bytes, whatever class of exception the library makes of it (a 409 becomes a plain
`APIError`). `FOREIGN` names every exception class that it has all the same, and a test fails when it grows another one.

Nothing is said of us that is not needed: no telemetry, and no `X-Stripe-Client-User-Agent`, which names this host.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

import orjson
import stripe
from stripe import oauth_error

from gateway_adapters.errors import CallFailedError, InDoubtError, NotSentError, Signal
from gateway_adapters.http_transport import FORM_TYPE, Answer, HttpTransport
from schemas.misconfigured import MisconfiguredError

VERSION: Final = "2026-08-26.dahlia"
"""Of Stripe's API: what `wire` describes, and what webhook endpoints are to be made with."""

LIBRARY_LOG: Final = stripe._util  # noqa: SLF001 - where it keeps what the environment says about its log
FIRST_REFUSAL: Final = 300
UNSENT_HEADERS: Final = frozenset({"x-stripe-client-user-agent", "x-stripe-client-telemetry"})


class Verdict(Enum):
    """What an exception of the library says about the request."""

    ANSWERED = auto()  # Stripe's answer says it, and is translated
    UNSENT = auto()  # the library refused by itself, before anything was sent
    IN_DOUBT = auto()  # an answer that the library cannot read, or none


# Looked up along the class's bases, the nearest first.
FOREIGN: Final[Mapping[type[BaseException], Verdict]] = MappingProxyType(
    {
        stripe.StripeError: Verdict.IN_DOUBT,
        stripe.StripeErrorWithParamCode: Verdict.IN_DOUBT,
        stripe.APIConnectionError: Verdict.IN_DOUBT,
        stripe.SignatureVerificationError: Verdict.IN_DOUBT,  # of webhooks, which are verified here
        # By the status of an answer of API v1.
        stripe.APIError: Verdict.ANSWERED,
        stripe.AuthenticationError: Verdict.ANSWERED,
        stripe.CardError: Verdict.ANSWERED,
        stripe.IdempotencyError: Verdict.ANSWERED,
        stripe.InvalidRequestError: Verdict.ANSWERED,
        stripe.PermissionError: Verdict.ANSWERED,
        stripe.RateLimitError: Verdict.ANSWERED,
        # Where the `error` of an answer is a word, and no object.
        oauth_error.OAuthError: Verdict.ANSWERED,
        oauth_error.InvalidClientError: Verdict.ANSWERED,
        oauth_error.InvalidGrantError: Verdict.ANSWERED,
        oauth_error.InvalidRequestError: Verdict.ANSWERED,
        oauth_error.InvalidScopeError: Verdict.ANSWERED,
        oauth_error.UnsupportedGrantTypeError: Verdict.ANSWERED,
        oauth_error.UnsupportedResponseTypeError: Verdict.ANSWERED,
        # By the type of an error of API v2, which is not called here.
        stripe.AlreadyCanceledError: Verdict.ANSWERED,
        stripe.BlockedByStripeError: Verdict.ANSWERED,
        stripe.CannotProceedError: Verdict.ANSWERED,
        stripe.CapabilityNotEnabledError: Verdict.ANSWERED,
        stripe.ControlledByAlternateResourceError: Verdict.ANSWERED,
        stripe.FeatureNotEnabledError: Verdict.ANSWERED,
        stripe.FinancialAccountNotOpenError: Verdict.ANSWERED,
        stripe.FxQuoteNeedsRefreshError: Verdict.ANSWERED,
        stripe.InsufficientFundsError: Verdict.ANSWERED,
        stripe.InvalidPaymentMethodError: Verdict.ANSWERED,
        stripe.InvalidPayoutMethodError: Verdict.ANSWERED,
        stripe.InvalidVaultedCredentialError: Verdict.ANSWERED,
        stripe.NotCancelableError: Verdict.ANSWERED,
        stripe.QuotaExceededError: Verdict.ANSWERED,
        stripe.RecipientNotNotifiableError: Verdict.ANSWERED,
        stripe.TemporarySessionExpiredError: Verdict.ANSWERED,
        stripe.VerificationAttemptFailedError: Verdict.ANSWERED,
        stripe.VerificationExpiredError: Verdict.ANSWERED,
        stripe.VerificationNotInitiatedError: Verdict.ANSWERED,
    }
)


@dataclass(slots=True)
class Exchange:
    """What one call has come to so far."""

    sent: bool = False  # handed to the transport
    answer: Answer | None = None


_EXCHANGE: ContextVar[Exchange] = ContextVar("stripe_exchange")


def verdict_on(error: BaseException) -> Verdict:
    """Return what the exception says. What is in no table is in doubt: that is the safe side."""
    return next((FOREIGN[base] for base in type(error).__mro__ if base in FOREIGN), Verdict.IN_DOUBT)


class TransportClient(stripe.HTTPClient):
    """Sends what the library asks for over our transport: asynchronously, and once."""

    name = "payment-engine"

    def __init__(self, transport: HttpTransport, *, base_url: str) -> None:
        """`base_url`: what the library puts before its paths, and the transport too."""
        super().__init__()
        self._transport = transport
        self._base_url = base_url

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Return body, status and headers of Stripe's answer; of a success an empty object.

        The library makes objects of all that it is given, which costs more than the call, and nobody reads them here.

        Raises:
            CallFailedError: no answer came, or a refusal that the library cannot read.
        """
        exchange = _EXCHANGE.get()
        exchange.sent = True
        posts = method.lower() == "post"
        answer = await self._transport.send(
            "POST" if posts else "GET",
            url.removeprefix(self._base_url),
            headers={name: value for name, value in headers.items() if name.lower() not in UNSENT_HEADERS},
            body=(post_data or "").encode() if posts else None,
            content_type=FORM_TYPE,
        )
        exchange.answer = answer
        if answer.status < FIRST_REFUSAL:
            return b"{}", answer.status, answer.headers
        if not _is_readable(answer):
            raise InDoubtError(Signal.UNREADABLE, f"HTTP {answer.status}")  # the library would stumble over it
        return answer.body, answer.status, answer.headers


def opened(transport: HttpTransport, *, base_url: str, api_key: str) -> stripe.StripeClient:
    """Return the library's client for this account. Nothing is connected to yet.

    Raises:
        MisconfiguredError: the library is told by the environment to log what it sends.
    """
    stripe.enable_telemetry = False
    if getattr(LIBRARY_LOG, "STRIPE_LOG", None):  # it would write tokens to the standard error
        raise MisconfiguredError("STRIPE_LOG must not be set: it makes Stripe's library log what it sends")
    return stripe.StripeClient(
        api_key,
        stripe_version=VERSION,
        base_addresses={"api": base_url},
        max_network_retries=0,
        http_client=TransportClient(transport, base_url=base_url),
    )


async def answer_to(call: Callable[[], Awaitable[object]]) -> Answer:
    """Return Stripe's answer to what `call` asks the library for, whatever its status.

    Raises:
        NotSentError: the request cannot have reached Stripe.
        InDoubtError: it may have, and no whole answer came.
    """
    exchange = Exchange()
    token = _EXCHANGE.set(exchange)
    try:
        await call()
    except CallFailedError:
        if exchange.answer is None:
            raise
    except (stripe.StripeError, RecursionError) as error:  # it unfolds what is nested by calling itself
        if not exchange.sent:
            raise NotSentError(Signal.NOT_SENT, type(error).__name__) from error
        if exchange.answer is None or verdict_on(error) is not Verdict.ANSWERED:
            raise InDoubtError(Signal.UNREADABLE, type(error).__name__) from error
    finally:
        _EXCHANGE.reset(token)
    if exchange.answer is None:
        raise InDoubtError(Signal.UNREADABLE, "the library asked nothing of Stripe")
    return exchange.answer


def _is_readable(answer: Answer) -> bool:
    """Return whether the body has the shape that the library takes for granted."""
    try:
        body: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and isinstance(body.get("error", {}), dict)
