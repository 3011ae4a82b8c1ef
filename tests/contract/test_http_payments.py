"""The HTTP contract of money: what each route answers, on an engine in memory and over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from http_ingress.settings import IngressSettings
from schemas.records.commands import CompletionRequested, NamedText
from tests.support.ingress_under_test import Running, running_ingress
from tests.support.waiting import until

PAYMENT = {
    "originId": "originA",
    "amount": 1999,
    "currency": "USD",
    "token": "tok_123",
    "orderId": "order-1",
    "capture": True,
}
JSON = "application/json"
PROBLEM = "application/problem+json"


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_ingress() as started:
        yield started


def headers(key: str, **more: str) -> dict[str, str]:
    return {"Idempotency-Key": key, "X-Origin-Id": "originA", **{name.replace("_", "-"): more[name] for name in more}}


async def pay(
    running: Running, *, key: str = "idem-123", mode: str = "sync", prefer: str | None = None, **changes: object
) -> aiohttp.ClientResponse:
    sent = headers(key) | ({"Prefer": prefer} if prefer else {})
    return await running.http.post(f"/payments?mode={mode}", json=PAYMENT | changes, headers=sent)


async def test_payment_is_captured_as_the_published_curl_asks(running: Running) -> None:
    response = await running.http.post(
        "/payments?mode=sync",
        data=b'{"originId":"originA","amount":1999,"currency":"USD","token":"tok_123","orderId":"order-1","capture":true}',
        headers={"Content-Type": JSON, "Idempotency-Key": "idem-123", "X-Origin-Id": "originA"},
    )
    body = await response.json()
    assert response.status == 201
    assert response.content_type == JSON
    assert (body["status"], body["capturedAmount"], body["currency"]) == ("captured", 1999, "USD")
    assert body["operation"]["state"] == "succeeded"
    assert response.headers["Location"] == f"/payments/{body['id']}"
    assert "Idempotent-Replayed" not in response.headers


async def test_replay_answers_the_same_when_the_same_request_comes_again(running: Running) -> None:
    first = await pay(running)
    second = await pay(running)
    assert second.status == first.status == 201
    assert await second.read() == await first.read()
    assert second.headers["Idempotent-Replayed"] == "true"


async def test_replay_keeps_status_and_operation_and_shows_the_payment_as_it_is_now(running: Running) -> None:
    first = await pay(running)
    said = await first.json()
    refund = await running.http.post("/refunds", json={"paymentId": said["id"], "amount": 500}, headers=headers("r-1"))
    assert refund.status == 201
    again = await pay(running)
    said_again = await again.json()
    assert (again.status, said_again["operation"]) == (first.status, said["operation"])
    now = await (await running.http.get(f"/payments/{said['id']}", headers={"X-Origin-Id": "originA"})).json()
    assert {name: value for name, value in said_again.items() if name != "operation"} == {
        name: value for name, value in now.items() if name != "operations"
    }
    assert (said["refundedAmount"], said_again["refundedAmount"]) == (0, 500)


async def test_declined_payment_answers_402_and_replays_it(running: Running) -> None:
    first = await pay(running, token="tok_declined")
    second = await pay(running, token="tok_declined")
    body = await first.json(content_type=PROBLEM)
    assert first.status == second.status == 402
    assert body["code"] == "declined"
    assert body["operation"]["error"]["code"] == "insufficient_funds"
    assert body["payment"]["status"] == "failed"
    assert await second.read() == await first.read()
    assert second.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("change", [{"amount": 2000}, {"orderId": "order-2"}])
async def test_reused_key_is_a_conflict_when_the_amount_or_order_differs(
    running: Running, mode: str, change: dict[str, Any]
) -> None:
    await pay(running)
    response = await pay(running, mode=mode, **change)
    body = await response.json(content_type=PROBLEM)
    assert response.status == 409
    assert body["code"] == "idempotency_key_reused"
    assert "payment" not in body
    assert "operation" not in body


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_racing_requests_with_one_key_and_two_orders_give_one_payment(running: Running, mode: str) -> None:
    answers = await asyncio.gather(*(pay(running, mode=mode, orderId=f"order-{number}") for number in range(10)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [201 if mode == "sync" else 202] + [409] * 9


async def test_async_payment_answers_202_and_can_be_read_when_done(running: Running) -> None:
    response = await pay(running, mode="async")
    body = await response.json()
    assert response.status == 202
    assert body["state"] in {"dispatched", "succeeded"}  # the outcome may overtake the answer
    read = await running.http.get(response.headers["Location"], headers={"X-Origin-Id": "originA"})
    assert read.status == 200
    assert (await read.json())["status"] == "captured"
    again = await pay(running, mode="async")
    assert again.status == 202
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_prefer_respond_async_is_followed_when_no_mode_is_given(running: Running) -> None:
    sent = headers("k", Prefer="respond-async, wait=3")
    response = await running.http.post("/payments", json=PAYMENT, headers=sent)
    assert response.status == 202
    assert response.headers["Preference-Applied"] == "respond-async, wait=3"


async def test_given_mode_wins_when_a_preference_says_otherwise(running: Running) -> None:
    response = await pay(running, prefer="respond-async")
    assert response.status == 201
    assert "Preference-Applied" not in response.headers


async def test_sync_payment_becomes_202_when_the_outcome_takes_longer_than_asked(running: Running) -> None:
    response = await pay(running, token="tok_slow", prefer="wait=0")
    assert response.status == 202
    assert response.headers["Preference-Applied"] == "wait=0"
    assert response.headers["Location"].startswith("/payments/pay_")
    assert (await response.json())["inDoubt"] is False


async def test_payment_is_202_when_no_reply_ever_comes() -> None:
    settings = IngressSettings(dev=True, sync_timeout_s=0.05)
    async with running_ingress(settings=settings) as running:
        response = await pay(running, token="tok_silent")
        body = await response.json()
    assert response.status == 202
    assert body["state"] == "accepted"
    assert body["operation"] is None


@pytest.mark.parametrize(
    ("token", "state", "in_doubt"),
    [
        ("tok_unknown", "unknown", True),
        ("tok_pending", "pending", False),
        ("tok_action", "requires_action", False),
        ("tok_review", "manual_review", False),
    ],
)
async def test_open_outcome_is_a_202_that_says_why(running: Running, token: str, state: str, in_doubt: bool) -> None:
    response = await pay(running, token=token)
    body = await response.json()
    assert response.status == 202
    assert (body["state"], body["inDoubt"]) == (state, in_doubt)
    assert (body["actionUrl"] is not None) == (state == "requires_action")


async def test_unavailable_gateway_is_a_502_with_a_retry_hint(running: Running) -> None:
    response = await pay(running, token="tok_unavailable")
    body = await response.json(content_type=PROBLEM)
    assert response.status == 502
    assert response.headers["Retry-After"] == "2"
    assert body["operation"]["error"]["retry"] == "new_key_later"


async def test_authorization_is_captured_then_refunded_in_parts(running: Running) -> None:
    authorized = await (await pay(running, capture=False)).json()
    assert authorized["status"] == "authorized"
    path = f"/payments/{authorized['id']}"
    captured = await running.http.post(f"{path}/capture", json={"amount": 1500}, headers=headers("c1"))
    assert captured.status == 200
    assert (await captured.json())["capturedAmount"] == 1500
    refund = {"paymentId": authorized["id"], "amount": 500}
    refunded = await running.http.post("/refunds", json=refund, headers=headers("r1"))
    body = await refunded.json()
    assert refunded.status == 201
    assert (body["amount"], body["state"], body["payment"]["refundedAmount"]) == (500, "succeeded", 500)
    read = await running.http.get(refunded.headers["Location"], headers={"X-Origin-Id": "originA"})
    assert read.status == 200
    assert (await read.json())["id"] == body["id"]
    too_much = await running.http.post("/refunds", json=refund | {"amount": 5000}, headers=headers("r2"))
    assert too_much.status == 422
    assert (await too_much.json(content_type=PROBLEM))["code"] == "amount_exceeds_captured"


async def test_void_takes_no_body_and_is_refused_when_something_was_captured(running: Running) -> None:
    authorized = await (await pay(running, capture=False)).json()
    voided = await running.http.post(f"/payments/{authorized['id']}/void", headers=headers("v1"))
    assert voided.status == 200
    assert (await voided.json())["status"] == "voided"
    captured = await (await pay(running, key="k2", orderId="order-2")).json()
    refused = await running.http.post(f"/payments/{captured['id']}/void", headers=headers("v2"))
    assert refused.status == 409
    assert (await refused.json(content_type=PROBLEM))["code"] == "invalid_state"


async def test_cancel_is_the_same_operation_as_a_void_when_its_key_is_the_same(running: Running) -> None:
    authorized = await (await pay(running, capture=False)).json()
    cancelled = await running.http.post(f"/payments/{authorized['id']}/cancel", headers=headers("c1"))
    assert cancelled.status == 200
    first = await cancelled.json()
    assert (first["status"], first["operation"]["kind"]) == ("voided", "void")
    voided = await running.http.post(f"/payments/{authorized['id']}/void", headers=headers("c1"))
    assert (voided.status, voided.headers["Idempotent-Replayed"]) == (200, "true")
    assert (await voided.json())["operation"] == first["operation"]


async def test_payment_goes_on_when_its_payer_has_come_back(running: Running) -> None:
    waiting = await (await pay(running, token="tok_action", capture=False)).json()
    path = f"/payments/{waiting['id']}/complete"
    came_back = {"parameters": {"redirectResult": "X6XtfGC3!Y"}}
    completed = await running.http.post(path, json=came_back, headers=headers("c1"))
    assert completed.status == 200
    body = await completed.json()
    assert (body["status"], body["operation"]["kind"], body["operation"]["state"]) == (
        "authorized",
        "complete",
        "succeeded",
    )
    command, _ = running.engine.appended[-1]
    assert isinstance(command, CompletionRequested)
    assert command.parameters == (NamedText(name="redirectResult", value="X6XtfGC3!Y"),)
    again = await running.http.post(path, json=came_back, headers=headers("c1"))
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    other = await running.http.post(path, json={"parameters": {"redirectResult": "other"}}, headers=headers("c1"))
    assert (await other.json(content_type=PROBLEM))["code"] == "idempotency_key_reused"


async def test_payment_that_waits_for_nobody_is_not_completed(running: Running) -> None:
    captured = await (await pay(running)).json()
    refused = await running.http.post(f"/payments/{captured['id']}/complete", headers=headers("c1"))
    assert (refused.status, (await refused.json(content_type=PROBLEM))["code"]) == (409, "invalid_state")


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"parameters": {f"n{n}": "" for n in range(21)}}, 400, "#/parameters"),
        ({"parameters": {"x": 1}}, 400, "#/parameters/x"),
        ({"parameters": {"x": "4111 1111 1111 1111"}}, 422, None),
        ({"parameters": {"cvc": "123"}}, 422, "#/cvc"),
        ({"parameters": {"x": "NDExMTExMTExMTExMTExMQ"}}, 422, "#/parameters"),
    ],
)
async def test_completion_is_refused_when_its_parameters_break_a_rule(
    running: Running, body: dict[str, Any], status: int, pointer: str | None
) -> None:
    waiting = await (await pay(running, token="tok_action")).json()
    answer = await running.http.post(f"/payments/{waiting['id']}/complete", json=body, headers=headers("c1"))
    problem = await answer.json(content_type=PROBLEM)
    assert answer.status == status
    assert [fault["pointer"] for fault in problem.get("errors", [])] == ([] if pointer is None else [pointer])
    assert "4111" not in str(problem)


async def test_second_payment_of_an_order_is_refused(running: Running) -> None:
    await pay(running)
    response = await pay(running, key="another")
    assert response.status == 409
    assert (await response.json(content_type=PROBLEM))["code"] == "payment_already_exists"


async def test_refund_is_refused_with_retry_after_when_the_payment_is_in_doubt(running: Running) -> None:
    doubted = await (await pay(running, token="tok_unknown")).json()
    response = await running.http.post("/refunds", json={"paymentId": doubted["id"]}, headers=headers("r"))
    assert response.status == 409
    assert (await response.json(content_type=PROBLEM))["code"] == "payment_in_doubt"
    assert int(response.headers["Retry-After"]) > 0


async def test_unknown_ids_are_not_found_when_read_or_changed(running: Running) -> None:
    origin = {"X-Origin-Id": "originA"}
    for path in (
        "/payments/nothing",
        "/payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA",
        "/refunds/re_b3JkZXI_AAAAAAAAAAAAAAAA",
        "/refunds/x",
    ):
        response = await running.http.get(path, headers=origin)
        assert response.status == 404
        assert response.content_type == PROBLEM
    unknown = await running.http.post("/payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA/capture", headers=headers("c"))
    assert unknown.status == 404


async def test_payment_of_another_origin_is_not_found(running: Running) -> None:
    body = await (await pay(running)).json()
    response = await running.http.get(f"/payments/{body['id']}", headers={"X-Origin-Id": "originB"})
    assert response.status == 404


async def test_query_is_a_503_when_the_engine_does_not_answer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("http_ingress.queries.lookups.QUERY_TIMEOUT_S", 0.05)
    running.engine.silent = True
    response = await running.http.get("/payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA", headers={"X-Origin-Id": "originA"})
    assert response.status == 503
    assert (await response.json(content_type=PROBLEM))["code"] == "no_answer"


async def test_log_that_cannot_be_written_is_a_503_with_retry_after(running: Running) -> None:
    running.engine.break_log()
    for response in (
        await pay(running),
        await running.http.get("/payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA", headers={"X-Origin-Id": "originA"}),
    ):
        assert response.status == 503
        assert response.headers["Retry-After"] == "2"
        assert (await response.json(content_type=PROBLEM))["code"] == "log_unavailable"


@pytest.mark.parametrize(
    ("may_be_written", "told"), [(False, "Nothing was written."), (True, "it may have been written.")]
)
async def test_log_that_cannot_be_written_says_whether_the_command_may_be_on_it(
    running: Running, may_be_written: bool, told: str
) -> None:
    running.engine.break_log(may_be_written=may_be_written)
    response = await pay(running)
    assert told in (await response.json(content_type=PROBLEM))["detail"]


async def test_request_is_a_503_when_too_many_wait() -> None:
    settings = IngressSettings(dev=True, sync_timeout_s=5, max_waiting=1)
    async with running_ingress(settings=settings) as running:
        first = asyncio.create_task(pay(running, token="tok_slow"))
        await asyncio.wait_for(running.engine.something_appended.wait(), 5)
        second = await pay(running, key="second", orderId="order-2")
        assert second.status == 503
        assert (await second.json(content_type=PROBLEM))["code"] == "overloaded"
        running.engine.release_held()
        assert (await first).status == 201


async def test_origin_at_its_limit_does_not_make_another_ones_request_a_503() -> None:
    settings = IngressSettings(dev=True, sync_timeout_s=5, max_waiting=4)
    async with running_ingress(settings=settings) as running:
        slow = [asyncio.create_task(pay(running, key=f"a{n}", token="tok_slow", orderId=f"a{n}")) for n in range(2)]
        await until(lambda: len(running.ingress.waiters) == 2, timeout_s=5)
        assert (await pay(running, key="a2", token="tok_slow", orderId="a2")).status == 503
        other = {"Idempotency-Key": "b", "X-Origin-Id": "originB"}
        body = PAYMENT | {"originId": "originB", "orderId": "b"}
        async with running.http.post("/payments?mode=async", json=body, headers=other) as response:
            assert response.status == 202
        running.engine.release_held()
        assert [(await each).status for each in slow] == [201, 201]


async def test_command_carries_the_trace_and_the_place_of_its_reply(running: Running) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = headers("k", traceparent=parent, tracestate="vendor=1")
    response = await running.http.post("/payments", json=PAYMENT, headers=sent)
    _, envelope = running.engine.appended[0]
    assert envelope.traceparent == parent
    assert envelope.tracestate == "vendor=1"
    assert envelope.replypartition == 0
    assert envelope.id == response.headers["X-Request-Id"]
    assert (envelope.partitionkey, envelope.originid, envelope.idempotencykey) == ("order-1", "originA", "k")


async def test_trace_starts_here_when_the_caller_has_none(running: Running) -> None:
    await pay(running)
    await running.http.post("/payments", json=PAYMENT, headers=headers("k2", traceparent="00-zz"))
    first, second = (envelope.traceparent for _, envelope in running.engine.appended)
    assert first is not None
    assert second is not None
    assert first.startswith("00-")
    assert first != second


async def test_answers_hold_no_token(running: Running) -> None:
    response = await pay(running)
    assert "tok_123" not in await response.text()
    assert "tok_123" not in json.dumps(dict(response.headers))
