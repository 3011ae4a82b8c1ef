"""The access token that each call to PayPal carries: asked for once, shared by all, renewed before it ends.

Called by `client` before each call, and after PayPal has refused a token. However many calls wait, one request is under
way: fifty at once of PayPal's own SDK made forty-seven. Nothing here logs, and no exception holds a token or a secret.
"""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pydantic import SecretStr

from gateway_adapters.errors import CallFailedError, Signal
from gateway_adapters.http_transport import FORM_TYPE, Answer, HttpTransport
from gateway_adapters.paypal import wire

RENEW_BEFORE_S: Final = 300.0
"""How long before its end a token is renewed; PayPal's live for some nine hours."""
MAX_SHARE_UNUSED: Final = 0.1
"""Of a short life, how much is not used."""

_BODY: Final = b"grant_type=client_credentials"
_OK: Final = 200


class NoAccessError(Exception):
    """PayPal gave no token, so nothing of the call was sent.

    Attributes:
        signal: what was seen of the request for a token: credentials refused, throttled, or anything else.
        retry_after_ms: how long PayPal asks to wait.
    """

    def __init__(self, signal: Signal, *, retry_after_ms: int | None = None) -> None:
        super().__init__(f"no access token: {signal.value}")
        self.signal = signal
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    until_s: float = 0.0  # by the monotonic clock; from then on it is renewed


class AccessTokens:
    """The tokens of one account. Safe for any number of calls at once."""

    def __init__(
        self,
        transport: HttpTransport,
        *,
        client_id: str,
        client_secret: SecretStr,
        monotonic_s: Callable[[], float],
    ) -> None:
        """`monotonic_s`: a clock that never goes back, seconds. Nothing is sent yet."""
        self._transport = transport
        self._client_id = client_id
        self._client_secret = client_secret
        self._monotonic_s = monotonic_s
        self._token: _Token | None = None
        self._under_way: asyncio.Task[_Token] | None = None

    async def value(self) -> str:
        """Return a token that is good for some time yet. Raises: NoAccessError."""
        token = self._token
        if token is None or self._monotonic_s() >= token.until_s:
            token = await self._renewed()
        return token.value

    async def another(self, refused: str) -> str:
        """Return a token other than this one, which PayPal has refused. Raises: NoAccessError."""
        if self._token is not None and self._token.value == refused:
            self._token = None
        return await self.value()

    def close(self) -> None:
        """End what is under way. Calling it twice is safe."""
        if self._under_way is not None:
            self._under_way.cancel()

    async def _renewed(self) -> _Token:
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._asked_for())
            self._under_way.add_done_callback(self._ended)
        return await asyncio.shield(self._under_way)  # one call's end must not end the request for the others

    def _ended(self, ended: asyncio.Task[_Token]) -> None:
        self._under_way = None
        if not ended.cancelled():
            ended.exception()  # whoever waits raises it; when nobody waits any more, asyncio would complain

    async def _asked_for(self) -> _Token:
        asked_at_s = self._monotonic_s()
        pair = f"{self._client_id}:{self._client_secret.get_secret_value()}".encode()
        try:
            answer = await self._transport.send(
                "POST",
                wire.TOKEN_PATH,
                headers={"Authorization": "Basic " + base64.b64encode(pair).decode()},
                body=_BODY,
                content_type=FORM_TYPE,
            )
        except CallFailedError as error:
            raise NoAccessError(Signal.NOT_SENT) from error
        token = _read(answer, asked_at_s)
        self._token = token
        return token


def _read(answer: Answer, asked_at_s: float) -> _Token:
    """Return the token in the answer. Raises: NoAccessError: there is none."""
    if answer.status == _OK:
        try:
            said = wire.TokenAnswer.read(answer.json_object())
        except (CallFailedError, wire.WireError):
            raise NoAccessError(Signal.NOT_SENT) from None
        unused_s = min(RENEW_BEFORE_S, said.expires_in * MAX_SHARE_UNUSED)
        return _Token(said.access_token, asked_at_s + said.expires_in - unused_s)
    if answer.status in {400, 401, 403}:
        raise NoAccessError(Signal.UNAUTHORIZED)
    if answer.status == 429:  # noqa: PLR2004 - as HTTP has it
        raise NoAccessError(Signal.RATE_LIMITED, retry_after_ms=answer.retry_after_ms())
    raise NoAccessError(Signal.NOT_SENT)
