"""The command line without a broker: what it offers, how it fails, and how fast it says so."""

import json
import resource
import runpy
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import Result

from gateway_adapters.registry import GATEWAYS
from streams.cli import programs
from streams.cli.exits import ExitCode
from streams.cli.times import parse_when, shown_time
from tests.support.command_line import run_command

HELP_LIMIT_S = 0.5
HELP_TRIES = 3
NOBODY = "127.0.0.1:1"
DEV = {
    "PAYMENT_ENGINE_HTTP_DEV": "true",
    "PAYMENT_ENGINE_HTTP_PORT": "0",
    "PAYMENT_ENGINE_GATEWAY_MOCK_URL": "http://127.0.0.1:8090",
}
"""Without keys the ingress refuses to start, without a gateway the executor; both before they look for a broker."""

HEAVY = ("faust", "aiokafka", "confluent_kafka", "aiohttp", "pydantic", "fastavro", "schemas", "http_ingress")


def _run(*words: str, environment: dict[str, str] | None = None) -> Result:
    nobody = {
        "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
        "PAYMENT_ENGINE_KAFKA_START_WAIT_S": "0",
    }
    return run_command(*words, environment={**nobody, **(environment or {})})


def test_help_names_every_command_when_asked() -> None:
    printed = _run("--help").stdout
    for command in ("dev", "ingress", "orders", "claims", "executor", "mock-gateway", "broker", "topics", "schemas"):
        assert f"  {command} " in printed
    for command in ("dlq", "payments", "policy", "accounts", "keys", "settings", "doctor"):
        assert f"  {command} " in printed


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize(
    "group", [(), ("topics",), ("schemas",), ("payments",), ("dlq",), ("policy",), ("accounts",), ("keys",)]
)
def test_help_cuts_no_sentence_off_whatever_the_width(
    group: tuple[str, ...], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = _run(*group, "--help").stdout
    listed = " ".join(printed.partition("Commands:")[2].split())
    assert "..." not in listed
    assert listed.endswith(".")


def test_accounts_of_a_file_are_listed_with_where_their_secrets_come_from_and_without_values(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    file = tmp_path / "accounts.toml"
    file.write_text("[mock.eu]\nurl = 'http://mock'\nwebhook_secret = { file = 'secret' }\n")
    named = {"PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE": str(tmp_path / "another"), GATEWAY_URL: HERE}
    result = _run("accounts", "check", str(file), "-o", "json", environment=named)
    assert json.loads(result.stdout) == [
        {"account": "mock", "webhooks": "/webhooks/mock", "from": "variables", "secrets": {}},
        {
            "account": "mock/eu",
            "webhooks": "/webhooks/mock/eu",
            "from": "file",
            "secrets": {"webhook_secret": "file secret"},
        },
    ]
    told = _run("accounts", "check", environment={"PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE": str(file)}).stdout
    assert "webhook_secret: file secret" in told
    assert "hunter2" not in result.output + told
    assert "no account is set up" in _run("accounts", "check").stderr


def test_program_refuses_to_start_and_says_what_mends_it_when_the_accounts_file_is_not_there(tmp_path: Path) -> None:
    for words in (("executor",), ("ingress",), ("orders",), ("accounts", "check")):
        result = _run(*words, environment={"PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE": str(tmp_path / "accounts.toml")})
        assert result.exit_code == ExitCode.MISCONFIGURED
        assert "`payment-engine accounts example` prints a file to begin with" in result.stderr
        assert "Traceback" not in result.output


def test_example_of_an_accounts_file_is_printed() -> None:
    assert "# [mock.default]" in _run("accounts", "example").stdout


def test_help_takes_less_than_half_a_second_when_nothing_else_runs() -> None:
    # Processor time, not the clock on the wall: what other tests do at the same time does not count.
    assert min(_processor_time_of_help_s() for _ in range(HELP_TRIES)) < HELP_LIMIT_S


def _processor_time_of_help_s() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "streams.cli", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_imports_nothing_heavy_when_it_is_printed() -> None:
    script = (
        "import sys; sys.argv = ['payment-engine', '--help']\n"
        "from streams.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('imported:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize(
    "words",
    [
        ["dlq", "list"],
        ["dlq", "show", "0:0"],
        ["dlq", "redrive", "--all", "--yes"],
        ["payments", "show", "order-1", "--origin", "m1"],
        ["policy", "show"],
        ["policy", "delete", "m1", "--yes"],
        ["policy", "set", "m1", "--gateways", "mock"],
        ["policy", "explain", "--origin", "m1", "--amount", "1999", "--currency", "EUR"],
        ["topics", "plan"],
        ["topics", "apply", "--yes"],
        ["orders"],
        ["claims"],
        ["executor"],
        ["ingress"],
    ],
)
def test_command_says_unreachable_in_one_line_when_no_broker_answers(words: Sequence[str]) -> None:
    result = _run(*words, environment=DEV)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stderr == f"error: no broker answers ({NOBODY}: connection refused)\n"
    assert result.stdout == ""


@pytest.mark.parametrize("program", ["orders", "claims", "executor", "ingress"])
def test_program_asks_again_when_no_broker_answers_yet(program: str) -> None:
    result = _run(program, environment={**DEV, "PAYMENT_ENGINE_KAFKA_START_WAIT_S": "1.5"})
    assert result.exit_code == ExitCode.UNREACHABLE
    first, last = result.stderr.splitlines()
    assert first == f"no broker answers ({NOBODY}: connection refused); asking again for 1.5 s"
    assert last == f"error: no broker answers ({NOBODY}: connection refused)"


@pytest.mark.parametrize(
    "words", [["orders"], ["claims"], ["executor"], ["ingress"], ["dlq", "list"], ["doctor"], ["topics", "plan"]]
)
def test_command_refuses_to_start_and_names_the_setting_when_one_is_wrong(words: Sequence[str]) -> None:
    result = _run(*words, environment={"PAYMENT_ENGINE_KAFKA_PARTITIONS": "zero"})
    assert result.exit_code == ExitCode.MISCONFIGURED
    assert result.stderr.startswith("error: refusing to start: PAYMENT_ENGINE_KAFKA_PARTITIONS")
    assert "Traceback" not in result.output


GATEWAY_URL = "PAYMENT_ENGINE_GATEWAY_MOCK_URL"
DEFAULT_GATEWAYS = "PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS"
WEBHOOK_SECRET = "PAYMENT_ENGINE_GATEWAY_MOCK_WEBHOOK_SECRET"
HERE = "http://127.0.0.1:8090"
KNOWN = ", ".join(sorted(GATEWAYS))


@pytest.mark.parametrize("program", ["orders", "claims", "executor", "ingress"])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({GATEWAY_URL: "mock-gateway:8090"}, f"{GATEWAY_URL}: must begin with"),
        ({GATEWAY_URL: "http://user:hunter2@gateway"}, f"{GATEWAY_URL}: must not hold a user"),
        ({DEFAULT_GATEWAYS: "mock,nobody"}, f"{DEFAULT_GATEWAYS}: nobody: no such gateway; known: {KNOWN}"),
        ({WEBHOOK_SECRET: "hunter2"}, f"{GATEWAY_URL}: Field required"),
    ],
)
def test_program_refuses_to_start_without_waiting_when_a_gateway_is_set_up_wrongly(
    program: str, given: dict[str, str], told: str
) -> None:
    result = _run(program, environment={"PAYMENT_ENGINE_KAFKA_START_WAIT_S": "300", **given})
    assert result.exit_code == ExitCode.MISCONFIGURED
    assert result.stderr.startswith(f"error: refusing to start: {told}")
    assert "hunter2" not in result.output


def test_executor_refuses_to_start_and_says_what_to_set_when_it_has_no_gateway_to_call() -> None:
    result = _run("executor", environment={"PAYMENT_ENGINE_KAFKA_START_WAIT_S": "300"})
    assert result.exit_code == ExitCode.MISCONFIGURED
    assert result.stderr.startswith("error: refusing to start: no gateway is set up")
    assert "payment-engine accounts example" in result.stderr


@pytest.mark.parametrize("secret", [{}, {WEBHOOK_SECRET: "whsec_mock"}])
def test_ingress_refuses_to_start_without_waiting_when_anybody_could_sign_webhooks(secret: dict[str, str]) -> None:
    environment = {"PAYMENT_ENGINE_KAFKA_START_WAIT_S": "300", GATEWAY_URL: HERE, **secret}
    result = _run("ingress", environment=environment)
    assert result.exit_code == ExitCode.MISCONFIGURED
    assert result.stderr.startswith(f"error: refusing to start: {WEBHOOK_SECRET}: ")
    assert "set " in result.stderr


@pytest.mark.parametrize(
    ("program", "more"),
    [
        ("executor", {}),  # it verifies no webhook
        ("orders", {}),
        ("ingress", {"PAYMENT_ENGINE_HTTP_DEV": "true"}),
        ("ingress", {WEBHOOK_SECRET: "own"}),
    ],
)
def test_program_does_not_ask_for_a_webhook_secret_when_it_needs_none(
    program: str, more: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "keys").touch()
    keys = {
        "PAYMENT_ENGINE_HTTP_KEYS_FILE": str(tmp_path / "keys"),
        "PAYMENT_ENGINE_HTTP_KEYS_PEPPER": "a pepper of more than sixteen bytes",
        "PAYMENT_ENGINE_HTTP_PORT": "0",
    }
    given = more if "PAYMENT_ENGINE_HTTP_DEV" in more else keys | more
    assert _run(program, environment={GATEWAY_URL: HERE, **given}).exit_code == ExitCode.UNREACHABLE


EXPLAIN = ["policy", "explain", "--origin", "m1", "--amount", "1", "--currency", "EUR"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["dlq", "redrive"], "--all"),
        (["dlq", "discard", "--note", "x"], "--all"),
        (["dlq", "discard", "--all"], "--note"),
        (["dlq", "list", "--reason", "bored"], "undecodable"),
        (["dlq", "list", "--state", "lost"], "redriven"),
        (["dlq", "list", "--at", "nowhere"], "partition:offset"),
        (["dlq", "list", "--since", "yesterday"], "2h"),
        (["dlq", "redrive", "--all", "--rate", "0"], "0.01"),
        (["dlq", "redrive", "--all", "--limit", "0"], "--limit"),
        (["policy", "set", "m1", "--gateways", "mock/E U"], "lower-case"),
        (["policy", "set", "m1", "--gateways", "mock", "--limit", "USD"], "MINOR_UNITS"),
        (["policy", "set", "m1", "--gateways", "mock", "--max-attempts", "11"], "10"),
        (["policy", "set", "m1", "--gateways", "mock", "--fallback-class", "sad"], "no such class"),
        (["policy", "set", "m1", "--gateways", "mock", "--rules", "/nowhere/rules"], "cannot be read"),
        (["policy", "explain", "--origin", "m1", "--amount", "1"], "--currency"),
        ([*EXPLAIN, "--country", "de"], "ISO 3166-1"),
        ([*EXPLAIN, "--token-kind", "mock="], "GATEWAY=KIND"),
        ([*EXPLAIN, "--order", "a|b"], "order"),
        (["policy", "explain", "--origin", "m1", "--amount", "0", "--currency", "EUR"], "amount"),
        (["topics", "apply", "-o", "json"], "--yes"),
        (["nonsense"], "nonsense"),
    ],
)
def test_command_explains_its_use_when_the_command_line_is_wrong(words: Sequence[str], told: str) -> None:
    result = _run(*words)
    assert result.exit_code == ExitCode.USAGE
    assert told in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["policy", "set", "m1", "--gateways", "mock,nobody"],
            f"names nobody, which this engine does not have; known: {KNOWN}",
        ),
        (["policy", "set", "m|1", "--gateways", "mock"], "origin_id"),
        (["policy", "set", "m1", "--gateways", "mock,mock"], "repeat"),
        (["policy", "set", "4242424242424242", "--gateways", "mock"], "card number"),
        (["policy", "set", "m1", "--gateways", "mock", "--limit", "DOLLAR=1"], "ISO 4217"),
        (["policy", "set", "m1", "--gateways", "mock", "--fallback-class", "fraud"], "must not hold fraud"),
        (["policy", "set", "m1", "--gateways", "mock", "--rules-dry-run"], "needs some"),
        (["payments", "show", "order-1"], "--origin"),
        (["schemas", "register"], "PAYMENT_ENGINE_REGISTRY_URL"),
    ],
)
def test_command_says_refused_when_the_rules_forbid_it(words: Sequence[str], told: str) -> None:
    result = _run(*words)
    assert result.exit_code == ExitCode.REFUSED
    assert told in result.stderr
    assert "4242" not in result.output


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("[{}]", "rule 1: routes must be a list"),
        ('[{"routes": ["nobody"]}]', f"rule 1: routes names nobody, which this engine does not have; known: {KNOWN}"),
        ('[{"routes": ["mock"], "currencies": ["eur"]}]', "rule 1: currencies must be ISO 4217"),
    ],
)
def test_policy_is_refused_with_the_place_in_its_file_when_its_rules_cannot_work(
    rules: str, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "rules.json"
    file.write_text(rules)
    result = _run("policy", "set", "m1", "--gateways", "mock", "--rules", str(file))
    assert (result.exit_code, told in result.stderr) == (ExitCode.REFUSED, True)


@pytest.mark.parametrize(("raw", "told"), [(b"\xff", "not UTF-8"), (b" " * 1_048_577, "larger than")])
def test_policy_is_refused_when_its_file_of_rules_is_no_text_or_too_large(
    raw: bytes, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "rules.json"
    file.write_bytes(raw)
    result = _run("policy", "set", "m1", "--gateways", "mock", "--rules", str(file))
    assert (result.exit_code, told in " ".join(result.stderr.split())) == (ExitCode.USAGE, True)


def test_schemas_check_passes_when_the_package_is_as_released() -> None:
    result = _run("schemas", "check")
    assert result.exit_code == ExitCode.OK
    assert "0 faults" in result.stdout


def test_schemas_register_says_unreachable_when_no_registry_answers() -> None:
    result = _run("schemas", "register", environment={"PAYMENT_ENGINE_REGISTRY_URL": f"http://{NOBODY}"})
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "registry" in result.stderr


@pytest.mark.parametrize("name", [*programs.COMPONENTS, *programs.SERVERS])
def test_program_is_found_by_its_modules_name_when_the_command_line_names_it(name: str) -> None:
    if name in programs.COMPONENTS:
        module, composer, _ = programs.COMPONENTS[name]
        assert callable(getattr(import_module(module), composer))
    else:
        module, _ = programs.SERVERS[name]
        found = import_module(module)
        assert callable(found.parsed)
        assert callable(found.serve)


@pytest.mark.parametrize("program", ["mock-gateway", "broker"])
def test_server_explains_its_options_when_asked(program: str) -> None:
    asked = _run(program, "--help")
    assert (asked.exit_code, "--port" in asked.stdout) == (ExitCode.OK, True)
    wrong = _run(program, "--port", "x")
    assert (wrong.exit_code, "usage: payment-engine" in wrong.stderr) == (ExitCode.USAGE, True)


@pytest.mark.parametrize("text", ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00", "2026-11-22T12:00:00+02:00"])
def test_parse_when_takes_utc_when_no_offset_is_named(text: str) -> None:
    at_ms = parse_when(text)
    assert at_ms is not None
    assert shown_time(at_ms) == "2026-11-22T10:00:00.000Z"


def test_parse_when_counts_back_when_told_how_long_ago() -> None:
    two_hours, now = parse_when("2h"), parse_when("0s")
    assert two_hours is not None
    assert now is not None
    assert 7_200_000 <= now - two_hours < 7_260_000


def test_dev_says_so_in_one_line_when_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run_command("dev", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == ExitCode.MISCONFIGURED
    assert "is taken" in result.stderr


def test_main_ends_the_process_with_the_commands_exit_code_when_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["payment-engine", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("streams.cli", run_name="__main__")
    assert ended.value.code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "imported"),
    [
        (["orders"], "typer"),
        (["orders"], "streams.settings"),
        (["ingress"], "streams.cli.program"),
        (["broker"], "streams.development.embedded_broker"),
        (["topics", "plan"], "streams.settings"),
    ],
)
def test_interrupt_ends_a_command_without_a_trace_when_it_still_imports(words: Sequence[str], imported: str) -> None:
    script = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {imported!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            for _ in range(1000): pass\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"sys.argv = ['payment-engine', *{list(words)!r}]\n"
        "from streams.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in done.stderr
