"""The composed ingress on a real broker: commands out, replies in by an explicit partition, on both brokers."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from http_ingress.compose import IngressProgram, compose
from schemas.messages import MessageCodec, SchemaIds
from schemas.misconfigured import MisconfiguredError
from streams import settings as engine_settings
from streams.cli.exits import ExitCode
from streams.development.local_engine import Component
from streams.kafka_clients.connection import KafkaConnection
from tests.support.command_line import run_command
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.kafka_responder import responding
from tests.support.metric_pages import value_of

PARTITIONS = 8
INSTANCE = 5
CODEC = MessageCodec(SchemaIds.packaged())
PAYMENT = {"originId": "o", "amount": 1999, "currency": "USD", "token": "tok_1", "orderId": "order-1"}


@pytest.fixture
def topics_ready(broker_address: str) -> str:
    applied = run_command("topics", "apply", "--yes", environment=variables(broker_address))
    assert applied.exit_code == ExitCode.OK, applied.output
    return broker_address


def variables(broker: str, **more: str) -> dict[str, str]:
    return {
        "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": broker,
        "PAYMENT_ENGINE_KAFKA_PARTITIONS": str(PARTITIONS),
        "PAYMENT_ENGINE_HTTP_PORT": "0",
        "PAYMENT_ENGINE_HTTP_DEV": "true",
        "PAYMENT_ENGINE_HTTP_INSTANCE": str(INSTANCE),
        **more,
    }


def loaded(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> engine_settings.Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return engine_settings.load()


@contextlib.asynccontextmanager
async def running(
    broker: str, monkeypatch: pytest.MonkeyPatch, **more: str
) -> AsyncIterator[tuple[str, IngressProgram]]:
    """The instance as `python -m http_ingress` composes it, in this process. Yields its URL, and the instance."""
    settings = loaded(monkeypatch, variables(broker, **more))
    connection = KafkaConnection(bootstrap_servers=broker)
    program = compose(settings, connection=connection, codec=CODEC, webhooks={}, certificates=NO_CERTIFICATES)
    try:
        yield f"http://127.0.0.1:{await program.start()}", program
    finally:
        await program.stop()
        await program.stop()


@contextlib.asynccontextmanager
async def composed(broker: str, monkeypatch: pytest.MonkeyPatch, **more: str) -> AsyncIterator[str]:
    """The same, for tests that are its clients alone. Yields its URL."""
    async with running(broker, monkeypatch, **more) as (url, _):
        yield url


async def test_payment_goes_through_the_log_and_its_reply_comes_back(
    topics_ready: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        composed(topics_ready, monkeypatch) as url,
        responding(topics_ready, CODEC, partitions=PARTITIONS) as engine,
        aiohttp.ClientSession(url) as http,
    ):
        for replayed in (None, "true"):
            response = await http.post("/payments", json=PAYMENT, headers={"Idempotency-Key": "k"})
            assert response.status == 201
            assert response.headers.get("Idempotent-Replayed") == replayed
        assert {envelope.replypartition for _, envelope in engine.appended} == {INSTANCE}
        read = await http.get(response.headers["Location"], headers={"X-Origin-Id": "o"})
        assert (await read.json())["status"] == "captured"
        assert (await http.get("/readyz")).status == 200


async def test_instance_stays_ready_and_says_so_when_its_key_file_is_spoilt(
    topics_ready: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("http_ingress.access.api_keys.KEY_FILE_CHECK_INTERVAL_S", 0.0)
    path = tmp_path / "keys"
    path.write_text("")
    more = {"DEV": "false", "KEYS_FILE": str(path), "KEYS_PEPPER": "a pepper of more than sixteen bytes"}
    settings = {f"PAYMENT_ENGINE_HTTP_{name}": value for name, value in more.items()}
    async with running(topics_ready, monkeypatch, **settings) as (url, program), aiohttp.ClientSession(url) as http:
        assert (program.faults(), program.notes()) == ((), ())
        path.write_text("not a record\n")
        assert program.faults() == ()
        assert "line 1 of the key file" in program.notes()[0]
        assert value_of("key_file_faulty") == 1
        said_to_strangers = await http.get("/readyz")
        assert (said_to_strangers.status, await said_to_strangers.json()) == (200, {"status": "ready"})


async def test_program_says_that_it_is_ready_and_stops_on_a_signal(topics_ready: str, tmp_path: Path) -> None:
    component = Component(
        name="ingress",
        arguments=["-m", "streams.cli", "ingress"],
        environment=variables(topics_ready),
        log_path=tmp_path / "ingress.log",
    )
    await component.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{component.port}") as http:
            assert (await http.get("/readyz")).status == 200
            prefer = {"Idempotency-Key": "k", "Prefer": "wait=0"}
            assert (await http.post("/payments", json=PAYMENT, headers=prefer)).status == 202
    finally:
        code = await component.stop()
    assert code == 0, component.log_tail()
    assert '"event": "dev_mode"' in component.log_tail()
    assert "tok_1" not in component.log_tail()


async def test_program_ends_with_one_line_when_a_setting_is_wrong(tmp_path: Path) -> None:
    component = Component(
        name="ingress",
        arguments=["-m", "streams.cli", "ingress"],
        environment={"PAYMENT_ENGINE_HTTP_DEV": "false"},
        log_path=tmp_path / "ingress.log",
    )
    with pytest.raises(Exception, match="PAYMENT_ENGINE_HTTP_KEYS_FILE"):
        await component.start()
    assert component.process is not None
    assert component.process.returncode == ExitCode.MISCONFIGURED
    assert "Traceback" not in component.log_tail()


def test_instance_is_not_composed_without_keys_or_pepper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection = KafkaConnection(bootstrap_servers="127.0.0.1:1")
    (tmp_path / "keys").touch()
    wrong = loaded(
        monkeypatch,
        {"PAYMENT_ENGINE_HTTP_DEV": "false", "PAYMENT_ENGINE_HTTP_KEYS_FILE": str(tmp_path / "keys")},
    )
    with pytest.raises(MisconfiguredError, match="PEPPER"):
        compose(wrong, connection=connection, codec=CODEC, webhooks={}, certificates=NO_CERTIFICATES)
