"""The desk as the command line reaches it: one request over HTTP, and its answer or why there is none.

Called by `streams.cli.decisions`. Who decides is the owner of the key; a desk in development mode is told by name.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Final

import aiohttp

from schemas.misconfigured import MisconfiguredError
from streams.operator_tools.errors import NotFoundError, RefusedError, UnreachableError

TIMEOUT_S: Final = 20.0
"""The desk asks the order twice, at most five seconds each, and reads the log of decisions."""

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskAddress:
    """Where the desk is, and who asks."""

    url: str
    key: str | None
    name: str  # said to a desk in development mode; one with keys pays no heed to it


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskAnswer:
    """What the desk answered, which is no problem."""

    status: int
    body: Json


def ask_desk(
    address: DeskAddress, method: str, path: str, body: Json | None = None, *, idempotency_key: str | None = None
) -> DeskAnswer:
    """Return the desk's answer. Asking again under the same key is safe.

    Raises:
        MisconfiguredError: the key does not hold, or another server answers at the address.
        NotFoundError: there is no such payment, operation or proposal.
        RefusedError: the rules forbid it, or what was said is not right.
        UnreachableError: no answer in time. A decision may stand all the same.
    """
    try:
        return asyncio.run(_ask(address, method, path, body, idempotency_key))
    except aiohttp.ClientConnectorError as error:
        raise UnreachableError(
            f"no desk answers at {address.url} ({error.os_error.strerror}); nothing was sent"
        ) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnreachableError(f"the desk at {address.url} gave no answer ({type(error).__name__})") from error


async def _ask(
    address: DeskAddress, method: str, path: str, body: Json | None, idempotency_key: str | None
) -> DeskAnswer:
    who = {"X-Operator": address.name} if address.key is None else {"X-Api-Key": address.key}
    headers = {**who, "Accept": "application/json"}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(
            method, address.url.rstrip("/") + path, json=body, headers=headers, allow_redirects=False
        ) as response,
    ):
        raw = await response.content.read(MAX_ANSWER_BYTES)
        return _judged(address, response.status, raw)


def _judged(address: DeskAddress, status: int, raw: bytes) -> DeskAnswer:
    body = _json(raw)
    if body is None or (status >= 400 and "code" not in body):  # noqa: PLR2004 -- HTTP's line between answer and error
        raise MisconfiguredError(
            f"what answers at {address.url} is no desk: set PAYMENT_ENGINE_OPERATORS_URL, or say --url"
        )
    match status:
        case 200 | 202:
            return DeskAnswer(status=status, body=body)
        case 401:
            raise MisconfiguredError(
                "PAYMENT_ENGINE_OPERATORS_KEY: is no operator's key that this desk knows; "
                "`payment-engine keys create --operator NAME` makes one"
            )
        case 404:
            raise NotFoundError(_told(body))
        case _ if status >= 500 or status == 429:  # noqa: PLR2004 -- HTTP's own: the server's fault, or too many
            raise UnreachableError(_told(body))
        case _:
            raise RefusedError(_told(body))


def _json(raw: bytes) -> Json | None:
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _told(problem: Json) -> str:
    """Return the problem in one line: title, detail, and what is wrong with each field."""
    faults = problem.get("errors")
    fields = [f"{each['pointer']} {each['detail']}" for each in faults] if isinstance(faults, list) else []
    words = [problem.get("title"), problem.get("detail"), *fields]
    return "; ".join(" ".join(str(word).split()) for word in words if word)
