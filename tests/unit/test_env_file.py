"""`.env.example` is the settings, and a copy of it is read as Compose reads it, or refused."""

import os
import re
from pathlib import Path

import pytest
import yaml

from gateway_adapters.registry import GATEWAYS
from schemas.misconfigured import MisconfiguredError
from streams.cli.exits import ExitCode
from streams.cli.settings import env_file, env_file_values
from streams.setting_kinds import PREFIX
from streams.settings import add_to_environment, load, variables
from tests.support.command_line import run_command

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
NAME = "PAYMENT_ENGINE_KAFKA_SASL_PASSWORD"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without settings, and as it was before the test afterwards, whatever a file has put into it."""
    for name in {*(name for name, _ in variables()), f"{PREFIX}KAFKA_PARTITION", "OTHER"}:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / ".env"
    path.write_text(text)
    return path


def test_example_is_what_the_command_prints() -> None:
    assert EXAMPLE.read_text("utf-8") == env_file() + "\n", "run `payment-engine settings -o env > .env.example`"
    assert run_command("settings", "-o", "env").stdout == EXAMPLE.read_text("utf-8")


def test_example_names_every_variable_once_and_no_secret() -> None:
    named = re.findall(rf"^#({PREFIX}\w+)=", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    assert named == [name for name, _ in variables()]
    assert "whsec" not in EXAMPLE.read_text("utf-8")


def test_copy_of_the_example_changes_nothing(tmp_path: Path) -> None:
    before = load()
    add_to_environment(env_file_values(_written(tmp_path, EXAMPLE.read_text("utf-8"))))
    assert load() == before


def test_copy_of_the_example_is_the_defaults_when_every_line_with_a_value_counts(tmp_path: Path) -> None:
    before = load()
    # An account of which anything is said must be set up whole: its lines count only all together.
    of_accounts = "|".join(f"GATEWAY_{name.upper()}_" for name in GATEWAYS)
    counts = rf"^#({PREFIX}(?!{of_accounts})\w+=.)"
    text = re.sub(counts, r"\1", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    add_to_environment(env_file_values(_written(tmp_path, text)))
    assert "PAYMENT_ENGINE_KAFKA_PARTITIONS" in os.environ
    assert load() == before


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (f"{NAME}=plain", "plain"),
        (f"export {NAME} = plain # why", "plain"),
        (f"{NAME}='a b # $c'", "a b # $c"),
        (f'{NAME}="a b # c"', "a b # c"),
    ],
)
def test_line_is_read_as_compose_reads_it(tmp_path: Path, line: str, value: str) -> None:
    add_to_environment(env_file_values(_written(tmp_path, f"# a comment\n\n{line}\nOTHER=x\n")))
    assert os.environ[NAME] == value


def test_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "mine")
    add_to_environment(env_file_values(_written(tmp_path, f"{NAME}=theirs\n")))
    assert os.environ[NAME] == "mine"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"OTHER=1\n{NAME}=pa$word\n", "line 2: PAYMENT_ENGINE_KAFKA_SASL_PASSWORD holds a $"),
        (f'{NAME}="pa$word"\n', "line 1"),
        (f"\n{NAME}='open\n", "line 2"),
        ("=1\n", "line 1"),
    ],
)
def test_line_is_refused_and_not_shown_when_compose_would_read_it_otherwise(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(MisconfiguredError) as refused:
        add_to_environment(env_file_values(_written(tmp_path, text)))
    assert told in str(refused.value)
    assert "word" not in str(refused.value).lower().replace("password", "")


def test_command_reads_the_file_that_it_is_told(tmp_path: Path) -> None:
    path = _written(tmp_path, "PAYMENT_ENGINE_KAFKA_PARTITIONS=zero\nPAYMENT_ENGINE_KAFKA_PARTITION=4\n")
    result = run_command("--env-file", str(path), "topics", "plan")
    assert result.exit_code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_KAFKA_PARTITIONS: " in result.stderr
    assert "PAYMENT_ENGINE_KAFKA_PARTITION: no such setting" in result.stderr


def test_command_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run_command("--env-file", str(tmp_path / "nowhere"), "topics", "plan")
    assert (result.exit_code, "nowhere cannot be read" in result.stderr) == (ExitCode.MISCONFIGURED, True)


def test_compose_and_make_read_the_file_when_it_is_there() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = [each for each in services.values() if "build" in each]
    assert len(ours) >= len(("topics", "ingress", "orders", "claims", "executor"))
    assert [each["env_file"] for each in ours] == [[{"path": ".env", "required": False}]] * len(ours)
    assert "$(if $(wildcard .env),--env-file .env) dev" in (ROOT / "Makefile").read_text()
