"""`schemas check|register`: a changed or incompatible file is found, and a registry learns what the package holds."""

import dataclasses
import hashlib
import json

import pytest

from schemas.schema_ids import PackagedSchema, packaged_schemas
from streams.cli.exits import ExitCode
from streams.operator_tools.doctor import registry_check
from streams.operator_tools.doctor.findings import Severity
from streams.operator_tools.errors import RefusedError
from streams.operator_tools.schema_files import faults, ids_of
from streams.settings import RegistrySettings
from tests.support.command_line import json_of, run_command
from tests.support.http_registry import http_registry


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
        with pytest.raises(RefusedError, match="schemas register"):
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
