"""How addresses are written: of brokers, of web servers, and which of them are this machine's alone. Pure.

Called by `streams.settings` and by who asks brokers one by one (`operator_tools.reachability`).
"""

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

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


def broker_list(text: str) -> str:
    """Return the list with a host and a port for each broker. Raises: ValueError, as `addresses_of`."""
    # Written anew, since not every client takes spaces, an empty entry or a protocol in it.
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses_of(text))


def web_address(text: str) -> str:
    """Return the address of a web server, unchanged. Raises: ValueError."""
    try:
        found = urlsplit(text)
        whole = found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
    except ValueError:
        whole = False
    if not whole or re.search(r"\s", text):
        raise ValueError("is not the address of a web server, such as https://host:8081")
    return text


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine reaches this address. Of names, `localhost` alone is believed."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
