"""What a setting can be: types that judge a value when it is read, and say what is wrong with it without showing it.

Called by `streams.settings`. Pure, but for a file of certificates, which is read.
"""

import re
import ssl
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

DEFAULT_BROKER_PORT: Final = 9092
MAX_BROKERS: Final = 32
MAX_PORT: Final = 65_535
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")


def addresses_of(bootstrap_servers: str) -> tuple[tuple[str, int], ...]:
    """Return the hosts and ports of a list such as `a:9092,[::1]:9093`, in order; a port that is left out is 9092.

    Raises:
        ValueError: the list names no broker, too many, or something that is not `host:port`.
    """
    parts = [part.strip() for part in bootstrap_servers.split(",") if part.strip()]
    if not 1 <= len(parts) <= MAX_BROKERS:
        raise ValueError(f"names {len(parts)} brokers, wanted are 1 to {MAX_BROKERS}")
    return tuple(_address(number, part) for number, part in enumerate(parts, start=1))


def _address(number: int, part: str) -> tuple[str, int]:
    plain = part.rpartition("://")[2]  # the protocol, which Java's documents write here, is a setting of its own
    host, separator, port = plain.rpartition(":")
    if not separator or plain.endswith("]"):
        host, port = plain, str(DEFAULT_BROKER_PORT)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (_HOST.fullmatch(host) and port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
        raise ValueError(f"entry {number} is not host:port")
    return host, int(port)


def _broker_list(text: str) -> str:
    # Written anew, since not every client takes spaces, an empty entry or a protocol in it.
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses_of(text))


def _certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:
        raise ValueError(f"holds no CA certificates that can be read ({error.strerror or error})") from error
    return path


def _stated(text: object) -> object:
    if text == "":
        raise ValueError("is empty, which would mean the folder that the program was started in")
    return text


def _web_address(text: str) -> str:
    try:
        found = urlsplit(text)
        whole = found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
    except ValueError:
        whole = False
    if not whole or re.search(r"\s", text):
        raise ValueError("is not the address of a web server, such as https://host:8081")
    return text


Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
MemberId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
"""Kafka's own rule for the id of a static member; a broker refuses another when the worker joins."""
BrokerList = Annotated[str, AfterValidator(_broker_list)]
FilePath = Annotated[Path, BeforeValidator(_stated)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Certificates = Annotated[FilePath, AfterValidator(_certificates)]
