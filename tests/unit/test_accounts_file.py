"""The file of accounts: what it takes, what it refuses and in which words, and that it tells no secret."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.contract import Ability
from gateway_adapters.http_transport import TransportLimits
from gateway_adapters.mock.spec import SPEC, MockAccount
from gateway_adapters.registry import GATEWAYS, build_gateways, capabilities_of
from schemas.identifiers import AccountName, GatewayRoute
from schemas.misconfigured import MisconfiguredError
from streams.accounts_file import (
    INLINE,
    MAX_ACCOUNTS,
    MAX_FILE_BYTES,
    MAX_SECRET_BYTES,
    example_of,
    read_accounts,
)
from streams.settings import Settings, accounts_with_webhook_secrets, load, routes_of, variables

FILE = "PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE"
EU = AccountName("eu")
TWO = """
[mock.default]
url = "http://mock:8090"
webhook_secret = { env = "MOCK_SECRET" }

[mock.eu]
url = "http://mock-eu:8090"
webhook_secret = { file = "eu-secret" }
currencies = "EUR, SEK"
lacks = "multiple_capture, partial_refund:SEK"
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _ in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOCK_SECRET", "hunter1,hunter2")


@pytest.fixture
def accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the settings name; not there yet."""
    path = tmp_path / "accounts.toml"
    monkeypatch.setenv(FILE, str(path))
    (tmp_path / "eu-secret").write_text("hunter3\n")
    return path


def loaded(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load()


def test_accounts_are_set_up_with_their_secrets_from_where_the_file_says(accounts: Path) -> None:
    settings = loaded(accounts, TWO)
    default, eu = settings.accounts[SPEC.name].values()
    assert isinstance(eu, MockAccount)
    assert eu.url == "http://mock-eu:8090"
    assert (default.webhook_secrets(), eu.webhook_secrets()) == (("hunter1", "hunter2"), ("hunter3",))
    assert list(build_gateways(settings.accounts, TransportLimits())) == ["mock", "mock/eu"]
    assert list(accounts_with_webhook_secrets(settings)[SPEC.name]) == ["default", "eu"]


def test_account_can_do_what_its_gateway_can_but_for_what_it_lacks(accounts: Path) -> None:
    can = capabilities_of(loaded(accounts, TWO).accounts)
    default, eu = can[GatewayRoute("mock")], can[GatewayRoute("mock/eu")]
    assert default == SPEC.capabilities
    assert eu.currencies == frozenset({"EUR", "SEK"})
    assert not eu.can(Ability.MULTIPLE_CAPTURE, "EUR")
    assert (eu.can(Ability.PARTIAL_REFUND, "EUR"), eu.can(Ability.PARTIAL_REFUND, "SEK")) == (True, False)
    assert eu.can(Ability.PARTIAL_CAPTURE, "SEK")


def test_gateway_object_can_do_what_is_planned_with(accounts: Path) -> None:
    settings = loaded(accounts, TWO)
    built = build_gateways(settings.accounts, TransportLimits())
    assert {route: gateway.capabilities for route, gateway in built.items()} == capabilities_of(settings.accounts)


def test_secret_is_shown_nowhere(accounts: Path) -> None:
    settings = loaded(accounts, TWO)
    assert "hunter" not in repr(settings.accounts) + str(settings.accounts)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[mock.eu]\nurl =", "is not TOML that can be read"),
        ("[mock.eu]\nurl = 'http://a'\n[mock.eu]\nurl = 'http://b'", "an account is declared once"),
        ("[nobody.eu]\nurl = 'http://a'", r"\[nobody\]: no such gateway; known: .*mock"),
        ("mock = 1", r"mock: an account is a table of its own, \[mock.ACCOUNT\]"),
        ("[mock]\nurl = 'http://a'", r"\[mock.url\]: an account is a table: write \[mock.url\] above its fields"),
        ("[mock.EU]\nurl = 'http://a'", "lower-case letters and digits"),
        ("[mock.eu]\nurll = 'http://a'", r"\[mock.eu\] urll: no such field; known: webhook_secret"),
        ("[mock.eu]\nwebhook_secret = 'hunter2'", r"\[mock.eu\] webhook_secret: a secret is given by reference"),
        ("[mock.eu]\nwebhook_secret = ['hunter2']", "a secret is given by reference"),
        ("[mock.eu]\nurl = ['http://a']", r"\[mock.eu\] url: must be text, a number, true or false"),
        ("[mock.eu]\nurl = 5", r"\[mock.eu\] url: Input should be a valid string"),
        ("[mock.eu]\nurl = 'ftp://hunter2'", r"\[mock.eu\] url: must begin with"),
        ("[mock.eu]\nwebhook_secret = { env = 'MOCK_SECRET' }", r"\[mock.eu\] url: Field required"),
        ("[mock.eu]\nwebhook_secret = { env = 'NOT_THERE' }", "env NOT_THERE is not set, or empty; set it"),
        ("[mock.eu]\nwebhook_secret = { env = 'PAYMENT_ENGINE_X' }", "does not begin with PAYMENT_ENGINE_"),
        ("[mock.eu]\nwebhook_secret = { env = 'A B' }", "must name a variable"),
        ("[mock.eu]\nwebhook_secret = { file = 'nothing' }", "file nothing cannot be read .No such file"),
        ("[mock.eu]\nwebhook_secret = { file = 'empty' }", "file empty is empty"),
        ("[mock.eu]\nwebhook_secret = { file = 'large' }", f"file large is larger than {MAX_SECRET_BYTES} bytes"),
        ("[mock.eu]\nwebhook_secret = { file = 'binary' }", "file binary cannot be read .it is not UTF-8"),
        ("[mock.eu]\nwebhook_secret = { file = 'a', env = 'B' }", "one of them"),
        ("[mock.eu]\nwebhook_secret = { vault = 'a' }", "is given by reference"),
        ("[mock.eu]\nwebhook_secret = { inline = 5 }", "as text"),
        ("[mock.eu]\nwebhook_secret = {}", "one of them"),
        ("[mock.eu]\nurl = 'http://a'\ncurrencies = 'euro'", r"\[mock.eu\] currencies: must be ISO 4217"),
        ("[mock.eu]\nurl = 'http://a'\nlacks = 'capture'", r"\[mock.eu\] lacks: must be abilities with commas"),
        ("[mock.eu]\nurl = 'http://a'\nlacks = 'multiple_capture:yen'", r"\[mock.eu\] lacks: must be abilities"),
    ],
)
def test_file_is_refused_and_the_place_named_when_it_cannot_work(accounts: Path, text: str, told: str) -> None:
    (accounts.parent / "empty").touch()
    (accounts.parent / "large").write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    (accounts.parent / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(MisconfiguredError, match=told) as caught:
        loaded(accounts, text)
    assert str(caught.value).startswith(f"{FILE}: ")
    assert "hunter" not in str(caught.value)


def test_every_fault_of_the_file_is_named_at_once(accounts: Path) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        loaded(accounts, "[mock.eu]\nurll = 'x'\n[mock.us]\nwebhook_secret = 'y'\n[nobody.x]\n")
    assert all(place in str(caught.value) for place in ("[mock.eu] urll", "[mock.us] webhook_secret", "[nobody]"))


def test_file_that_is_not_there_is_refused_with_the_command_that_writes_one(accounts: Path) -> None:
    with pytest.raises(MisconfiguredError, match=r"No such file.*payment-engine accounts example"):
        load()
    accounts.mkdir()
    with pytest.raises(MisconfiguredError, match="Is a directory"):
        load()


@pytest.mark.parametrize(
    ("raw", "told"), [(b"\xff", "not UTF-8"), (b"#" * (MAX_FILE_BYTES + 1), f"larger than {MAX_FILE_BYTES} bytes")]
)
def test_file_that_is_no_text_of_a_fair_size_is_refused(accounts: Path, raw: bytes, told: str) -> None:
    accounts.write_bytes(raw)
    with pytest.raises(MisconfiguredError, match=told):
        load()


def test_more_accounts_than_a_deployment_may_have_are_refused(accounts: Path) -> None:
    text = "".join(f"[mock.a{number}]\nurl = 'http://a'\n" for number in range(MAX_ACCOUNTS + 1))
    with pytest.raises(MisconfiguredError, match=f"more than {MAX_ACCOUNTS} accounts"):
        loaded(accounts, text)


@pytest.mark.parametrize(
    "variable", ["PAYMENT_ENGINE_GATEWAY_MOCK_URL", "PAYMENT_ENGINE_GATEWAY_MOCK__EU__WEBHOOK_SECRET"]
)
def test_account_that_the_file_and_a_variable_set_up_is_refused(
    accounts: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://other")
    with pytest.raises(MisconfiguredError, match=r"stands in the accounts file.*take one of the two away"):
        loaded(accounts, TWO)


def test_variables_set_up_another_account_beside_the_file(accounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_MOCK__US__URL", "http://mock-us:8090")
    assert set(loaded(accounts, TWO).accounts[SPEC.name]) == {"default", "eu", "us"}


def test_missing_webhook_secret_is_named_by_its_place_in_the_file(accounts: Path) -> None:
    settings = loaded(accounts, "[mock.eu]\nurl = 'http://a'")
    with pytest.raises(MisconfiguredError, match=rf"^{FILE}: \[mock.eu\] webhook_secret: needed"):
        accounts_with_webhook_secrets(settings)


def test_inline_secret_is_taken_and_said_to_be_one(accounts: Path) -> None:
    settings = loaded(accounts, "[mock.eu]\nurl = 'http://a'\nwebhook_secret = { inline = 'hunter5' }")
    assert settings.accounts[SPEC.name][EU].webhook_secrets() == ("hunter5",)
    assert settings.in_file[GatewayRoute("mock/eu")].sources == {"webhook_secret": INLINE}


def test_reference_serves_for_a_field_that_is_no_secret_too(accounts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCK_URL", "http://from-env")
    assert loaded(accounts, "[mock.eu]\nurl = { env = 'MOCK_URL' }").accounts[SPEC.name][EU].model_dump()["url"] == (
        "http://from-env"
    )


def test_line_break_at_the_end_of_a_secrets_file_is_not_the_secrets(accounts: Path) -> None:
    for written in ("hunter6", "hunter6\n", "hunter6\r\n"):
        (accounts.parent / "eu-secret").write_bytes(written.encode())
        assert loaded(accounts, TWO).accounts[SPEC.name][EU].webhook_secrets() == ("hunter6",)


def test_example_names_every_field_and_is_a_file_that_works_once_filled_in(accounts: Path) -> None:
    whole = example_of(GATEWAYS)
    assert all(field_name in whole for spec in GATEWAYS.values() for field_name in spec.settings.model_fields)
    text = example_of({SPEC.name: SPEC})
    for secret in ("mock_webhook_secret", "mock_api_key"):
        (accounts.parent / secret).write_text("own")
    filled = "\n".join(line.removeprefix("# ") for line in text.splitlines()[2:])
    filled = filled.replace("/run/secrets/", "").replace('url = "…"', 'url = "http://a"').replace('"…"', '"EUR"', 1)
    assert set(loaded(accounts, filled.replace('lacks = "…"', 'lacks = "multiple_refund"')).accounts) == {SPEC.name}


def test_default_gateways_may_name_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS", "mock/eu, mock/default")
    assert routes_of(load().gateway.default_gateways) == ("mock/eu", "mock")
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS", "mock/E U")
    with pytest.raises(MisconfiguredError, match="lower-case"):
        load()


@given(text=st.text(max_size=200), environment=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_any_text_is_taken_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, text: str, environment: Mapping[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    found, faults = read_accounts(path, GATEWAYS, environment)
    assert all(account.gateway in GATEWAYS for account in found)
    assert all(str(path) in fault for fault in faults)
