"""The desk refuses to start open, or on what it cannot use, and says what to set."""

from pathlib import Path

import pytest

from streams.cli.exits import ExitCode
from tests.support.command_line import run_command

NOBODY = {"PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "PAYMENT_ENGINE_KAFKA_START_WAIT_S": "0"}
PEPPER = {"PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER": "a pepper of more than sixteen bytes"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "PAYMENT_ENGINE_OPERATORS_KEYS_FILE"),
        ({"PAYMENT_ENGINE_OPERATORS_KEYS_FILE": "/nowhere/keys"}, "PAYMENT_ENGINE_OPERATORS_KEYS_FILE"),
        ({"PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER": "short"}, "PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER"),
        ({"PAYMENT_ENGINE_OPERATORS_DEV": "true", "PAYMENT_ENGINE_OPERATORS_HOST": "0.0.0.0"}, "not loopback"),
        (
            {"PAYMENT_ENGINE_OPERATORS_DEV": "true", "PAYMENT_ENGINE_OPERATORS_KEYS_FILE": "keys"},
            "PAYMENT_ENGINE_OPERATORS_DEV",
        ),
        (
            {"PAYMENT_ENGINE_OPERATORS_DEV": "true", "PAYMENT_ENGINE_OPERATORS_HOST": "no.such.host.invalid"},
            "OPERATORS_HOST",
        ),
        ({"PAYMENT_ENGINE_OPERATORS_PROPOSAL_LIFE_H": "0"}, "PAYMENT_ENGINE_OPERATORS_PROPOSAL_LIFE_H"),
    ],
)
def test_desk_refuses_to_start_and_names_the_setting_when_one_is_wrong(given: dict[str, str], named: str) -> None:
    refused = run_command("operators", environment={**NOBODY, **given})
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert refused.stderr.startswith("error: refusing to start: ")
    assert named in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_desk_refuses_to_start_without_a_pepper_when_there_are_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    made = run_command("keys", "create", "--operator", "anna", "--file", str(keys), environment=PEPPER)
    assert made.exit_code == ExitCode.OK
    file = {"PAYMENT_ENGINE_OPERATORS_KEYS_FILE": str(keys), "PAYMENT_ENGINE_OPERATORS_PORT": "0"}
    refused = run_command("operators", environment={**NOBODY, **file})
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_OPERATORS_KEYS_PEPPER" in refused.stderr
    waits = run_command("operators", environment={**NOBODY, **file, **PEPPER})
    assert waits.exit_code == ExitCode.UNREACHABLE  # all that it lacks is a broker
