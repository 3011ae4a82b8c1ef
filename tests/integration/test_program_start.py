"""A program's first minutes as a process: what its health port says while it waits, and how it is told to stop."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from streams.cli.exits import ExitCode
from streams.development.local_engine import LOOPBACK, free_port
from streams.topology import COMPONENTS
from tests.support.command_line import run_command
from tests.support.embedded_process import embedded_broker_process

NOBODY = "127.0.0.1:1"
WAIT_S = 30.0


@pytest.fixture(scope="module")
def empty_broker() -> Iterator[str]:
    """The address of a broker without topics."""
    with embedded_broker_process() as address:
        yield address


@contextmanager
def _waiting(component: str, health_port: int) -> Iterator["subprocess.Popen[str]"]:
    """The component as a process that has said that no broker answers."""
    environment = {
        "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
        "PAYMENT_ENGINE_HTTP_DEV": "true",
        "PAYMENT_ENGINE_HTTP_PORT": "0",
        "PAYMENT_ENGINE_OPERATORS_DEV": "true",
        "PAYMENT_ENGINE_OPERATORS_PORT": "0",
        "PAYMENT_ENGINE_HEALTH_PORT": str(health_port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", component],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "no broker answers" in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def _asked(port: int, path: str) -> tuple[int, Mapping[str, object]]:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=WAIT_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


@pytest.mark.parametrize(("component", "number"), [("ingress", signal.SIGTERM), ("orders", signal.SIGINT)])
def test_program_is_alive_and_says_why_it_is_not_ready_and_stops_when_told_while_it_waits_for_a_broker(
    component: str, number: signal.Signals
) -> None:
    port = free_port()
    with _waiting(component, port) as process:
        assert _asked(port, "/healthz")[0] == 200
        code, said = _asked(port, "/readyz")
        assert code == 503
        assert "no broker answers" in str(said["faults"])
        process.send_signal(number)
        printed, told = process.communicate(timeout=WAIT_S)
    assert process.returncode == ExitCode.OK
    assert (printed, told) == ("", "")


@pytest.mark.parametrize("component", [*COMPONENTS])
def test_program_names_the_topics_and_the_command_that_makes_them_when_there_are_none(
    empty_broker: str, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka_clients.start_check.APPEAR_TIMEOUT_S", 0.1)
    environment = {
        "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": empty_broker,
        "PAYMENT_ENGINE_HTTP_DEV": "true",
        "PAYMENT_ENGINE_HTTP_PORT": "0",
        "PAYMENT_ENGINE_OPERATORS_DEV": "true",
        "PAYMENT_ENGINE_OPERATORS_PORT": "0",
        "PAYMENT_ENGINE_HEALTH_PORT": "0",
        "PAYMENT_ENGINE_GATEWAY_MOCK_URL": "http://127.0.0.1:8090",  # without one the executor refuses first
    }
    refused = run_command(component, environment=environment)
    assert refused.exit_code == ExitCode.MISCONFIGURED
    assert refused.stdout == ""
    (told,) = refused.stderr.splitlines()
    assert COMPONENTS[component].writes[0] in told
    assert "`payment-engine topics apply`" in told


def test_policy_set_names_the_command_that_mends_it_when_there_are_no_topics(empty_broker: str) -> None:
    environment = {"PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": empty_broker}
    refused = run_command("policy", "set", "m1", "--gateways", "mock", environment=environment)
    assert refused.exit_code == ExitCode.MISCONFIGURED, refused.output
    assert "`payment-engine topics apply`" in refused.stderr
    assert "Traceback" not in refused.output
