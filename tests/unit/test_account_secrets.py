"""Secrets in mounted files that change while a program runs: what is put in force, when, and what is left as it was."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway_adapters.contract import Gateway
from gateway_adapters.errors import UnauthenticError
from gateway_adapters.mock.signature import sign
from gateway_adapters.mock.wire import SIGNATURE_HEADER
from gateway_adapters.spec import Accounts
from schemas.identifiers import AccountName, GatewayName, GatewayRoute
from streams.account_secrets import LOOK_EVERY_S, LiveGateways, SecretsWatch, files_of
from streams.bootstrap import gateways_of
from streams.setting_kinds import PREFIX
from streams.settings import load
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.metric_pages import rise_of
from tests.support.waiting import until

MOCK, EU = GatewayRoute("mock"), GatewayRoute("mock/eu")
FILE = """
[mock.default]
url = "http://a"
webhook_secret = { file = "secret" }

[mock.eu]
url = "http://b"
webhook_secret = { file = "eu/secret" }
api_key = { env = "KEY_OF_EU" }
"""


@dataclass(slots=True)
class Built:
    """A gateway object, by what it was built from."""

    secrets: tuple[str, ...]
    closed: bool = False

    async def close(self) -> None:
        self.closed = True


@dataclass(slots=True)
class Deployment:
    """An accounts file with its secrets, and a program that watches them."""

    folder: Path
    live: LiveGateways = field(init=False)
    watch: SecretsWatch = field(init=False)
    refuses: bool = False

    def begin(self) -> None:
        settings = load()
        self.live = LiveGateways(self.build(settings.accounts))
        self.watch = SecretsWatch(
            settings,
            settings.accounts,
            self.live,
            read=lambda: load().accounts,
            build=self.build,
            close_after_s=0.0,
        )

    def build(self, accounts: Accounts) -> Mapping[GatewayRoute, Gateway]:
        if self.refuses:
            raise ValueError("own-secret is no key")
        made: dict[GatewayRoute, Any] = {}
        for name, by_account in accounts.items():
            for account, values in by_account.items():
                made[GatewayRoute(name if account == "default" else f"{name}/{account}")] = Built(
                    values.webhook_secrets()
                )
        return made

    def write(self, name: str, secret: str) -> None:
        """Write a secret as a mount does: another file takes the place of the one before."""
        file = self.folder / name
        fresh = file.with_suffix(".new")
        fresh.write_text(secret)
        fresh.replace(file)

    def secrets(self) -> dict[str, tuple[str, ...]]:
        return {str(route): self.built(route).secrets for route in self.live}

    def built(self, route: GatewayRoute) -> Built:
        gateway = self.live[route]
        assert isinstance(gateway, Built)
        return gateway


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    (tmp_path / "eu").mkdir()
    there = Deployment(tmp_path)
    there.write("secret", "own-1")
    there.write("eu/secret", "eu-1")
    (tmp_path / "accounts.toml").write_text(FILE)
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE", str(tmp_path / "accounts.toml"))
    monkeypatch.setenv("KEY_OF_EU", "key")
    there.begin()
    return there


async def test_secret_that_changes_is_in_force_and_no_other_account_is_touched(deployment: Deployment) -> None:
    changed = rise_of("account_secrets_changed", route="mock/eu")
    before = dict(deployment.live)
    deployment.write("eu/secret", "eu-1,eu-2")
    deployment.watch.look()
    assert deployment.secrets() == {"mock": ("own-1",), "mock/eu": ("eu-1", "eu-2")}
    assert deployment.live[MOCK] is before[MOCK]
    assert changed() == 1
    deployment.watch.look()
    assert changed() == 1
    await deployment.live.close()


async def test_gateway_that_was_replaced_is_closed_once_its_calls_must_have_ended(deployment: Deployment) -> None:
    before = deployment.built(MOCK)
    deployment.write("secret", "own-2")
    deployment.watch.look()
    assert not before.closed
    await until(lambda: before.closed, timeout_s=5.0)
    await deployment.live.close()
    assert deployment.built(MOCK).closed


async def test_gateways_that_were_replaced_are_closed_with_the_program(deployment: Deployment) -> None:
    before = deployment.built(MOCK)
    deployment.live.replace(MOCK, deployment.build(load().accounts)[MOCK], close_after_s=3_600.0)
    await deployment.live.close()
    await deployment.live.close()
    assert before.closed


@pytest.mark.parametrize("broken", ["gone", "empty", "refused by its adapter"])
async def test_last_good_secrets_hold_and_it_is_said_when_a_file_cannot_be_used(
    deployment: Deployment, broken: str
) -> None:
    refused = rise_of("account_secrets_refused")
    match broken:
        case "gone":
            (deployment.folder / "secret").unlink()
        case "empty":
            deployment.write("secret", "")
        case _:
            deployment.write("secret", "own-secret")
            deployment.refuses = True
    deployment.watch.look()
    deployment.watch.look()
    assert deployment.secrets()["mock"] == ("own-1",)
    assert refused() == 1
    (note,) = deployment.watch.notes()
    assert "cannot be read again" in note
    assert "own-secret" not in note
    deployment.refuses = False
    deployment.write("secret", "own-3")
    deployment.watch.look()
    assert (deployment.secrets()["mock"], deployment.watch.notes()) == (("own-3",), ())
    await deployment.live.close()


async def test_only_secrets_change_and_accounts_neither_come_nor_go(deployment: Deployment) -> None:
    text = FILE.replace("http://a", "http://elsewhere").replace("[mock.eu]", "[mock.us]")
    deployment.write("secret", "own-2")
    (deployment.folder / "accounts.toml").write_text(text)
    deployment.watch.look()
    assert set(deployment.live) == {MOCK, EU}
    assert deployment.secrets()["mock"] == ("own-2",)
    (values,) = (deployment.watch._accounts[GatewayName("mock")][AccountName("default")],)
    assert "elsewhere" not in repr(values)
    await deployment.live.close()


async def test_nothing_is_looked_at_where_no_secret_stands_in_a_file(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [file.name for file in files_of(load())] == ["accounts.toml", "secret", "secret"]
    (deployment.folder / "accounts.toml").write_text('[mock.default]\nurl = "http://a"\n')
    assert files_of(load()) == ()
    monkeypatch.delenv("PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE")
    deployment.begin()
    assert deployment.watch.jobs == ()


async def test_watch_looks_every_two_seconds(deployment: Deployment) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 1:
            deployment.write("secret", "own-2")
        await asyncio.sleep(0)

    settings = load()
    watch = SecretsWatch(
        settings,
        settings.accounts,
        deployment.live,
        read=lambda: load().accounts,
        build=deployment.build,
        close_after_s=0.0,
        pause=pause,
    )
    (job,) = watch.jobs
    task = asyncio.create_task(job())
    await until(lambda: deployment.secrets()["mock"] == ("own-2",), timeout_s=5.0)
    task.cancel()
    await asyncio.wait([task])
    assert set(paused) == {LOOK_EVERY_S}
    await deployment.live.close()


async def test_webhook_is_authentic_by_the_next_secret_once_that_stands_in_the_file(deployment: Deployment) -> None:
    settings = load()
    build = partial(gateways_of, settings)
    live = LiveGateways(build(settings.accounts))
    watch = SecretsWatch(
        settings, settings.accounts, live, read=lambda: load().accounts, build=build, close_after_s=0.0
    )

    async def verified(secret: str) -> bool:
        headers = {SIGNATURE_HEADER.lower(): sign(b"{}", secret=secret, at_s=1_000)}
        try:
            await live[MOCK].verify_webhook(headers, b"{}", now_ms=1_000_000, certificates=NO_CERTIFICATES)
        except UnauthenticError:
            return False
        return True

    assert [await verified(secret) for secret in ("own-1", "own-2")] == [True, False]
    deployment.write("secret", "own-1,own-2")
    watch.look()
    assert [await verified(secret) for secret in ("own-1", "own-2")] == [True, True]
    deployment.write("secret", "own-2")
    watch.look()
    assert [await verified(secret) for secret in ("own-1", "own-2")] == [False, True]
    await live.close()
    await deployment.live.close()
