"""Accounts at gateways: which variables there are, what is refused and named, and who needs a webhook's secret."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from gateway_adapters import registry
from gateway_adapters.contract import Gateway
from gateway_adapters.errors import UnauthenticError
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.mock.signature import DEVELOPMENT_SECRET, sign
from gateway_adapters.mock.spec import SPEC, MockAccount
from gateway_adapters.mock.wire import SIGNATURE_HEADER
from gateway_adapters.registry import GATEWAYS, SPECS, build_gateways, specs_of
from gateway_adapters.spec import AccountSettings, GatewaySpec, checked_base_url
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, GatewayName, GatewayRoute
from schemas.misconfigured import MisconfiguredError
from streams import settings as engine_settings
from streams.accounts import variable_of
from streams.settings import GatewaySettings, accounts_with_webhook_secrets, load, variables
from tests.support.gateway_calls import NO_CERTIFICATES

URL = "PAYMENT_ENGINE_GATEWAY_MOCK_URL"
SECRET = "PAYMENT_ENGINE_GATEWAY_MOCK_WEBHOOK_SECRET"
DEV = "PAYMENT_ENGINE_HTTP_DEV"
HERE = "http://127.0.0.1:8090"
LIMITS = TransportLimits()
KNOWN = ", ".join(sorted(GATEWAYS))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _ in variables():
        monkeypatch.delenv(name, raising=False)


def loaded(monkeypatch: pytest.MonkeyPatch, **given: str) -> engine_settings.Settings:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return load()


def test_gateway_is_absent_when_nothing_of_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch)
    assert settings.accounts == {}
    assert build_gateways(settings.accounts, LIMITS) == {}
    assert specs_of(settings.accounts) == {}


def test_default_account_needs_no_further_word(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **{URL: f"{HERE}/below/", SECRET: "old,new"})
    (account,) = settings.accounts[SPEC.name].values()
    assert isinstance(account, MockAccount)
    assert (account.url, account.webhook_secrets()) == (f"{HERE}/below", ("old", "new"))
    assert {route: gateway.name for route, gateway in build_gateways(settings.accounts, LIMITS).items()} == {
        GatewayRoute(SPEC.name): SPEC.name
    }
    assert specs_of(settings.accounts) == {SPEC.name: SPEC}


def test_another_account_is_named_between_double_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **{"PAYMENT_ENGINE_GATEWAY_MOCK__EU__URL": HERE, URL: f"{HERE}/us"})
    accounts = settings.accounts[SPEC.name]
    assert {name: account.model_dump()["url"] for name, account in accounts.items()} == {
        DEFAULT_ACCOUNT: f"{HERE}/us",
        AccountName("eu"): HERE,
    }


@pytest.mark.parametrize(
    "variable",
    [
        "PAYMENT_ENGINE_GATEWAY_MOCK_URLL",
        "PAYMENT_ENGINE_GATEWAY_MOCK_",
        "PAYMENT_ENGINE_GATEWAY_MOCK__EU__URLL",
        "PAYMENT_ENGINE_GATEWAY_MOCK__EU_URL",
        "PAYMENT_ENGINE_GATEWAY_MOCK____URL",
        "PAYMENT_ENGINE_GATEWAY_MOCK__E_U__URL",
        "PAYMENT_ENGINE_GATEWAY_MOCK__DEFAULT__URL",  # the default account has one name, not two
        "PAYMENT_ENGINE_GATEWAY_NOBODY_URL",
        "PAYMENT_ENGINE_GATEWAY_MOCKURL",
    ],
)
def test_unknown_variable_is_named_and_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with pytest.raises(MisconfiguredError, match=rf"^{variable}: no such setting$"):
        loaded(monkeypatch, **{variable: HERE, URL: HERE})


def test_account_without_a_field_that_it_needs_is_refused_and_the_field_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        loaded(monkeypatch, **{SECRET: "hush", "PAYMENT_ENGINE_GATEWAY_MOCK__EU__WEBHOOK_SECRET": "hush"})
    told = str(caught.value)
    assert f"{URL}: " in told
    assert "PAYMENT_ENGINE_GATEWAY_MOCK__EU__URL: " in told
    assert "hush" not in told


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://mock-gateway:8090", None),
        ("https://api.example.com", None),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://proxy.example.com/stripe/v1", None),
        ("https://proxy.example.com/stripe//", "https://proxy.example.com/stripe"),
        ("http://[::1]:8090/a%20b", None),
    ],
)
def test_base_url_is_taken_with_or_without_a_path(url: str, kept: str | None) -> None:
    assert checked_base_url(url) == (kept or url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mock-gateway:8090",
        "//mock-gateway:8090",
        "http:mock-gateway",
        "http://",
        "http:///payments",
        "http://:8090",
        "http://host:",
        "http://host:0",
        "http://host:99999",
        "http://host:port",
        "http://[::1",
        "http://ho st",
        "http://host\n",
        "http://host\\@other",
        "http://höst",
        "http://256.256.256.256",
        "ftp://host",
        "file:///etc/passwd",
        "unix:///run/gateway.sock",
        "http://user:hunter2@host",
        "http://hunter2@host",
        "http://host?key=hunter2",
        "http://host/path?",
        "http://host/path#there",
        "http://host/" + "a" * 2048,
    ],
)
def test_base_url_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(MisconfiguredError, match=rf"^{URL}: ") as caught:
        loaded(monkeypatch, **{URL: url})
    assert "hunter2" not in str(caught.value)


@given(text=st.text(max_size=60))
def test_base_url_is_refused_by_a_value_error_or_taken_whatever_it_is(text: str) -> None:
    try:
        kept = checked_base_url(text)
    except ValueError:
        return
    assert kept.startswith(("http://", "https://"))
    assert checked_base_url(kept) == kept


@pytest.mark.parametrize("secret", ["", ",", "a,", "a,,b", " ", "a b", "a, b", " a"])
def test_webhook_secret_that_is_empty_or_holds_a_space_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    with pytest.raises(MisconfiguredError, match=rf"^{SECRET}: "):
        loaded(monkeypatch, **{URL: HERE, SECRET: secret})


def test_secrets_are_shown_nowhere_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **{URL: HERE, SECRET: "hush"})
    assert "hush" not in repr(settings) + str(settings)
    assert "hush" not in repr(accounts_with_webhook_secrets(settings))


async def refuses_old_public_secret(gateway: Gateway) -> bool:
    header = {SIGNATURE_HEADER.lower(): sign(b"{}", secret=DEVELOPMENT_SECRET, at_s=1000)}
    try:
        await gateway.verify_webhook(header, b"{}", now_ms=1_000_000, certificates=NO_CERTIFICATES)
    except UnauthenticError:
        return True
    return False


async def test_stranger_cannot_sign_with_the_public_secret_when_it_is_not_development(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = loaded(monkeypatch, **{URL: HERE, SECRET: "own"})
    (gateway,) = build_gateways(accounts_with_webhook_secrets(settings), LIMITS).values()
    assert await refuses_old_public_secret(gateway)


async def test_gateway_without_a_secret_takes_no_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    (gateway,) = build_gateways(loaded(monkeypatch, **{URL: HERE}).accounts, LIMITS).values()
    assert await refuses_old_public_secret(gateway)


def test_development_takes_the_simulators_secret_unless_another_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **{URL: HERE, DEV: "true"})
    assert accounts_with_webhook_secrets(settings)[SPEC.name][DEFAULT_ACCOUNT].webhook_secrets() == ("whsec_mock",)
    settings = loaded(monkeypatch, **{SECRET: "own"})
    assert accounts_with_webhook_secrets(settings)[SPEC.name][DEFAULT_ACCOUNT].webhook_secrets() == ("own",)


@pytest.mark.parametrize("given", [{}, {SECRET: "whsec_mock"}, {SECRET: "own,whsec_mock"}])
def test_who_verifies_webhooks_is_refused_without_a_secret_of_its_own(
    monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str]
) -> None:
    settings = loaded(monkeypatch, **{URL: HERE, **given})
    with pytest.raises(MisconfiguredError, match=rf"^{SECRET}: .*set ") as caught:
        accounts_with_webhook_secrets(settings)
    assert "whsec_mock" not in str(caught.value)


def test_every_account_without_a_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(monkeypatch, **{URL: HERE, "PAYMENT_ENGINE_GATEWAY_MOCK__EU__URL": HERE})
    with pytest.raises(MisconfiguredError) as caught:
        accounts_with_webhook_secrets(settings)
    assert f"{SECRET}: " in str(caught.value)
    assert "PAYMENT_ENGINE_GATEWAY_MOCK__EU__WEBHOOK_SECRET: " in str(caught.value)


class RealAccount(AccountSettings):
    api_key: SecretStr = Field(description="Key of the API.")


REAL = replace(SPEC, name=GatewayName("real"), settings=RealAccount, development_webhook_secret=None)


@pytest.fixture
def another_gateway(monkeypatch: pytest.MonkeyPatch) -> GatewaySpec:
    """A gateway that is listed beside the Mock, without a simulator."""
    monkeypatch.setattr(engine_settings, "SPECS", (SPEC, REAL))
    monkeypatch.setattr(engine_settings, "GATEWAYS", {spec.name: spec for spec in (SPEC, REAL)})
    return REAL


def test_listed_gateway_has_its_own_variables_and_needs_a_secret_in_development_too(
    monkeypatch: pytest.MonkeyPatch, another_gateway: GatewaySpec
) -> None:
    key = "PAYMENT_ENGINE_GATEWAY_REAL_API_KEY"
    assert key in dict(variables())
    settings = loaded(monkeypatch, **{URL: HERE, DEV: "true", key: "hunter2"})
    assert set(settings.accounts) == {SPEC.name, REAL.name}
    assert "hunter2" not in repr(settings)
    with pytest.raises(MisconfiguredError, match=r"^PAYMENT_ENGINE_GATEWAY_REAL_WEBHOOK_SECRET: needed"):
        accounts_with_webhook_secrets(settings)


def test_unknown_default_gateway_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisconfiguredError, match=rf"DEFAULT_GATEWAYS: stipe, adyn: no such gateway; known: {KNOWN}$"):
        loaded(monkeypatch, PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS="mock, stipe,adyn")
    assert loaded(monkeypatch, PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS="").gateway.default_gateways == ""


def test_names_of_gateways_fit_into_variables_routes_and_policies() -> None:
    assert all(spec.name.isascii() and spec.name.isalnum() and spec.name.islower() for spec in SPECS)
    assert len(GATEWAYS) == len(SPECS)
    first_words = {field.partition("_")[0] for field in GatewaySettings.model_fields}
    assert first_words.isdisjoint(GATEWAYS), "a common setting would read as the gateway's"
    names = [name for name, _ in variables()]
    assert len(set(names)) == len(names)


def test_registry_is_one_tuple_from_which_the_rest_follows() -> None:
    assert {name for name, value in vars(registry).items() if name.isupper() and value == SPECS} == {"SPECS"}
    assert all(variable_of(spec.name, "webhook_secret") in dict(variables()) for spec in SPECS)


def test_transport_waits_as_long_as_the_deployment_says_and_for_no_connection() -> None:
    limits = registry.transport_limits(connect_timeout_s=2.0, read_timeout_s=7.0, calls_in_flight=10)
    assert (limits.connect_timeout_s, limits.read_timeout_s) == (2.0, 7.0)
    assert limits.total_timeout_s > 9.0
    assert limits.connections > 10
