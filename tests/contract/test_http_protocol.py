"""The HTTP contract of everything but money: bad input of every kind, limits, pages, and the orderly stop."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from http_ingress import limits
from http_ingress.settings import IngressSettings
from tests.support.fake_engine import FakeEngine
from tests.support.ingress_under_test import CODEC, Running, build_ingress, running_ingress
from tests.support.metric_pages import page, rise_of, samples_of

PROBLEM = "application/problem+json"
GOOD = b'{"amount":1,"currency":"USD","token":"tok_1","orderId":"o"}'
SENT = {"Idempotency-Key": "k", "X-Origin-Id": "originA", "Content-Type": "application/json"}
CARD = "4242 4242 4242 4242"


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_ingress() as started:
        yield started


async def refused(running: Running, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
    """Post this body as a payment, and return the problem that comes of it."""
    sent = SENT | {name.replace("_", "-"): value for name, value in headers.items()}
    async with running.http.post("/payments", data=body, headers=sent) as response:
        assert response.content_type == PROBLEM
        return response.status, await response.json(content_type=PROBLEM)


def body_with(**changes: object) -> bytes:
    return json.dumps(json.loads(GOOD) | changes).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"[]", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe{}", "bad_json"),
        (b"\xef\xbb\xbf" + GOOD, "bad_json"),
        (GOOD.decode().encode("utf-16"), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":1,"amount":2'), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":1,"\\u0061mount":2'), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":NaN'), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":-Infinity'), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":1999.0'), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":1e3'), "bad_json"),
        (GOOD.replace(b'"amount":1', b'"amount":' + b"9" * 5000), "bad_json"),
        (b"[" * 16_000, "bad_json"),
        (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, "bad_json"),
        (b'{"x":' + b"[" * 17 + b"]" * 17 + b"}", "bad_json"),
        (b'{"x":"\\ud800"}', "bad_json"),
        (body_with(amount=True), "invalid_body"),
        (body_with(amount="1"), "invalid_body"),
        (body_with(amount=0), "invalid_body"),
        (body_with(amount=10**13), "invalid_body"),
        (body_with(currency="usd"), "invalid_body"),
        (body_with(currency="XXX"), "invalid_body"),
        (body_with(capture="true"), "invalid_body"),
        (body_with(capture=1), "invalid_body"),
        (body_with(token=""), "invalid_body"),
        (body_with(orderId="with space"), "invalid_body"),
        (body_with(orderId="a|b"), "invalid_body"),
        (body_with(surprise=1), "invalid_body"),
        (b"{}", "invalid_body"),
    ],
)
async def test_body_is_a_400_when_it_is_not_exactly_what_is_asked(running: Running, body: bytes, code: str) -> None:
    status, problem = await refused(running, body)
    assert (status, problem["code"]) == (400, code)
    assert running.engine.appended == []


async def test_fault_names_the_field_when_a_body_does_not_fit(running: Running) -> None:
    _, problem = await refused(running, body_with(**{"sur/prise": 1, "amount": "secret-value"}))
    assert isinstance(problem["errors"], list)
    assert {fault["pointer"] for fault in problem["errors"]} == {"#/amount", "#/sur~1prise"}
    assert "secret-value" not in json.dumps(problem)


@pytest.mark.parametrize(
    "body",
    [
        body_with(token=CARD),
        body_with(orderId="4242-4242-4242-4242"),
        body_with(amount=4242424242424242),
        body_with(**{CARD: 1}),
        body_with(token="\uff14\uff12\uff14\uff12" * 4),
        body_with(cvv="123"),
        body_with(card={"CVC": 123}),
        body_with(notes=[["4111111111111111"]]),
    ],
)
async def test_card_data_is_a_422_that_is_neither_echoed_nor_logged_nor_appended(
    running: Running, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    status, problem = await refused(running, body)
    assert (status, problem["code"]) == (422, "card_number")
    printed = "".join(capsys.readouterr()) + json.dumps(problem)
    assert not any(part in printed for part in ("4242", "4111", '123"', "\uff14"))
    assert running.engine.appended == []


@pytest.mark.parametrize("name", ["Idempotency_Key", "X_Origin_Id"])
async def test_card_number_is_a_422_when_it_stands_in_a_header_that_reaches_the_log(
    running: Running, name: str
) -> None:
    status, problem = await refused(running, GOOD, **{name: "4242424242424242"})
    assert (status, problem["code"]) == (422, "card_number")


async def test_idempotency_key_is_asked_for_when_it_is_missing(running: Running) -> None:
    for headers in ({}, {"Idempotency-Key": " "}):
        response = await running.http.post(
            "/payments", data=GOOD, headers={"Content-Type": "application/json"} | headers
        )
        assert response.status == 400
        assert (await response.json(content_type=PROBLEM))["code"] == "missing_idempotency_key"


@pytest.mark.parametrize("value", ["k" * 256, "with space", "pi|pe", "k\u00e9y"])
async def test_idempotency_key_is_refused_when_it_is_malformed(running: Running, value: str) -> None:
    status, problem = await refused(running, GOOD, Idempotency_Key=value)
    assert (status, problem["code"]) == (400, "invalid_parameter")


async def test_header_is_refused_when_it_is_given_twice(running: Running) -> None:
    for name in ("Idempotency-Key", "X-Origin-Id"):
        headers = [*SENT.items(), (name, "second")]
        response = await running.http.post("/payments", data=GOOD, headers=headers)
        assert response.status == 400
        assert (await response.json(content_type=PROBLEM))["errors"][0]["pointer"] == name


async def test_origin_is_refused_when_it_is_missing_or_contradicts_itself(running: Running) -> None:
    status, problem = await refused(running, body_with(originId="originB"))
    assert (status, problem["code"]) == (400, "origin_mismatch")
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    response = await running.http.post("/payments", data=GOOD, headers=headers)
    assert response.status == 400
    assert (await response.json(content_type=PROBLEM))["code"] == "origin_missing"


@pytest.mark.parametrize("query", ["mode=later", "mode=sync&mode=async", "mod=async", "mode="])
async def test_query_parameter_is_refused_when_it_means_nothing(running: Running, query: str) -> None:
    response = await running.http.post(f"/payments?{query}", data=GOOD, headers=SENT)
    assert response.status == 400
    assert (await response.json(content_type=PROBLEM))["code"] == "invalid_parameter"


@pytest.mark.parametrize(
    ("path", "most_bytes"), [("/payments", limits.MAX_LARGE_BODY_BYTES), ("/refunds", limits.MAX_BODY_BYTES)]
)
async def test_body_is_a_413_when_it_is_too_large_by_its_length_or_in_chunks(
    running: Running, path: str, most_bytes: int
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(most_bytes // 8192 + 1):
            yield b" " * 8192

    large = b" " * most_bytes + b"{}"
    for data in (large, chunks()):
        async with running.http.post(path, data=data, headers=SENT) as response:
            assert response.status == 413
            assert (await response.json(content_type=PROBLEM))["code"] == "too_large"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_body_is_a_415_when_its_media_type_is_not_taken(running: Running, headers: dict[str, str]) -> None:
    status, problem = await refused(running, GOOD, **{name.replace("-", "_"): value for name, value in headers.items()})
    assert (status, problem["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(("accept", "status"), [("text/html", 406), ("application/json;q=0", 406), ("*/*;q=0.1", 201)])
async def test_accept_decides_whether_an_answer_can_be_given(running: Running, accept: str, status: int) -> None:
    response = await running.http.post("/payments", data=GOOD, headers=SENT | {"Accept": accept})
    assert response.status == status


async def test_wrong_path_and_wrong_method_are_problems_too(running: Running) -> None:
    missing = await running.http.get("/nothing")
    assert (missing.status, missing.content_type) == (404, PROBLEM)
    wrong = await running.http.put("/payments", data=b"{}")
    assert (wrong.status, wrong.content_type, wrong.headers["Allow"]) == (405, PROBLEM, "POST")


async def test_unknown_expectation_is_a_417_and_continue_is_followed(running: Running) -> None:
    response = await running.http.post("/payments", data=GOOD, headers=SENT | {"Expect": "tea"})
    assert (response.status, response.content_type) == (417, PROBLEM)
    async with running.http.post("/payments", data=GOOD, headers=SENT, expect100=True) as continued:
        assert continued.status == 201


async def raw(running: Running, sent: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /payments HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /payments HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"4" * 20_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_malformed_http_is_a_problem_that_quotes_nothing(running: Running, sent: bytes) -> None:
    answer = await raw(running, sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert PROBLEM.encode() in head
    assert json.loads(body)["code"] == "bad_request"
    assert b"4444" not in answer


async def test_body_that_dawdles_is_a_408(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("http_ingress.door.request_bodies.BODY_READ_TIMEOUT_S", 0.05)
    head = b"POST /payments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    answer = await raw(running, head + b"X-Origin-Id: o\r\nIdempotency-Key: k\r\nContent-Length: 10\r\n\r\n{")
    assert b" 408 " in answer.splitlines()[0]
    assert b"request_timeout" in answer


async def test_defect_is_a_500_that_tells_nothing(running: Running) -> None:
    running.engine.fault = ZeroDivisionError("tok_123 was here")
    status, problem = await refused(running, GOOD)
    assert (status, problem["code"]) == (500, "internal")
    assert "tok_123" not in json.dumps(problem)


async def test_answers_carry_the_headers_that_keep_them_from_being_misread(running: Running) -> None:
    for path in ("/healthz", "/nothing", "/openapi.json"):
        response = await running.http.get(path)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "X-Request-Id" in response.headers
        assert "aiohttp" not in response.headers["Server"]


async def test_health_and_readiness_are_told_apart_when_replies_are_not_read() -> None:
    async with running_ingress() as running:
        assert (await running.http.get("/healthz")).status == 200
        ready = await running.http.get("/readyz")
        assert (ready.status, await ready.json()) == (200, {"status": "ready"})
        running.ingress.stopping.begun = True
        unready = await running.http.get("/readyz")
        assert unready.status == 503
        assert (await unready.json(content_type=PROBLEM))["code"] == "not_ready"
        assert (await running.http.get("/healthz")).status == 200


async def test_readiness_tells_why_when_the_reply_feed_is_down() -> None:
    ingress, pump = build_ingress(FakeEngine(CODEC))
    assert ingress.faults() == ("replies are not read",)
    await pump.start()
    assert ingress.faults() == ()
    await pump.stop()
    assert ingress.faults() == ("replies are not read",)


async def test_metrics_count_requests_by_route_and_never_by_path(running: Running) -> None:
    taken = rise_of("http_requests", route="/payments", method="POST", status="201")
    timed = rise_of("http_request_ms", route="/payments")
    missed = rise_of("http_requests", route="/payments/{paymentId}", method="GET", status="404")
    unmatched = rise_of("http_requests", route="unmatched", method="other", status="404")
    unfound = [rise_of("http_problems", code=code) for code in ("payment_not_found", "not_found")]
    await running.http.post("/payments", data=GOOD, headers=SENT)
    await running.http.get("/payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA", headers=SENT)
    await running.http.request("PURGE", "/nothing/4242424242424242")
    assert (taken(), timed(), missed(), unmatched()) == (1, 1, 1, 1)
    assert [each() for each in unfound] == [1, 1]
    said = {label for samples in samples_of(page()).values() for labels, _ in samples for label in labels.values()}
    assert "/payments" in said
    assert not [label for label in said if "pay_b3" in label or "4242" in label]  # a sample's value may have any digits


async def test_merchants_port_shows_no_metrics(running: Running) -> None:
    assert (await running.http.get("/metrics")).status == 404


async def test_docs_page_loads_nothing_from_elsewhere(running: Running) -> None:
    page = await running.http.get("/docs")
    text = await page.text()
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in text
    assert "https:" not in text
    for asset in ("docs.js", "docs.css", "swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"docs/{asset}" in text
        found = await running.http.get(f"/docs/{asset}")
        held = await found.text()
        assert found.status == 200
        assert found.headers["Content-Security-Policy"] == policy  # it keeps the viewer from asking elsewhere
        assert asset.startswith("swagger-ui") or "://" not in held
    assert (await running.http.get("/docs/secret.py")).status == 404


async def test_requests_that_wait_are_answered_when_the_instance_stops() -> None:
    settings = IngressSettings(dev=True, sync_timeout_s=30)
    async with running_ingress(settings=settings) as running:
        body = body_with(token="tok_slow")
        waiting = asyncio.create_task(running.http.post("/payments", data=body, headers=SENT))
        await asyncio.wait_for(running.engine.something_appended.wait(), 5)
        stopping = asyncio.create_task(running.server.stop(drain_timeout_s=10))
        await asyncio.sleep(0)  # one turn of the loop, in which the stop begins
        assert running.ingress.stopping.begun
        running.engine.release_held()
        response = await asyncio.wait_for(waiting, 5)
        assert response.status == 201
        await asyncio.wait_for(stopping, 10)


async def test_requests_without_an_answer_get_202_when_the_drain_is_over() -> None:
    settings = IngressSettings(dev=True, sync_timeout_s=30)
    async with running_ingress(settings=settings) as running:
        body = body_with(token="tok_slow")
        waiting = asyncio.create_task(running.http.post("/payments", data=body, headers=SENT))
        await asyncio.wait_for(running.engine.something_appended.wait(), 5)
        await running.server.stop(drain_timeout_s=0.05)
        assert (await asyncio.wait_for(waiting, 5)).status == 202


async def test_new_request_on_an_open_connection_is_a_503_when_the_instance_stops(running: Running) -> None:
    running.ingress.stopping.begun = True
    status, problem = await refused(running, GOOD)
    assert (status, problem["code"]) == (503, "shutting_down")
