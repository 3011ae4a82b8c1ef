"""Whatever bytes a client sends, the door answers with a problem or with what was asked, and never with a defect."""

import contextlib
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.ingress_thread import IngressThread

EXAMPLES = 300
ANSWER_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024  # the page of /docs is the largest
GOOD = b'{"amount":1,"currency":"USD","token":"tok_1","orderId":"o","originId":"originA"}'

# Names that mean something to us, to aiohttp or to a proxy.
NAMES = st.sampled_from(
    b"Accept Authorization Content-Encoding Content-Range Content-Type Cookie Expect Forwarded HTTP2-Settings Host "
    b"Idempotency-Key If-Match If-Modified-Since Keep-Alive Origin Prefer Range Sec-WebSocket-Key TE Trailer Upgrade "
    b"X-Api-Key X-Forwarded-For X-Origin-Id traceparent tracestate".split()
)
VALUES = st.one_of(
    st.sampled_from(
        b"|*/*|*/*;q=9|application/json|application/json; charset=\xff|application/json;charset=none|,,,|=;=;|"
        b"multipart/form-data; boundary=x|gzip|identity|br|100-continue|tea|\xff|websocket|h2c|Upgrade, HTTP2-Settings|"
        b'wait=999999|respond-async|Bearer x|Basic Og==|bytes=0-|originA|4111111111111111|a;b="c'.split(b"|")
    ),
    st.binary(max_size=40).filter(lambda value: not {0, 10, 13} & set(value)),
)
METHODS = st.sampled_from(b"GET POST PUT DELETE HEAD OPTIONS PATCH TRACE QUERY FOO".split())
PATHS = st.one_of(
    st.sampled_from(
        b"/payments /payments?mode=async /payments?mode=%ff /payments?% /payments/x/void /refunds /webhooks/mock "
        b"/webhooks/%00 /payments/pay_b3JkZXI_AAAAAAAAAAAAAAAA /payments/%ff%fe /payments/pay_\xff /healthz /readyz "
        b"/openapi.json /docs /docs/..%2f..%2fetc * // /\\ /% http://x/payments http://[::1 http://x:99999/".split()
    ),
    st.binary(max_size=30).map(lambda raw: b"/" + re.sub(rb"[\x00-\x20]", b"", raw)),
)
CODINGS = b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"
BODIES = st.one_of(
    st.sampled_from(
        [b"", GOOD, b"{", b"null", b"[]", b'{"a":1e999}', b'{"originId":"|"}', b'{"token":"\\ud800"}', b"\xff"]
    ),
    st.binary(max_size=100),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is framed rightly, whatever else it is; the server is asked to close after it."""
    body = draw(BODIES)
    lines = [b"%s %s HTTP/1.1" % (draw(METHODS), draw(PATHS)), b"Host: x", b"Connection: close"]
    lines += [b"%s: %s" % header for header in draw(st.lists(st.tuples(NAMES, VALUES), max_size=6))]
    if draw(st.booleans()):
        lines += [b"X-Origin-Id: originA", b"Idempotency-Key: k", b"Content-Type: application/json"]
    if draw(st.booleans()):
        framed, lines = body, [*lines, b"Content-Length: %d" % len(body)]
    else:
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        lines = [*lines, b"Transfer-Encoding: chunked"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + framed


@pytest.fixture(scope="module")
def ingress() -> Iterator[IngressThread]:
    with IngressThread() as thread:
        yield thread


def answer_to(url: str, sent: bytes, *, half_close: bool = False) -> bytes:
    """Return all that comes until the server closes, or has nothing more to say."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), ANSWER_TIMEOUT_S) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):  # it may close before all was sent
            connection.sendall(sent)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while len(received) < MAX_ANSWER_BYTES and (part := connection.recv(65536)):
                received += part
        return received


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def final_statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] ([2-9][0-9]{2}) ", answer)]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=requests())
@example(sent=b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: \xff\r\n\r\n")
@example(sent=b"POST /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + CODINGS + b"\r\n")
@example(sent=b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n1")
def test_request_is_answered_without_a_defect_whatever_it_holds(sent: bytes, ingress: IngressThread) -> None:
    with capture_logs() as lines:
        answer = answer_to(ingress.url, sent)
    statuses = final_statuses(answer)
    assert statuses, sent
    assert all(status < 500 for status in statuses)
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
    if statuses[0] >= 400 and not sent.startswith(b"HEAD"):
        head = answer.removeprefix(CONTINUE).partition(b"\r\n\r\n")[0]  # an interim answer has no media type
        assert b"application/problem+json" in head


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=requests(), place=st.integers(0, 2_000), noise=st.binary(max_size=8))
def test_bytes_are_no_defect_when_they_are_no_request(
    sent: bytes, place: int, noise: bytes, ingress: IngressThread
) -> None:
    with capture_logs() as lines:
        answer = answer_to(ingress.url, sent[:place] + noise + sent[place + 1 :], half_close=True)
    assert all(status < 500 for status in final_statuses(answer))
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []


def test_door_serves_after_all_that(ingress: IngressThread) -> None:
    answer = answer_to(ingress.url, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert final_statuses(answer) == [200]
