"""Does a broker answer at an address, and which Kafka APIs does it speak? Asked directly, so that a fault has a cause.

Called by `kafka_log` before a client is made, by the doctor, and by the engine's programs before they start. A Kafka
client tries in the background until its time-out and then says "timed out" to a wrong port, a wrong name and a firewall
alike; one plain connection says which. ApiVersions is allowed before any authentication (KIP-43), so no credential is
needed or sent here.
"""

import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streams.addresses import addresses_of
from streams.operator_tools.errors import UnreachableError
from streams.settings import KafkaSettings

CONNECT_TIMEOUT_S = 3.0
"""Longest wait for one address; a broker that needs longer is no broker to run payments on."""

ASK_AGAIN_S = 1.0
"""Between two rounds of asking while nobody answers."""

MIN_ANSWER_BYTES = 10
MAX_ANSWER_BYTES = 1_000_000
_API_VERSIONS_KEY = 18
_CORRELATION_ID = 1
_CLIENT_ID = b"payment-engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one address said."""

    address: str
    apis: Mapping[int, tuple[int, int]]  # API key -> lowest and highest version; empty: no answer
    fault: str | None  # why there is no answer, for a person


def ask_all(settings: KafkaSettings, *, timeout_s: float = CONNECT_TIMEOUT_S) -> tuple[Answer, ...]:
    """Return what each bootstrap address says."""
    return tuple(
        _ask(host, port, settings, timeout_s=timeout_s) for host, port in addresses_of(settings.bootstrap_servers)
    )


def require_broker(settings: KafkaSettings, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Return when one address answers. Raises: UnreachableError, with what each of them said."""
    faults: list[str] = []
    for host, port in addresses_of(settings.bootstrap_servers):
        answer = _ask(host, port, settings, timeout_s=timeout_s)
        if answer.fault is None:
            return
        faults.append(f"{answer.address}: {answer.fault}")
    raise UnreachableError("no broker answers (" + "; ".join(faults) + ")")


def wait_for_broker(settings: KafkaSettings, *, say: Callable[[str], None]) -> None:
    """Return when one address answers, after `settings.start_wait_s` at most.

    A program that ends because its broker is gone is started again while that is still so. If it refused, whoever
    starts it would wait longer from time to time (Kubernetes: up to five minutes), and so would the payments.

    Args:
        settings: the addresses, and how long to wait.
        say: told what is wrong once, when the first round found nobody.

    Raises:
        UnreachableError: nobody answered, with what each address said last.
    """
    give_up_s = time.monotonic() + settings.start_wait_s
    is_told = False
    while True:
        try:
            return require_broker(settings)
        except UnreachableError as error:
            if time.monotonic() + ASK_AGAIN_S > give_up_s:
                raise
            if not is_told:
                say(f"{error}; asking again for {settings.start_wait_s:g} s")
                is_told = True
        time.sleep(ASK_AGAIN_S)


def _ask(host: str, port: int, settings: KafkaSettings, *, timeout_s: float) -> Answer:
    address = f"{host}:{port}"
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            _secured(plain, host, settings) as line,
        ):
            line.sendall(_request())
            return Answer(address=address, apis=_parsed(_received(line)), fault=None)
    except socket.gaierror:
        fault = "the name does not resolve"
    except ConnectionRefusedError:
        fault = "connection refused"
    except TimeoutError:
        fault = f"no answer within {timeout_s:g} s"
    except ssl.SSLError as error:
        fault = f"TLS failed: {error.reason or error}"
    except (OSError, ValueError, struct.error, EOFError) as error:
        fault = f"not a Kafka broker, or another security protocol ({type(error).__name__})"
    return Answer(address=address, apis={}, fault=fault)


def _secured(plain: socket.socket, host: str, settings: KafkaSettings) -> socket.socket:
    if settings.security_protocol not in {"SSL", "SASL_SSL"}:
        return plain
    context = ssl.create_default_context(cafile=settings.ssl_cafile)
    return context.wrap_socket(plain, server_hostname=host)


def _request() -> bytes:
    # Version 0 of ApiVersions: every broker answers it, a future one too, which is what the version is for.
    header = struct.pack(">hhih", _API_VERSIONS_KEY, 0, _CORRELATION_ID, len(_CLIENT_ID)) + _CLIENT_ID
    return struct.pack(">i", len(header)) + header


def _received(line: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", _exactly(line, 4))
    if not MIN_ANSWER_BYTES <= length <= MAX_ANSWER_BYTES:
        raise ValueError("no Kafka answer")
    answer = _exactly(line, length)
    if struct.unpack_from(">i", answer) != (_CORRELATION_ID,):
        raise ValueError("answer to another question")
    return answer[4:]


def _exactly(line: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = line.recv(length - len(received))
        if not part:
            raise EOFError("the connection was closed")
        received += part
    return bytes(received)


def _parsed(body: bytes) -> Mapping[int, tuple[int, int]]:
    # ApiVersionsResponse version 0: error code, then an array of (API key, lowest, highest).
    error_code, count = struct.unpack_from(">hi", body)
    if error_code != 0 or not 0 <= count <= MAX_ANSWER_BYTES:
        raise ValueError("the broker refused the question")
    triples = struct.iter_unpack(">hhh", body[6 : 6 + 6 * count])
    return {key: (lowest, highest) for key, lowest, highest in triples}
