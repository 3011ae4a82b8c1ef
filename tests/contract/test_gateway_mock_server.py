"""The Mock server as a process: what survives kill -9, its clock, its webhooks, its witness stand, and its pace."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from pydantic import SecretStr

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import UnauthenticError
from gateway_adapters.mock.accounts import ServedAccount
from gateway_adapters.mock.client import MockGateway
from gateway_adapters.mock.latency import LogNormal
from gateway_adapters.mock.program import parsed, serve
from gateway_adapters.mock.server import ServerSettings
from gateway_adapters.mock.spec import MockAccount
from gateway_adapters.mock.storage import MAX_WAITING_JOBS, Storage, StorageBusyError
from schemas.misconfigured import MisconfiguredError
from schemas.records.gateway import CallDetails
from schemas.vocabulary import CallKind, Outcome
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.gateway_requests import follow_up, fresh_order, inquiry_about, payment_request
from tests.support.mock_gateway_process import SECRET, MockGatewayProcess, WebhookReceiver, until

KILLS = 3
CALLS_BETWEEN_KILLS = 50


@pytest.fixture
def process(tmp_path: Path) -> Iterator[MockGatewayProcess]:
    with MockGatewayProcess(tmp_path / "ledger.sqlite") as running:
        yield running


@asynccontextmanager
async def gateway_at(process: MockGatewayProcess) -> AsyncIterator[MockGateway]:
    gateway = MockGateway(MockAccount(url=process.url, webhook_secret=SecretStr(SECRET)))
    try:
        yield gateway
    finally:
        await gateway.close()


async def test_answered_calls_and_their_keys_survive_kill_9(process: MockGatewayProcess) -> None:
    requests = [payment_request(fresh_order(), CallKind.SALE) for _ in range(KILLS * CALLS_BETWEEN_KILLS)]
    answered: dict[str, CallResult] = {}
    for part in range(KILLS):
        async with gateway_at(process) as gateway:
            batch = requests[part * CALLS_BETWEEN_KILLS :][:CALLS_BETWEEN_KILLS]
            tasks = {request.op_id: asyncio.create_task(gateway.call(request)) for request in batch}
            await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            process.kill()
            await asyncio.wait(tasks.values())
            results = {op: task.result() for op, task in tasks.items()}
            answered |= {op: each for op, each in results.items() if each.outcome is Outcome.SUCCEEDED}
        process.start()
    assert answered
    async with gateway_at(process) as gateway:
        repeated = await asyncio.gather(*(gateway.call(request) for request in requests))
        for request, again in zip(requests, repeated, strict=True):
            assert again.outcome is Outcome.SUCCEEDED
            if request.op_id in answered:
                assert again.replayed
                assert again.gateway_reference == answered[request.op_id].gateway_reference
            assert process.effects(request.order_id) == [("sale", 10_000)]


async def test_pending_operation_is_decided_and_told_by_a_server_that_was_killed_meanwhile(
    process: MockGatewayProcess,
) -> None:
    request = payment_request(fresh_order(), CallKind.SALE, token="tok_mock_pending_then_succeeded")
    async with gateway_at(process) as gateway:
        assert (await gateway.call(request)).outcome is Outcome.PENDING
    process.kill()
    process.start()
    async with WebhookReceiver() as receiver, gateway_at(process) as gateway:
        await process.post("/webhooks/target", {"url": receiver.url})
        await until(lambda: len(receiver.delivered) == 1, "the webhook")
        assert gateway.parse_webhook({}, receiver.delivered[0].body)[0].outcome is Outcome.SUCCEEDED
    assert process.effects(request.order_id) == [("sale", 10_000)]


async def test_webhook_is_delivered_again_until_it_is_taken(process: MockGatewayProcess) -> None:
    request = payment_request(fresh_order(), CallKind.SALE, token="tok_mock_pending_then_failed")
    async with WebhookReceiver(refusals=2) as receiver, gateway_at(process) as gateway:
        await process.post("/webhooks/target", {"url": receiver.url})
        await gateway.call(request)
        await until(lambda: len(receiver.delivered) == 1, "the webhook")
        assert receiver.attempts == 3


async def test_refund_of_a_refund_fail_token_succeeds_and_is_taken_back(process: MockGatewayProcess) -> None:
    first = payment_request(fresh_order(), CallKind.SALE, token="tok_refundFail")
    async with WebhookReceiver() as receiver, gateway_at(process) as gateway:
        await process.post("/webhooks/target", {"url": receiver.url})
        reference = (await gateway.call(first)).gateway_reference
        refund = follow_up(first, CallKind.REFUND, reference=reference, amount_minor=4_000)
        assert (await gateway.call(refund)).outcome is Outcome.SUCCEEDED
        await until(lambda: len(receiver.delivered) == 1, "the webhook")
        notice = gateway.parse_webhook({}, receiver.delivered[0].body)[0]
        assert (notice.outcome, notice.op_id) == (Outcome.REVERSED, refund.op_id)
    assert process.effects(first.order_id) == [("sale", 10_000), ("refund", 4_000), ("reversal", 4_000)]


async def test_payer_who_refuses_declines_the_payment_once(process: MockGatewayProcess) -> None:
    request = payment_request(fresh_order(), token="pm_card_authenticationRequired")
    async with gateway_at(process) as gateway, aiohttp.ClientSession() as session:
        result = await gateway.call(request)
        assert result.action_url is not None
        async with session.get(result.action_url) as page:
            assert "Mock bank" in await page.text()
        statuses = []
        for answer in ("failed", "succeeded", "maybe"):
            async with session.post(f"{result.action_url}/complete?result={answer}") as completed:
                statuses.append(completed.status)
        assert statuses == [200, 409, 400]
        assert (await gateway.call(inquiry_about(request))).outcome is Outcome.DECLINED
    assert process.effects(request.order_id) == []


async def test_payers_browser_is_sent_back_to_the_merchant_with_what_completes_the_payment(
    process: MockGatewayProcess,
) -> None:
    details = CallDetails(return_url="https://shop.example/back?cart=1")
    request = payment_request(fresh_order(), CallKind.SALE, token="tok_mock_completion_required")
    async with gateway_at(process) as gateway, aiohttp.ClientSession() as session:
        result = await gateway.call(replace(request, details=details))
        browser = {"Accept": "text/html,*/*"}
        async with session.post(f"{result.action_url}/complete", headers=browser, allow_redirects=False) as acted:
            assert acted.status == 303
            assert acted.headers["Location"].startswith("https://shop.example/back?cart=1&mock_result=")


async def test_payment_that_the_engine_must_complete_is_completed_with_what_the_payer_brings_back(
    process: MockGatewayProcess,
) -> None:
    request = payment_request(fresh_order(), CallKind.SALE, token="tok_mock_completion_required")
    async with gateway_at(process) as gateway, aiohttp.ClientSession() as session:
        result = await gateway.call(request)
        assert result.action_url is not None
        complete = f"{process.url}/payments/{result.gateway_reference}/complete"
        async with session.post(f"{result.action_url}/complete") as acted:
            back = (await acted.json())["return_parameters"]
        assert (await gateway.call(inquiry_about(request))).outcome is Outcome.REQUIRES_ACTION
        for body, status in ((b"{}", 400), (b'{"return_parameters": []}', 400)):
            async with session.post(complete, data=body, headers={"Idempotency-Key": f"k{body!r}"}) as refused:
                assert refused.status == status
        for replayed in (None, "true"):
            headers = {"Idempotency-Key": "completion"}
            async with session.post(complete, json={"return_parameters": back}, headers=headers) as completed:
                assert (completed.status, completed.headers.get("Idempotent-Replayed")) == (200, replayed)
                assert (await completed.json())["status"] == "succeeded"
        async with session.post(complete, json={}) as keyless:
            assert keyless.status == 400
        assert (await gateway.call(inquiry_about(request))).outcome is Outcome.SUCCEEDED
    assert process.effects(request.order_id) == [("sale", 10_000)]


async def test_ledger_can_be_asked_by_order_and_summed_by_currency(process: MockGatewayProcess) -> None:
    first = payment_request(fresh_order())
    other = payment_request(fresh_order(), CallKind.SALE, amount_minor=500, currency="JPY")
    async with gateway_at(process) as gateway:
        reference = (await gateway.call(first)).gateway_reference
        await gateway.call(other)
        await gateway.call(follow_up(first, CallKind.CAPTURE, reference=reference, amount_minor=9_000))
        await gateway.call(follow_up(first, CallKind.REFUND, reference=reference, amount_minor=1_000))
    entries = cast("list[dict[str, Any]]", (await process.get(f"/ledger?order_id={first.order_id}"))["entries"])
    assert [(entry["kind"], entry["amount_minor"]) for entry in entries] == [
        ("authorize", 10_000),
        ("capture", 9_000),
        ("refund", 1_000),
    ]
    assert entries[0]["gateway_key"] == first.gateway_key
    assert (entries[0]["op_id"], entries[0]["origin_id"], entries[0]["currency"]) == (first.op_id, "originA", "USD")
    rest = await process.get(f"/ledger?after={entries[0]['seq']}&order_id={first.order_id}")
    assert rest["entries"] == entries[1:]
    summary = cast("dict[str, dict[str, int]]", (await process.get("/ledger/summary"))["currencies"])
    assert {name: summary["USD"][name] for name in ("authorized_minor", "captured_minor", "refunded_minor")} == {
        "authorized_minor": 10_000,
        "captured_minor": 9_000,
        "refunded_minor": 1_000,
    }
    assert summary["JPY"]["captured_minor"] == 500
    assert (summary["USD"]["effects"], summary["USD"]["doubled"]) == (3, 0)


async def say(process: MockGatewayProcess, reference: str | None, **word: object) -> tuple[int, dict[str, Any]]:
    """Let something happen to an operation; return the status and what the Mock answers."""
    async with aiohttp.ClientSession() as session:
        url = f"{process.url}/operations/{reference}/words"
        async with session.post(url, json=word) as response:
            return response.status, await response.json()


async def test_anything_can_be_let_happen_to_an_operation_that_is_there(process: MockGatewayProcess) -> None:
    request = payment_request(fresh_order(), CallKind.SALE)
    async with WebhookReceiver() as receiver, gateway_at(process) as gateway:
        await process.post("/webhooks/target", {"url": receiver.url})
        reference = (await gateway.call(request)).gateway_reference
        assert (await say(process, reference, word="disputed", amount_minor=4_000))[0] == 200
        await until(lambda: len(receiver.delivered) == 1, "the dispute")
        (opened,) = gateway.parse_webhook({}, receiver.delivered[0].body)
        case = opened.case_reference
        assert (opened.outcome, opened.confirmed_amount_minor) == (Outcome.DISPUTE_OPENED, 4_000)
        status, lost = await say(process, reference, word="dispute_lost", case=case, notices=["by_reference"])
        assert (status, lost["operation"]["counted"]) == (200, 6_000)
        assert (await say(process, reference, word="dispute_lost", case=case))[0] == 409  # it is lost already
        assert (await say(process, reference, word="dispute_won", case="mcase_none"))[0] == 404
        assert (await say(process, "mpay_none", word="reversed"))[0] == 404
        await until(lambda: len(receiver.delivered) == 2, "its end")
        (ended,) = gateway.parse_webhook({}, receiver.delivered[1].body)
        assert (ended.outcome, ended.case_reference, ended.op_id) == (Outcome.DISPUTE_LOST, case, None)
    assert process.effects(request.order_id) == [("sale", 10_000), ("reversal", 4_000)]
    summary = cast("dict[str, dict[str, int]]", (await process.get("/ledger/summary"))["currencies"])
    assert (summary["USD"]["captured_minor"], summary["USD"]["reversals"], summary["USD"]["doubled"]) == (6_000, 1, 0)


async def test_what_a_card_scheme_does_later_is_done_and_told_by_a_server_that_was_killed_meanwhile(
    process: MockGatewayProcess,
) -> None:
    request = payment_request(fresh_order(), CallKind.SALE, token="tok_mock_chargeback_won+by_reference")
    async with gateway_at(process) as gateway:
        assert (await gateway.call(request)).outcome is Outcome.SUCCEEDED
    process.kill()
    process.start()
    async with WebhookReceiver() as receiver, gateway_at(process) as gateway:
        await process.post("/webhooks/target", {"url": receiver.url})
        await until(lambda: len(receiver.delivered) == 3, "the webhooks")
        told = [gateway.parse_webhook({}, hook.body)[0] for hook in receiver.delivered]
    assert {notice.outcome for notice in told} == {Outcome.DISPUTE_OPENED, Outcome.REVERSED, Outcome.DISPUTE_WON}
    assert process.effects(request.order_id) == [("sale", 10_000), ("reversal", 10_000), ("restoral", 10_000)]


SECOND = {"name": "second", "api_key": "sk_second", "webhook_secret": "whsec_second"}


async def test_each_account_has_its_own_credential_payments_and_webhook_secret(tmp_path: Path) -> None:
    served = tmp_path / "accounts.json"
    served.write_text(json.dumps([SECOND]))
    request = payment_request(fresh_order(), CallKind.SALE, token="tok_mock_pending_then_succeeded_always")
    with MockGatewayProcess(tmp_path / "ledger.sqlite", "--accounts", str(served)) as process:
        account = MockAccount(url=process.url, api_key=SecretStr("sk_second"), webhook_secret=SecretStr("whsec_second"))
        second, stranger = MockGateway(account), MockGateway(MockAccount(url=process.url, api_key=SecretStr("sk_no")))
        async with WebhookReceiver() as receiver, gateway_at(process) as first:
            await process.post("/webhooks/target", {"url": receiver.url, "account": "second"})
            opened = [await each.call(request) for each in (first, second)]
            assert [result.outcome for result in opened] == [Outcome.PENDING, Outcome.PENDING]
            assert opened[0].gateway_reference != opened[1].gateway_reference
            refused = await stranger.call(request)
            assert refused.error is not None
            assert refused.error.code == "gateway_refused_credentials"
            assert (await stranger.call(inquiry_about(request))).outcome is Outcome.UNKNOWN
            await until(lambda: len(receiver.delivered) == 1, "the webhook of the second account")
            hook = receiver.delivered[0]
            now_ms = time.time_ns() // 1_000_000
            await second.verify_webhook(hook.headers, hook.body, now_ms=now_ms, certificates=NO_CERTIFICATES)
            with pytest.raises(UnauthenticError):
                await first.verify_webhook(hook.headers, hook.body, now_ms=now_ms, certificates=NO_CERTIFICATES)
            own = follow_up(request, CallKind.REFUND, reference=opened[1].gateway_reference, amount_minor=1)
            assert (await first.call(own)).outcome is Outcome.NOT_EXECUTED
            assert (await first.call(inquiry_about(own))).outcome is Outcome.NOT_EXECUTED
        entries = cast("list[dict[str, Any]]", (await process.get("/ledger?account=second"))["entries"])
        assert [(entry["kind"], entry["account"]) for entry in entries] == [("sale", "second")]
        async with aiohttp.ClientSession() as session:
            target = {"url": None, "account": "third"}
            async with session.post(f"{process.url}/webhooks/target", json=target) as response:
                assert response.status == 404
        await second.close()
        await stranger.close()


async def test_all_successes_are_announced_when_asked_for(tmp_path: Path) -> None:
    async with WebhookReceiver() as receiver:
        arguments = ("--announce-all", "--webhook-url", receiver.url, "--latency", "lognormal:1:5")
        with MockGatewayProcess(tmp_path / "ledger.sqlite", *arguments) as process:
            async with gateway_at(process) as gateway:
                await gateway.call(payment_request(fresh_order(), CallKind.SALE))
                await until(lambda: len(receiver.delivered) == 1, "the webhook")
            assert process.stop() == 0


async def test_scenarios_are_listed_with_their_hits_and_cleared(process: MockGatewayProcess) -> None:
    await process.post("/scenarios", {"scenario": "html_502_after", "kind": "sale", "times": None, "probability": 1})
    async with gateway_at(process) as gateway, aiohttp.ClientSession() as session:
        assert (await gateway.call(payment_request(fresh_order(), CallKind.SALE))).outcome is Outcome.UNKNOWN
        (rule,) = cast("list[dict[str, Any]]", (await process.get("/scenarios"))["scenarios"])
        assert (rule["scenario"], rule["hits"]) == ("html_502_after", 1)
        async with session.delete(f"{process.url}/scenarios") as cleared:
            assert cleared.status == 204
        assert (await gateway.call(payment_request(fresh_order(), CallKind.SALE))).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/scenarios", b"{}"),
        ("/scenarios", b'{"scenario": "nonsense"}'),
        ("/scenarios", b'{"scenario": "slow", "probability": 2}'),
        ("/scenarios", b'{"scenario": "slow", "kind": "nonsense"}'),
        ("/scenarios", b'{"scenario": "slow", "delay_ms": -1}'),
        ("/scenarios", b'{"scenario": "slow", "notices": ["nonsense"]}'),
        ("/scenarios", b'{"scenario": "slow", "notices": "early"}'),
        ("/scenarios", b'{"scenario": "partial_reversal", "amount_minor": 0}'),
        ("/operations/mpay_1/words", b'{"word": "nonsense"}'),
        ("/operations/mpay_1/words", b'{"word": "reversed", "amount_minor": "all"}'),
        ("/latency", b'{"latency": "fixed"}'),
        ("/listener/close", b'{"for_ms": "long"}'),
        ("/webhooks/target", b"[]"),
        ("/payments", b"{}"),
        ("/payments", b"not json"),
        ("/payments/mpay_1/refunds", b'{"amount": 1.5, "currency": "USD"}'),
    ],
)
async def test_what_cannot_be_understood_is_refused_and_the_server_lives_on(
    shared_process: MockGatewayProcess, path: str, body: bytes
) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Idempotency-Key": "k"}
        async with session.post(shared_process.url + path, data=body, headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "invalid_request"
    assert (await shared_process.get("/healthz"))["status"] == "ok"


@pytest.mark.parametrize("path", ["/operations", "/ledger?after=x"])
async def test_question_without_sense_is_refused(shared_process: MockGatewayProcess, path: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(shared_process.url + path) as response:
        assert response.status == 400


async def test_call_without_a_key_or_about_no_action_is_refused(shared_process: MockGatewayProcess) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{shared_process.url}/payments", data=b"{}") as response:
            assert response.status == 400
        async with session.post(f"{shared_process.url}/actions/none/complete") as response:
            assert response.status == 404


async def test_latency_can_be_changed_while_it_runs(shared_process: MockGatewayProcess) -> None:
    await shared_process.post("/latency", {"latency": "fixed:120"})
    loop = asyncio.get_running_loop()
    async with gateway_at(shared_process) as gateway:
        begun_s = loop.time()
        await gateway.call(payment_request(fresh_order(), CallKind.SALE))
        assert loop.time() - begun_s >= 0.12
    await shared_process.post("/latency", {"latency": "fixed:0"})


@pytest.fixture(scope="module")
def shared_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockGatewayProcess]:
    with MockGatewayProcess(tmp_path_factory.mktemp("mock") / "ledger.sqlite") as running:
        yield running


async def test_storage_refuses_a_job_when_too_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_adapters.mock.storage.MAX_WAITING_JOBS", 1)
    assert MAX_WAITING_JOBS > 1
    storage = Storage(tmp_path / "ledger.sqlite")
    try:
        running, waiting = (asyncio.create_task(storage.run(lambda _: 1)) for _ in range(2))
        await asyncio.sleep(0)  # both tasks begin: one job runs, one waits
        with pytest.raises(StorageBusyError):
            await storage.run(lambda _: 2)
        assert {await running, await waiting} == {1}
    finally:
        await storage.close()


async def test_storage_rolls_a_batch_back_and_tells_its_callers_when_a_job_fails(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "ledger.sqlite")
    try:
        with pytest.raises(ZeroDivisionError):
            await storage.run(lambda _: 1 // 0)
        assert await storage.run(lambda db: db.execute("SELECT count(*) FROM ledger").fetchone()[0]) == 0
    finally:
        await storage.close()


async def test_ledger_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as older:
        older.execute("CREATE TABLE payments (id TEXT PRIMARY KEY)")
    with pytest.raises(sqlite3.DatabaseError, match="another version"):
        Storage(path)
    with closing(sqlite3.connect(path)) as older:
        assert older.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone() == (1,)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"api_key": "k"}]', '[{"name": "a", "api_key": 5}]', "[" + " " * (256 * 1024) + "]"],
)
def test_accounts_that_cannot_be_read_are_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "accounts.json"
    path.write_text(text)
    with pytest.raises(SystemExit):
        parsed(["--ledger", str(tmp_path), "--accounts", str(path)])
    assert "--accounts" in capsys.readouterr().err


def test_accounts_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--ledger", str(tmp_path), "--accounts", str(tmp_path / "none.json")])
    assert "No such file" in capsys.readouterr().err


async def test_accounts_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    twins = (ServedAccount(name="a", api_key="k"), ServedAccount(name="b", api_key="k"))
    settings = ServerSettings(ledger=tmp_path / "ledger.sqlite", accounts=twins)
    with pytest.raises(MisconfiguredError, match="same credential"):
        await serve(settings, asyncio.Event(), lambda _: None)


def test_command_line_is_parsed(tmp_path: Path) -> None:
    arguments = ["--ledger", str(tmp_path), "--latency", "lognormal:5:50", "--seed", "3", "--host", "0.0.0.0"]
    settings = parsed(arguments)
    assert (settings.latency, settings.seed, settings.host) == (LogNormal(p50_ms=5, p99_ms=50), 3, "0.0.0.0")
    assert settings.port == 0


@pytest.mark.parametrize(
    "bad", [["--latency", "x"], ["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["--ledger"]]
)
def test_command_line_that_cannot_be_is_refused(
    tmp_path: Path, bad: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(["--ledger", str(tmp_path), *bad])
    assert "usage" in capsys.readouterr().err


def test_command_line_without_a_ledger_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed([])
    assert "--ledger" in capsys.readouterr().err
