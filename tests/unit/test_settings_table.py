"""The generated table of settings: every variable with a meaning, and the docs' copy up to date."""

import json
from pathlib import Path

from streams.cli.exits import ExitCode
from streams.cli.settings import TABLE_END, TABLE_START, markdown
from streams.settings import variables
from tests.support.command_line import run_command

CONFIGURATION = Path(__file__).parents[2] / "docs" / "configuration.md"


def _run(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    result = run_command("settings", *words, environment=environment)
    return result.exit_code, result.stdout, result.stderr


def test_readme_holds_the_generated_table() -> None:
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert TABLE_START in text
    table = text.partition(TABLE_START)[2].partition(TABLE_END)[0].strip()
    assert table == markdown(), (
        "run `payment-engine settings -o markdown` and put it between the markers of docs/configuration.md"
    )


def test_every_setting_has_a_meaning_when_the_table_is_printed() -> None:
    code, printed, _ = _run("-o", "json")
    rows = json.loads(printed)
    assert code == ExitCode.OK
    assert [row["variable"] for row in rows] == [name for name, _ in variables()]
    assert [row["variable"] for row in rows if not row["meaning"] or not row["values"]] == []


def test_table_says_unit_and_bounds_when_a_setting_has_them() -> None:
    rows = {row["variable"]: row for row in json.loads(_run("-o", "json")[1])}
    assert rows["PAYMENT_ENGINE_HTTP_PORT"]["values"] == "integer, 0 to 65535"
    assert rows["PAYMENT_ENGINE_KAFKA_SECURITY_PROTOCOL"]["values"].startswith("PLAINTEXT, SSL")
    assert rows["PAYMENT_ENGINE_REGISTRY_TIMEOUT_S"]["values"] == "number, above 0 to 86400"
    assert rows["PAYMENT_ENGINE_STREAM_STATE_DIR"]["values"] == "path"
    assert rows["PAYMENT_ENGINE_HTTP_DEV"]["default"] == "false"


def test_table_hides_secrets_when_they_have_defaults_or_values() -> None:
    secret = {"PAYMENT_ENGINE_HTTP_KEYS_PEPPER": "do-not-print-me", "PAYMENT_ENGINE_KAFKA_SASL_PASSWORD": "nor-me"}
    for form in ("text", "json", "markdown"):
        printed = "".join(map(str, _run("-o", form, environment=secret)))
        assert "whsec_mock" not in printed
        assert "do-not-print-me" not in printed
        assert "nor-me" not in printed


def test_text_table_names_every_variable_when_printed_for_a_person() -> None:
    _, printed, _ = _run()
    assert [name for name, _ in variables() if name not in printed] == []


def test_settings_command_names_the_fault_when_the_environment_is_wrong() -> None:
    code, printed, error = _run(environment={"PAYMENT_ENGINE_HTTP_PORT": "eighty"})
    assert code == ExitCode.MISCONFIGURED
    assert "PAYMENT_ENGINE_HTTP_PORT" in error
    assert "eighty" not in error
    assert "PAYMENT_ENGINE_KAFKA_PARTITIONS" in printed
