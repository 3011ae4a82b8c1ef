"""`schemas check|register`: a changed or incompatible file is found, and a registry learns what the package holds."""

import contextlib
import dataclasses
import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from schemas import schema_registry
from schemas.misconfigured import MisconfiguredError
from schemas.schema_ids import PackagedSchema, packaged_schemas
from streams.cli.exits import ExitCode
from streams.operator_tools.doctor import registry_check
from streams.operator_tools.doctor.findings import Severity
from streams.operator_tools.errors import UnreachableError
from streams.operator_tools.schema_files import NotRegisteredError, faults, ids_of, wait_for_ids
from streams.settings import RegistrySettings, load
from tests.support.command_line import json_of, run_command
from tests.support.http_registry import FIRST_ID, Registry, basic, http_registry, served


def _changed(schema: PackagedSchema, **changes: object) -> PackagedSchema:
    return dataclasses.replace(schema, **changes)  # type: ignore[arg-type]  # the names are the fields'


def test_faults_are_none_when_the_package_is_as_released() -> None:
    assert faults() == ()
    assert json_of(run_command("schemas", "check", "-o", "json")) == []


def test_faults_name_a_file_when_it_was_changed_after_its_release() -> None:
    schema = packaged_schemas()[0]
    edited = _changed(schema, released=True, text=schema.text + " ")
    (fault,) = faults([edited])
    assert (fault.record, fault.version) == (schema.record, schema.version)
    assert "changed after its release" in fault.problem


def test_faults_are_none_when_a_file_was_changed_before_its_release() -> None:
    schema = packaged_schemas()[0]
    assert faults([_changed(schema, released=False, text=schema.text + " ")]) == ()


def test_faults_name_both_directions_when_a_version_adds_a_field_without_default() -> None:
    schema = packaged_schemas()[0]
    newer = json.loads(schema.text)
    newer["fields"].append({"name": "added_without_default", "type": "string"})
    text = json.dumps(newer)
    second = _changed(schema, version=2, text=text, sha256=hashlib.sha256(text.encode()).hexdigest())
    found = faults([schema, second])
    assert [fault.version for fault in found] == [2]
    assert "added_without_default" in found[0].problem


def test_register_makes_the_schemas_known_when_a_registry_is_configured() -> None:
    with http_registry() as url:
        environment = {"PAYMENT_ENGINE_REGISTRY_URL": url}
        settings = RegistrySettings(url=url)
        with pytest.raises(NotRegisteredError, match="schemas register"):
            ids_of(settings)
        first = json_of(run_command("schemas", "register", "-o", "json", environment=environment))
        assert len(first) == len({schema.record for schema in packaged_schemas()})
        assert json_of(run_command("schemas", "register", "-o", "json", environment=environment)) == first
        printed = run_command("schemas", "register", environment=environment).stdout
        assert "payments.PaymentRequested" in printed
        assert ids_of(settings).own_id("payment_requested") == first["payments.PaymentRequested"]
        assert [finding.severity for finding in registry_check.examine(settings)] == [Severity.OK]


def test_doctor_says_register_when_the_registry_does_not_know_the_schemas() -> None:
    with http_registry() as url:
        (finding,) = registry_check.examine(RegistrySettings(url=url))
    assert finding.severity is Severity.FAILURE
    assert "schemas register" in finding.fix


def test_register_says_refused_when_no_registry_is_configured() -> None:
    assert run_command("schemas", "register").exit_code == ExitCode.REFUSED


def test_register_says_what_an_operator_can_mend_when_it_fails() -> None:
    with http_registry() as url:
        wrong_path = run_command("schemas", "register", environment={"PAYMENT_ENGINE_REGISTRY_URL": f"{url}/api"})
    assert wrong_path.exit_code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_REGISTRY_URL" in wrong_path.stderr
    assert "schemas register" not in wrong_path.stderr, "that is what has just failed"
    gone = run_command(
        *("schemas", "register"),
        environment={"PAYMENT_ENGINE_REGISTRY_URL": url, "PAYMENT_ENGINE_REGISTRY_TIMEOUT_S": "0.3"},
    )
    assert gone.exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"USER": "engine"}, "PASSWORD"),
        ({"PASSWORD": "secret"}, "PASSWORD"),
        ({"USER": "engine", "PASSWORD": "secret", "TOKEN": "t"}, "TOKEN"),
    ],
)
def test_settings_are_refused_when_a_user_lacks_a_password_or_has_a_token_too(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(f"PAYMENT_ENGINE_REGISTRY_{name}", text)
    with pytest.raises(MisconfiguredError, match=f"^PAYMENT_ENGINE_REGISTRY_{named}: .*_USER") as refused:
        load()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("settings", [{}, {"user": "engine", "password": "wrong"}, {"token": "wrong"}])
def test_program_refuses_to_start_and_doctor_says_why_when_the_registry_refuses_who_asks(
    settings: dict[str, Any],
) -> None:
    with served(Registry(authorization=basic("engine", "secret"))) as registry:
        chosen = RegistrySettings(url=registry.url, start_wait_s=0, **settings)
        with pytest.raises(MisconfiguredError, match="PAYMENT_ENGINE_REGISTRY_TOKEN") as refused:
            wait_for_ids(chosen, say=lambda _what: None)
        (finding,) = registry_check.examine(chosen)
    assert not isinstance(refused.value, NotRegisteredError)
    assert finding.severity is Severity.FAILURE
    assert "PAYMENT_ENGINE_REGISTRY_USER" in finding.finding
    assert "wrong" not in finding.finding


def test_program_that_starts_waits_for_the_registry_and_says_so_once() -> None:
    registry = Registry()
    with served(registry):
        schema_registry.register(schema_registry.connect(registry.url, timeout_s=5), packaged_schemas())
    settings = RegistrySettings(url=registry.url, timeout_s=0.3, start_wait_s=60)
    port = urlsplit(registry.url).port
    assert port is not None
    said: list[str] = []
    with contextlib.ExitStack() as life:

        def say(what: str) -> None:
            said.append(what)
            life.enter_context(served(registry, port=port))  # it comes back once somebody has missed it

        assert wait_for_ids(settings, say=say).own_id("payment_requested") >= FIRST_ID
    assert len(said) == 1


def test_program_that_starts_gives_the_registry_up_after_its_time() -> None:
    with http_registry() as url:
        pass  # its address, free again: nobody answers there
    said: list[str] = []
    with pytest.raises(UnreachableError, match="schema registry"):
        wait_for_ids(RegistrySettings(url=url, timeout_s=0.3, start_wait_s=0), say=said.append)
    assert said == []
