"""Accounts' secrets that stand in mounted files are read again when the files change, without a restart.

Called by the programs that call gateways or verify their webhooks (`bootstrap`, the ingress). Calls `settings` to read,
and `gateway_adapters.registry` to build. Only secrets change: an account that comes, goes, or has another URL needs a
restart, since plans and checks follow from it. What cannot be read leaves the last good secrets in force, and says so.

A call under way ends with the secret that it began with: its gateway object is closed once no call can use it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from gateway_adapters.contract import Gateway
from gateway_adapters.spec import Accounts, AccountSettings
from schemas.identifiers import AccountName, GatewayName, GatewayRoute
from schemas.misconfigured import MisconfiguredError
from streams.accounts_file import is_secret
from streams.settings import Settings
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 2.0
"""As often as the key file of the doors is looked at."""

_FROM_FILE: Final = "file "
Stamp = tuple[int, int, int]
"""Of a file: its inode, size and time of change. A mount that is swapped by a link has another inode."""


class LiveGateways(Mapping[GatewayRoute, Gateway]):
    """The gateway objects in force, by account. One may be replaced while calls are under way."""

    def __init__(self, gateways: Mapping[GatewayRoute, Gateway]) -> None:
        """Begin with these; they are closed with this."""
        self._now = dict(gateways)
        self._retired: dict[asyncio.Task[None], Gateway] = {}

    def __getitem__(self, route: GatewayRoute) -> Gateway:
        return self._now[route]

    def __iter__(self) -> Iterator[GatewayRoute]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def replace(self, route: GatewayRoute, gateway: Gateway, *, close_after_s: float) -> None:
        """Use this one from now on, and close the one before it once its calls must have ended."""
        before = self._now[route]
        self._now[route] = gateway
        task = asyncio.get_running_loop().create_task(_closed_later(before, close_after_s))
        self._retired[task] = before
        task.add_done_callback(lambda done: self._retired.pop(done, None))

    async def close(self) -> None:
        """Close all, those that were replaced too. Calling it twice is safe."""
        retired = dict(self._retired)
        for task in retired:
            task.cancel()
        await asyncio.gather(*retired, return_exceptions=True)
        await asyncio.gather(*(gateway.close() for gateway in [*retired.values(), *self._now.values()]))


async def _closed_later(gateway: Gateway, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await gateway.close()


class SecretsWatch:
    """Looks at the files that accounts' secrets stand in, and puts what has changed in force."""

    def __init__(
        self,
        settings: Settings,
        accounts: Accounts,
        live: LiveGateways,
        *,
        read: Callable[[], Accounts],
        build: Callable[[Accounts], Mapping[GatewayRoute, Gateway]],
        close_after_s: float,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Watch nothing yet.

        Args:
            settings: As they were at the start: they name the files.
            accounts: What `live` was built from.
            live: The gateways in force.
            read: Reads the accounts as they are now. Raises: MisconfiguredError.
            build: Makes gateway objects of accounts.
            close_after_s: How long a call under way may still use a gateway object that was replaced, seconds.
            pause: Waits so many seconds between two looks.
        """
        self._files = files_of(settings)
        self._accounts = {name: dict(by_account) for name, by_account in accounts.items()}
        self._live = live
        self._read = read
        self._build = build
        self._close_after_s = close_after_s
        self._pause = pause
        self._stamps = _stamps_of(self._files)
        self._fault: str | None = None

    def notes(self) -> tuple[str, ...]:
        """Return why the last good secrets hold instead of those in the files; empty when they are the same."""
        return () if self._fault is None else (f"accounts' secrets cannot be read again: {self._fault}",)

    @property
    def jobs(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What is to run in the background: nothing where no secret stands in a file."""
        return (self.run,) if self._files else ()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._pause(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Put secrets in force that have changed. Calling it twice is safe."""
        stamps = _stamps_of(self._files)
        if stamps == self._stamps:
            return
        try:
            changed = self._changed(self._read())
            fresh = self._build(changed)
        except MisconfiguredError as error:  # looked at each time: a file may be written in pieces
            self._refused(str(error))
            return
        except ValueError as error:  # an adapter's: its text may hold what it was given
            self._refused(f"a gateway does not take them ({type(error).__name__})")
            return
        self._fault, self._stamps = None, stamps
        for gateway, by_account in changed.items():
            self._accounts[gateway].update(by_account)
        for route, each in fresh.items():
            self._live.replace(route, each, close_after_s=self._close_after_s)
            metrics.count("account_secrets_changed", route=route)
            log.warning("account_secrets_changed", route=route)

    def _refused(self, why: str) -> None:
        if self._fault is None:
            metrics.count("account_secrets_refused")
            log.error("account_secrets_refused", reason=why)
        self._fault = why

    def _changed(self, read: Accounts) -> Accounts:
        """Return the accounts in force whose secrets are others now, with those."""
        changed: dict[GatewayName, dict[AccountName, AccountSettings]] = {}
        for gateway, by_account in self._accounts.items():
            for account, before in by_account.items():
                now = read.get(gateway, {}).get(account)
                after = before if now is None else _with_secrets_of(before, now)
                if after != before:
                    changed.setdefault(gateway, {})[account] = after
        return changed


def files_of(settings: Settings) -> tuple[Path, ...]:
    """Return the accounts file and each file that a secret of it stands in; none when no secret stands in a file."""
    file = settings.gateway.accounts_file
    if file is None:
        return ()
    named = {
        source.removeprefix(_FROM_FILE)
        for account in settings.in_file.values()
        for source in account.sources.values()
        if source.startswith(_FROM_FILE)
    }
    return (file, *(file.parent / name for name in sorted(named))) if named else ()


def _stamps_of(files: tuple[Path, ...]) -> tuple[Stamp | None, ...]:
    return tuple(map(_stamp_of, files))


def _stamp_of(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _with_secrets_of(before: AccountSettings, now: AccountSettings) -> AccountSettings:
    secrets = {
        name: getattr(now, name) for name, info in type(before).model_fields.items() if is_secret(info.annotation)
    }
    return before.model_copy(update=secrets)
