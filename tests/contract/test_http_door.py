"""The door against hostile clients, over raw sockets: what a stranger sends costs little and never breaks a request."""

import asyncio
import contextlib
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from structlog.testing import capture_logs

from http_ingress.settings import IngressSettings
from tests.support.ingress_under_test import Running, running_ingress

BOMB_BYTES = 50 * 1024 * 1024  # what the bomb inflates to
MAX_BOMB_CPU_S = 0.02  # ten times the 2 ms that it may cost on a quiet machine; inflating it takes 50 ms and more
ANSWER_TIMEOUT_S = 10.0
ENDLESS_BYTES = 256 * 1024 * 1024
GOOD = b'{"amount":1,"currency":"USD","token":"tok_1","orderId":"o"}'
PLAIN = ("Host: x", "Content-Type: application/json", "X-Origin-Id: originA", "Idempotency-Key: k")


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_ingress() as started:
        yield started


def request(start: str, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of one request, after which the server is asked to close."""
    lines = [start, *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close the connection, and return when it is."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def exchange(running: Running, sent: bytes) -> tuple[int, dict[str, object]]:
    """Return the status and the JSON of the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        writer.write(sent)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_TIMEOUT_S)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await asyncio.wait_for(reader.readexactly(int(length.split(b":")[1])), ANSWER_TIMEOUT_S)
        return int(head.split(b" ", 2)[1]), json.loads(body)
    finally:
        await closed(writer)


def defects_in(lines: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Return the log lines that tell of a defect of ours."""
    return [line for line in lines if line["log_level"] == "error" or str(line.get("http_status", "")).startswith("5")]


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """A body of each coding that aiohttp would inflate; of those it has no library for, any bytes will do."""
    zeros = bytes(BOMB_BYTES)
    squeezed = gzip.compress(zeros)
    return {"gzip": squeezed, "deflate": zlib.compress(zeros), "br": squeezed, "zstd": squeezed, "GZIP": squeezed}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP"])
@pytest.mark.parametrize(
    "line", ["POST /payments", "POST /nothing", "GET /healthz", "POST /webhooks/none", "PUT /docs"]
)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["whole", "chunked"])
async def test_compressed_body_is_a_415_that_is_never_inflated_on_any_path(
    running: Running, bombs: dict[str, bytes], coding: str, line: str, in_chunks: bool
) -> None:
    await exchange(running, request("GET /healthz HTTP/1.1", "Host: x"))
    framing = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {len(bombs[coding])}"
    head = "\r\n".join([f"{line} HTTP/1.1", "Host: x", f"Content-Encoding: {coding}", framing, "Connection: close"])
    body = chunked(bombs[coding]) if in_chunks else bombs[coding]
    before_s = time.process_time()
    status, problem = await exchange(running, head.encode() + b"\r\n\r\n" + body)
    spent_s = time.process_time() - before_s
    assert (status, problem["code"]) == (415, "unsupported_media_type")
    assert spent_s < MAX_BOMB_CPU_S


@pytest.mark.parametrize(
    "codings", [("identity", "gzip"), ("gzip", "identity"), ("identity", "identity"), ("identity, gzip",), ("",)]
)
async def test_content_coding_is_refused_when_it_is_anything_but_one_identity(
    running: Running, codings: tuple[str, ...]
) -> None:
    lines = [f"Content-Encoding: {coding}" for coding in codings]
    status, _ = await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, *lines, body=b"\x1f\x8b garbage"))
    assert status == (400 if len(codings) > 1 else 415)
    assert running.engine.appended == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Host", ("x", "y")),
        ("Content-Length", ("59", "59")),
        ("Content-Type", ("application/json", "text/plain")),
        ("Content-Encoding", ("identity", "identity")),
        ("Transfer-Encoding", ("chunked", "identity")),
        ("Idempotency-Key", ("k", "k")),
        ("X-Origin-Id", ("originA", "originB")),
        ("X-Api-Key", ("one", "two")),
        ("Authorization", ("Bearer one", "Bearer two")),
        ("Expect", ("100-continue", "100-continue")),
    ],
)
async def test_header_that_matters_is_refused_when_it_is_repeated(
    running: Running, name: str, values: tuple[str, ...]
) -> None:
    lines = [line for line in PLAIN if not line.startswith(f"{name}:")]
    if name not in ("Content-Length", "Transfer-Encoding"):
        lines.append(f"Content-Length: {len(GOOD)}")
    lines += [f"{name.lower()}: {values[0]}", f"{name.upper()}: {values[1]}", "Connection: close"]
    sent = "\r\n".join(["POST /payments HTTP/1.1", *lines]).encode() + b"\r\n\r\n" + GOOD
    status, problem = await exchange(running, sent)
    assert status == 400
    assert problem["code"] in ("bad_request", "invalid_parameter")
    assert running.engine.appended == []


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 201),
        ("Application/JSON ; Charset=UTF-8", 201),
        ('application/json; charset="utf-8"', 201),
        ("application/json; profile=x", 201),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=utf-8; charset=latin-1", 415),
        ("application/json; charset=", 415),
        ("application/json; charset*", 415),  # an IndexError of the standard library's reader of such headers
        ("application/jsonx", 415),
        ("text/plain", 415),
        ("", 415),
        pytest.param("application/json" + '"' * 8_000, 415, id="quotes"),
        pytest.param("application/json" + " ;" * 4_000, 201, id="separators"),
        pytest.param("application/json" + ";a=b" * 2_000, 201, id="parameters"),
        pytest.param("application/json" + ",(" * 4_000, 415, id="brackets"),
    ],
)
async def test_content_type_costs_little_and_never_breaks_a_request(
    running: Running, media_type: str, status: int
) -> None:
    await exchange(running, request("GET /healthz HTTP/1.1", "Host: x"))
    lines = [line for line in PLAIN if not line.startswith("Content-Type:")]
    before_s = time.process_time()
    answered, _ = await exchange(
        running, request("POST /payments HTTP/1.1", *lines, f"Content-Type: {media_type}", body=GOOD)
    )
    spent_s = time.process_time() - before_s
    assert answered == status
    assert spent_s < MAX_BOMB_CPU_S


@pytest.mark.parametrize(
    "host", ["xn--" + "a-" * 3_000, "xn--a", "xn--" * 1_900, "x..y", "a" * 70, "\u00fc" * 300, "[::1]", "1.2.3.4.5"]
)
async def test_target_with_a_host_is_answered_whatever_the_host_is(running: Running, host: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    with capture_logs() as lines:
        writer.write(f"GET http://{host}/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
    await closed(writer)
    assert answer.split(b" ", 2)[1] in (b"200", b"400", b"404")
    assert defects_in(lines) == []


@pytest.mark.parametrize(("name", "value"), [("Accept", "a/b;q=.," * 1_000), ("Prefer", " wait = ," * 900)])
async def test_list_that_is_longer_than_anybodys_costs_little(running: Running, name: str, value: str) -> None:
    await exchange(running, request("GET /healthz HTTP/1.1", "Host: x"))
    before_s = time.process_time()
    status, _ = await exchange(
        running, request("POST /payments HTTP/1.1", *PLAIN, *[f"{name}: {value}"] * 50, body=GOOD)
    )
    spent_s = time.process_time() - before_s
    assert status == 201  # it is disregarded, as its standard allows
    assert spent_s < MAX_BOMB_CPU_S


async def test_repeated_header_has_a_meaning_when_its_standard_gives_it_one(running: Running) -> None:
    parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
    lines = ("Prefer: wait=3", "Prefer: respond-async, wait=9", "Accept: text/html", "Accept: */*", parent, parent)
    status, _ = await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, *lines, body=GOOD))
    assert status == 202
    ((_, envelope),) = running.engine.appended
    assert envelope.traceparent is not None
    assert "0af7651916cd43dd8448eb211c80319c" not in envelope.traceparent  # two parents: a new trace (W3C)


@pytest.mark.parametrize("line", ["POST /payments", "PATCH /payments", "POST /nothing", "GET /docs"])
@pytest.mark.parametrize("expectation", ["tea", "4111111111111111", "\xff"])
async def test_unknown_expectation_is_a_417_that_quotes_nothing_on_any_path(
    running: Running, line: str, expectation: str
) -> None:
    sent = request(f"{line} HTTP/1.1", "Host: x", f"Expect: {expectation}")
    status, problem = await exchange(running, sent)
    assert (status, problem["code"]) == (417, "expectation_failed")
    assert "detail" not in problem


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", request("GET /x HTTP/1.1", "Host: x", "Expect: tea")])
async def test_answer_tells_nothing_of_the_server_when_no_route_of_ours_gives_it(running: Running, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
    await closed(writer)
    assert b"\r\nServer: payment-engine\r\n" in answer
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in answer
    assert b"ython" not in answer


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n", b"5\r\nab", b"5\r\nabcdefgh\r\n", b"-1\r\n\r\n", b"ffffffffffffffffff\r\nx", b"0;" + b"a" * 20_000],
    ids=["no size", "ends early", "too long", "negative", "immense", "long extension"],
)
async def test_bad_chunks_are_a_400_and_no_defect(running: Running, body: bytes) -> None:
    head = "\r\n".join(["POST /payments HTTP/1.1", *PLAIN, "Transfer-Encoding: chunked"]).encode() + b"\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    with capture_logs() as lines:
        writer.write(head + body)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
        await closed(writer)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")  # nothing: the client had gone before it was answered
    assert running.engine.appended == []
    assert defects_in(lines) == []


VISA = "4111111111111111"
IN_BASE64 = "NDExMTExMTExMTExMTExMQ"


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "4111(1111)1111(1111)"},
        {"token": "4111----1111----1111----1111"},
        {"token": "4111x1111y1111z1111"},
        {"orderId": "%34111111111111111"},
        {"orderId": IN_BASE64},
        {"originId": "4111(1111)1111(1111)"},
        {"token": VISA.encode().hex()},
        {"token": "41111111", "orderId": "11111111"},
        {"token": "41111111", "amount": 11111111},
    ],
)
async def test_card_number_is_a_422_when_it_is_disguised(running: Running, changes: dict[str, object]) -> None:
    body = json.dumps(json.loads(GOOD) | changes).encode()
    lines = [line for line in PLAIN if not line.startswith("X-Origin-Id")] if "originId" in changes else list(PLAIN)
    status, problem = await exchange(running, request("POST /payments HTTP/1.1", *lines, body=body))
    assert (status, problem["code"]) == (422, "card_number")
    assert "1111" not in json.dumps(problem)
    assert running.engine.appended == []


async def test_name_of_an_unknown_field_is_not_echoed_when_it_hides_a_card_number(running: Running) -> None:
    body = GOOD[:-1] + f',"{IN_BASE64}":1}}'.encode()
    status, problem = await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, body=body))
    assert (status, problem["code"]) == (400, "invalid_body")
    assert IN_BASE64 not in json.dumps(problem)


@pytest.mark.parametrize(
    "path",
    [
        f"/payments/pay_{IN_BASE64}_AAAAAAAAAAAAAAAA",
        f"/payments/pay_b3JkZXI_{VISA}",
        f"/refunds/re_{IN_BASE64}_AAAAAAAAAAAAAAAA",
    ],
)
async def test_card_number_is_a_422_that_is_not_appended_when_it_stands_in_an_id(running: Running, path: str) -> None:
    status, problem = await exchange(running, request(f"GET {path} HTTP/1.1", *PLAIN))
    assert (status, problem["code"]) == (422, "card_number")
    assert running.engine.appended == []


@pytest.mark.parametrize("key", [IN_BASE64, "4111x1111y1111z1111", VISA.encode().hex()])
async def test_card_number_is_a_422_when_an_idempotency_key_hides_it(running: Running, key: str) -> None:
    lines = (*PLAIN[:3], f"Idempotency-Key: {key}")
    status, problem = await exchange(running, request("POST /payments HTTP/1.1", *lines, body=GOOD))
    assert (status, problem["code"]) == (422, "card_number")


@pytest.mark.parametrize(
    "lines",
    [
        ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", f"tracestate: v={VISA}"),
        ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01", f"tracestate: v={IN_BASE64}"),
        (f"traceparent: 00-{VISA.zfill(32)}-00f067aa0ba902b7-01",),
        (f"traceparent: 00-0af7651916cd43dd8448eb211c80319c-{VISA}-01",),
    ],
)
async def test_trace_context_is_left_out_when_it_holds_a_card_number(running: Running, lines: tuple[str, ...]) -> None:
    status, _ = await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, *lines, body=GOOD))
    assert status == 201
    ((_, envelope),) = running.engine.appended
    assert VISA not in f"{envelope.traceparent} {envelope.tracestate}"
    assert IN_BASE64 not in f"{envelope.tracestate}"


async def test_body_is_a_413_above_ninety_six_kibibytes_and_a_400_with_a_thousand_values(running: Running) -> None:
    large = b" " * (96 * 1024 - len(GOOD)) + GOOD
    assert (await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, body=large)))[0] == 201
    assert (await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, body=large + b" ")))[0] == 413
    many = GOOD[:-1] + b',"x":[' + b"0," * 1_000 + b"0]}"
    status, problem = await exchange(running, request("POST /payments HTTP/1.1", *PLAIN, body=many))
    assert (status, problem["code"]) == (400, "bad_json")


async def test_rate_is_kept_before_the_body_is_read() -> None:
    async with running_ingress(settings=IngressSettings(dev=True, requests_per_second=1)) as running:
        announced = "\r\n".join(["POST /payments HTTP/1.1", *PLAIN, "Content-Length: 9"]).encode() + b"\r\n\r\n"
        sent = request("POST /payments HTTP/1.1", *PLAIN, body=GOOD)
        assert [(await exchange(running, sent))[0] for _ in range(2)] == [201, 201]
        assert (await exchange(running, announced))[0] == 429  # the body never comes
        unnamed = [line for line in PLAIN if not line.startswith("X-Origin-Id")]
        named = json.dumps(json.loads(GOOD) | {"originId": "originA", "token": VISA}).encode()
        assert (await exchange(running, request("POST /payments HTTP/1.1", *unnamed, body=named)))[0] == 429


@pytest.mark.parametrize("framing", ["Content-Length: 99999999999", "Transfer-Encoding: chunked"])
async def test_body_without_end_is_cut_off_soon_after_its_refusal(running: Running, framing: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(f"POST /nothing HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_TIMEOUT_S)
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nConnection: close\r\n" in head
    sent_bytes, part = 0, b"1\r\nx\r\n" * 10_000
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while sent_bytes < ENDLESS_BYTES:  # or until the server has had enough
                writer.write(part)
                sent_bytes += len(part)
                await writer.drain()
    assert sent_bytes < ENDLESS_BYTES
    await closed(writer)


async def test_connection_is_kept_when_a_small_body_comes_after_its_refusal(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    for _ in range(2):
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_TIMEOUT_S)
        assert head.startswith(b"HTTP/1.1 404 ")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(b"late")
    await closed(writer)
