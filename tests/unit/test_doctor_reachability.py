"""Asking an address directly: every way in which it may not be a broker has its own words."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from streams.operator_tools.errors import UnreachableError
from streams.operator_tools.reachability import MAX_ANSWER_BYTES, ask_all, require_broker, wait_for_broker
from streams.settings import KafkaSettings

TIMEOUT_S = 2.0
GOOD = struct.pack(">ihi", 1, 0, 2) + struct.pack(">hhh", 0, 3, 9) + struct.pack(">hhh", 18, 0, 4)


@contextlib.contextmanager
def _answering(answer: bytes | None) -> Iterator[str]:
    """A server that takes one request and gives this answer; None: it says nothing until the client leaves."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, answer))
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join(TIMEOUT_S)


def _serve(server: socket.socket, answer: bytes | None) -> None:
    server.settimeout(TIMEOUT_S)
    with contextlib.suppress(OSError):
        line, _ = server.accept()
        with line:
            line.settimeout(TIMEOUT_S)
            line.recv(1024)
            if answer is None:
                line.recv(1024)
            else:
                line.sendall(answer)


def _framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def test_ask_all_returns_the_apis_when_a_broker_answers() -> None:
    with _answering(_framed(GOOD)) as address:
        (answer,) = ask_all(KafkaSettings(bootstrap_servers=address))
    assert answer.fault is None
    assert answer.apis == {0: (3, 9), 18: (0, 4)}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
        _framed(b"\x00" * 3),
        struct.pack(">i", MAX_ANSWER_BYTES + 1),
        _framed(struct.pack(">ihi", 2, 0, 0)),
        _framed(struct.pack(">ihi", 1, 35, 0)),
        _framed(struct.pack(">ihi", 1, 0, 5)[:-1]),
        _framed(struct.pack(">ihi", 1, 0, 1) + b"\x00"),
    ],
)
def test_ask_all_says_no_broker_when_something_else_answers(answer: bytes) -> None:
    with _answering(answer) as address:
        (told,) = ask_all(KafkaSettings(bootstrap_servers=address))
    assert told.fault is not None
    assert told.fault.startswith("not a Kafka broker")


def test_ask_all_says_no_answer_when_the_address_is_silent() -> None:
    with _answering(None) as address:
        (told,) = ask_all(KafkaSettings(bootstrap_servers=address), timeout_s=0.2)
    assert told.fault == "no answer within 0.2 s"


def test_ask_all_says_tls_failed_when_the_broker_speaks_plain_text() -> None:
    with _answering(_framed(GOOD)) as address:
        (told,) = ask_all(KafkaSettings(bootstrap_servers=address, security_protocol="SSL"))
    assert told.fault is not None
    assert told.fault.startswith("TLS failed")


def test_require_broker_names_every_address_when_none_answers() -> None:
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1,host.invalid:9092")
    with pytest.raises(UnreachableError) as caught:
        require_broker(settings)
    assert "127.0.0.1:1: connection refused" in str(caught.value)
    assert "host.invalid:9092: the name does not resolve" in str(caught.value)


def test_require_broker_returns_when_one_of_several_answers() -> None:
    with _answering(_framed(GOOD)) as address:
        require_broker(KafkaSettings(bootstrap_servers=f"127.0.0.1:1,{address}"))


def test_wait_for_broker_returns_when_one_answers_later() -> None:
    told: list[str] = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # nobody listens yet: refused
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=_serve, args=(server, _framed(GOOD)))

        def say(text: str) -> None:
            told.append(text)
            server.listen()
            thread.start()

        wait_for_broker(KafkaSettings(bootstrap_servers=address, start_wait_s=30), say=say)
        thread.join(TIMEOUT_S)
    assert told == [f"no broker answers ({address}: connection refused); asking again for 30 s"]
