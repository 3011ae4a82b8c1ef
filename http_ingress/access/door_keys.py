"""The keys that a door asks for, opened from its settings: the merchants' door, or the desk's.

Called by the composition of each door at its start.
"""

import time
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from http_ingress.access.api_keys import FileKeyStore, KeyRing
from schemas.misconfigured import MisconfiguredError
from streams.kafka_clients.log_clock import wall_clock_ms


class DoorSettings(Protocol):
    """What both doors have settings for."""

    @property
    def dev(self) -> bool:
        """Whether this is development, where nobody needs a key."""

    @property
    def keys_file(self) -> Path | None:
        """Where the key file is."""

    @property
    def keys_pepper(self) -> SecretStr | None:
        """What the keys' hashes are made with."""

    def why_dev_is_refused(self) -> str | None:
        """Return why this deployment may not do without keys; None: it may, or it has some."""


def open_keys(door: DoorSettings, *, prefix: str, advice: str = "") -> tuple[FileKeyStore, KeyRing] | None:
    """Return the door's key file and the ring that judges keys by it; None in development, where nobody needs one.

    Args:
        door: The door's settings.
        prefix: How the names of their variables begin, for errors.
        advice: What an error about a missing file adds.

    Raises:
        MisconfiguredError: There is no key file, it cannot be read, it has no pepper, or development is refused.
    """
    refusal = door.why_dev_is_refused()
    if refusal is not None:
        raise MisconfiguredError(refusal)
    if door.dev:
        return None
    if door.keys_file is None:
        raise MisconfiguredError(
            f"{prefix}_KEYS_FILE: needed, unless {prefix}_DEV says that this is development{advice}"
        )
    try:
        store = FileKeyStore(door.keys_file, monotonic=time.monotonic, now_ms=wall_clock_ms)
    except MisconfiguredError as error:
        raise MisconfiguredError(f"{prefix}_KEYS_FILE: {error}") from error
    if door.keys_pepper is None:
        raise MisconfiguredError(f"{prefix}_KEYS_PEPPER: needed with keys")
    return store, KeyRing(store, pepper=door.keys_pepper.get_secret_value().encode())
