"""One table of exit codes: what each error becomes, and that a wrong setting is told by every program and tool."""

import errno
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import typer
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError
from pydantic.fields import FieldInfo

from http_ingress.replies.waiters import FeedLostError
from schemas.misconfigured import MisconfiguredError
from streams.cli.exits import ExitCode, as_markdown, exit_of
from streams.cli.terminal import expected_failures
from streams.development.local_engine import ComponentFailedError
from streams.kafka.errors import (
    DeliveryGapError,
    LocalRowsLockedError,
    LocalRowsUnwritableError,
    StalledError,
    TooLargeError,
    TopicsNotReadyError,
)
from streams.kafka_clients.errors import UnconfirmedError
from streams.operator_tools.errors import NotFoundError, RefusedError, UnreachableError
from streams.settings import load, variables
from tests.support.command_line import run_command

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
TABLE_START, TABLE_END = "<!-- exit codes -->", "<!-- /exit codes -->"
NOBODY = "127.0.0.1:1"
MIN_SHOWN_CHARS = 3
"""What is shorter is in any sentence."""
QUIET = {
    "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
    "PAYMENT_ENGINE_KAFKA_START_WAIT_S": "0",
    "PAYMENT_ENGINE_HTTP_DEV": "true",
    "PAYMENT_ENGINE_HTTP_PORT": "0",
    "PAYMENT_ENGINE_GATEWAY_MOCK_URL": "http://127.0.0.1:8090",
    "PAYMENT_ENGINE_GATEWAY_MOCK_WEBHOOK_SECRET": "own",
}

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("ingress",),
    ("orders",),
    ("claims",),
    ("executor",),
    ("dev", "--port", "0"),
    ("demo",),
    ("doctor",),
    ("policy", "show"),
    ("policy", "set", "m1", "--gateways", "mock"),
    ("policy", "delete", "m1", "--yes"),
    ("topics", "plan"),
    ("topics", "apply", "--yes"),
    ("dlq", "list"),
    ("dlq", "redrive", "--all", "--yes"),
    ("payments", "show", "order-1", "--origin", "m1"),
    ("schemas", "register"),
    ("settings", "-o", "json"),
    ("keys", "create", "m1"),
)
"""Everything on the command line that reads settings."""

TEXTS: Mapping[str, tuple[str, ...]] = {
    "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": ("", " , ", "a:port", "a:", "a:0", "a:65536", "a b:1", ":9092", "a:1:2x"),
    "PAYMENT_ENGINE_STREAM_INSTANCE_ID": ("", "a b", "x" * 250, "a/b"),
    "PAYMENT_ENGINE_EXECUTOR_INSTANCE_ID": ("", "a b", "ä"),
    "PAYMENT_ENGINE_HTTP_HOST": ("",),
    "PAYMENT_ENGINE_REGISTRY_USER": ("", "engine:secret"),
    "PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS": ("nobody", "mock;nobody"),
}
"""What a text cannot be, where not every text will do."""


def _bad_values(name: str, field: FieldInfo) -> Iterator[str]:
    """What a variable of this type cannot be."""
    choices = [each for each in get_args(field.annotation) if each is not type(None)]
    kind: Any = choices[0] if choices and get_origin(field.annotation) is not Literal else field.annotation
    rules = list(field.metadata)
    if get_origin(kind) is Annotated:
        kind, *inner = get_args(kind)
        rules += inner
    bounds = [rule for rule in _flat(rules) if any(hasattr(rule, each) for each in ("ge", "gt", "le", "lt"))]
    if get_origin(kind) is Literal:
        yield from ("", "nonsense", get_args(kind)[0].swapcase())
    elif kind is bool:
        yield from ("", "maybe", "2")
    elif kind is int:
        yield from ("", "many", "1.5", "0x10")
        yield from (str(value) for value in _beyond(bounds, 1))
    elif kind is float:
        yield from ("", "soon", "nan", "inf")
        yield from (str(value) for value in _beyond(bounds, 0.001))
    elif name.endswith("_URL"):
        yield from ("", "some-host", "ftp://a", "http:///", "http://a:port", "http://a b")
    elif name in TEXTS:
        yield from TEXTS[name]
    elif kind is Path:
        yield ""
    if "CAFILE" in name:
        yield from ("/nowhere/ca.pem", "/", __file__)


def _flat(rules: list[Any]) -> Iterator[Any]:
    for rule in rules:
        yield from getattr(rule, "metadata", None) or [rule]


def _beyond(bounds: list[Any], step: float) -> Iterator[float]:
    for rule in bounds:
        for name, direction in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            limit = getattr(rule, name, None)
            if limit is not None and math.isfinite(limit):
                yield limit + direction * step


BAD = [(name, value) for name, field in variables() for value in _bad_values(name, field)]
UNBOUNDED_TEXTS = {name for name, field in variables() if name not in {each for each, _ in BAD}}


def test_operations_hold_the_table_of_codes() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    assert text.partition(TABLE_START)[2].partition(TABLE_END)[0].strip() == as_markdown()


def test_every_setting_has_bad_values_when_not_every_text_will_do() -> None:
    """What is left is judged by whoever opens it: paths, secrets, names of gateways, an address to listen on."""
    kinds = {name: str(dict(variables())[name].annotation) for name in UNBOUNDED_TEXTS}
    assert {
        name for name, kind in kinds.items() if not any(each in kind for each in ("Path", "str", "Secret"))
    } == set()


@pytest.mark.parametrize(("name", "value"), BAD)
def test_setting_is_refused_and_named_when_its_value_cannot_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(MisconfiguredError) as refused:
        load()
    # An account of which anything is said lacks its other fields, too.
    assert any(fault.startswith(f"{name}: ") for fault in str(refused.value).split("; "))
    may_be_a_secret = len(value) >= MIN_SHOWN_CHARS and name != "PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS"
    assert not may_be_a_secret or value not in str(refused.value)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_refuses_to_start_and_names_every_wrong_setting(words: tuple[str, ...]) -> None:
    one_each = dict(reversed(BAD))
    result = run_command(*words, environment={**QUIET, **one_each})
    assert result.exit_code == ExitCode.MISCONFIGURED, result.output
    told, *more = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert more == []
    assert told.startswith("error: refusing to start: PAYMENT_ENGINE_")
    assert [name for name in one_each if f"{name}: " not in told] == []
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("ingress",), "PAYMENT_ENGINE_HTTP_HOST", "no.such.host.invalid"),
        (("ingress",), "PAYMENT_ENGINE_HTTP_HOST", "203.0.113.1"),
        (("ingress",), "PAYMENT_ENGINE_HTTP_HOST", "x" * 70),
        (("ingress",), "PAYMENT_ENGINE_HTTP_KEYS_FILE", "/nowhere/keys"),
        (("ingress",), "PAYMENT_ENGINE_HTTP_KEYS_FILE", "/"),
        (("ingress",), "PAYMENT_ENGINE_HTTP_KEYS_FILE", __file__),
        (("ingress",), "PAYMENT_ENGINE_HTTP_KEYS_PEPPER", ""),
        (("ingress",), "PAYMENT_ENGINE_HTTP_KEYS_PEPPER", "short"),
        (("orders",), "PAYMENT_ENGINE_STREAM_STATE_DIR", f"{__file__}/rows"),
        (("claims",), "PAYMENT_ENGINE_STREAM_STATE_DIR", "/proc/rows"),
        (("keys", "create", "m1"), "PAYMENT_ENGINE_HTTP_KEYS_PEPPER", "short"),
    ],
)
def test_component_judges_what_it_opens_before_it_waits_for_registry_or_broker(
    words: tuple[str, ...], name: str, value: str, tmp_path: Path
) -> None:
    away = {"PAYMENT_ENGINE_REGISTRY_URL": f"http://{NOBODY}", "PAYMENT_ENGINE_REGISTRY_START_WAIT_S": "300"}
    environment = {**QUIET, **away, "PAYMENT_ENGINE_KAFKA_START_WAIT_S": "300", name: value}
    if "KEYS" in name:
        (tmp_path / "keys").touch()
        keys = {
            "PAYMENT_ENGINE_HTTP_DEV": "false",
            "PAYMENT_ENGINE_HTTP_KEYS_FILE": str(tmp_path / "keys"),
            "PAYMENT_ENGINE_HTTP_KEYS_PEPPER": "a pepper of more than sixteen bytes",
        }
        environment = {**environment, **keys, name: value}
    result = run_command(*words, environment=environment)
    assert result.exit_code == ExitCode.MISCONFIGURED, result.output
    assert result.stderr.startswith("error: refusing to start: ")
    assert name in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"PAYMENT_ENGINE_HTTP_HOST": "0.0.0.0"}, "PAYMENT_ENGINE_HTTP_HOST"),
        ({"PAYMENT_ENGINE_HTTP_HOST": "::"}, "PAYMENT_ENGINE_HTTP_HOST"),
        ({"PAYMENT_ENGINE_HTTP_HOST": "::ffff:0.0.0.0"}, "PAYMENT_ENGINE_HTTP_HOST"),
        ({"PAYMENT_ENGINE_HTTP_KEYS_FILE": "/nowhere/keys"}, "PAYMENT_ENGINE_HTTP_KEYS_FILE"),
        (
            {"PAYMENT_ENGINE_HTTP_KEYS_FILE": "/nowhere/keys", "PAYMENT_ENGINE_HTTP_DEV_OFF_LOOPBACK": "true"},
            "PAYMENT_ENGINE_HTTP_KEYS_FILE",
        ),
    ],
)
def test_dev_mode_is_refused_where_strangers_reach_it_and_beside_a_key_file(given: dict[str, str], told: str) -> None:
    refused = run_command("ingress", environment={**QUIET, **given})
    assert refused.exit_code == ExitCode.MISCONFIGURED, refused.output
    assert refused.stderr.startswith("error: refusing to start: PAYMENT_ENGINE_HTTP_DEV: ")
    assert told in refused.stderr


def test_dev_mode_starts_on_any_address_when_that_is_said() -> None:
    given = {"PAYMENT_ENGINE_HTTP_HOST": "0.0.0.0", "PAYMENT_ENGINE_HTTP_DEV_OFF_LOOPBACK": "true"}
    assert run_command("ingress", environment={**QUIET, **given}).exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MisconfiguredError("no such user"), ExitCode.MISCONFIGURED),
        (TopicsNotReadyError("x is missing"), ExitCode.MISCONFIGURED),
        (LocalRowsLockedError("in use"), ExitCode.MISCONFIGURED),
        (TopicAuthorizationFailedError("commands"), ExitCode.MISCONFIGURED),
        (UnconfirmedError("silence"), ExitCode.UNREACHABLE),
        (FeedLostError("silence"), ExitCode.UNREACHABLE),
        (StalledError("nothing moved"), ExitCode.UNREACHABLE),
        (UnreachableError("no broker"), ExitCode.UNREACHABLE),
        (KafkaConnectionError("refused"), ExitCode.UNREACHABLE),
        (TimeoutError(), ExitCode.UNREACHABLE),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), ExitCode.UNREACHABLE),
        (RefusedError("no"), ExitCode.REFUSED),
        (NotFoundError("no such order"), ExitCode.NOT_FOUND),
        (DeliveryGapError("a gap"), ExitCode.FAILED),
        (LocalRowsUnwritableError("IO error: No space left on device"), ExitCode.FAILED),
        (OSError(errno.ENOSPC, "No space left on device", "/rows"), ExitCode.FAILED),
        (ComponentFailedError("orders-0 keeps ending"), ExitCode.FAILED),
    ],
)
def test_command_ends_in_one_line_when_its_operator_can_mend_it(
    error: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, expected_failures():
        raise error
    assert ended.value.exit_code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert len(line) > len("error: ")


@pytest.mark.parametrize("defect", [ZeroDivisionError(), TooLargeError("a row of 1 MB"), KeyError("x")])
def test_defect_keeps_its_trace(defect: Exception) -> None:
    assert exit_of(defect) is None
    with pytest.raises(type(defect)), expected_failures():
        raise defect


def test_message_of_a_missing_topic_names_the_command_that_mends_it() -> None:
    known = exit_of(TopicsNotReadyError("payments.commands.v1 is missing"))
    assert known is not None
    assert "`payment-engine topics apply`" in known[1]


def test_command_ends_without_a_word_when_nobody_reads_its_answer_to_the_end() -> None:
    command = [sys.executable, "-m", "streams.cli", "settings", "-o", "markdown"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before anything is written
        told = process.stderr.read()
    assert (process.returncode, told) == (ExitCode.FAILED, b"")
