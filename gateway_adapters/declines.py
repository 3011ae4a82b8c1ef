"""What each gateway calls its declines: a data file in its folder, `declines.json`, and its one reader.

Called by the pure translators, so a file is read once, when its translator is imported. The file holds the gateway's
own list of codes, where that list stands and of which version it is, and the unified code of each:

    {"source": "https://…", "version": "…", "codes": {"insufficient_funds": "insufficient_funds", …}}

A test of each gateway compares the codes with the pinned list. A code that a gateway adds later is in no file. It is
kept as it came and classed `unknown`: it means nothing of itself, and least of all a plain decline of the card.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final

import orjson

from gateway_adapters.errors import DECLINES, Code, decline_for
from schemas.records.gateway import OperationError

FILE: Final = "declines.json"
MAX_CODES: Final = 1_000
"""Codes in one file; the longest list that a gateway publishes has some two hundred."""

_PACKAGE: Final = "gateway_adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclineCodes:
    """One gateway's decline codes."""

    source: str  # where the gateway lists them
    version: str  # of that list
    codes: Mapping[str, Code]  # by the gateway's own code

    def decline_of(self, gateway_code: str | None, *, advice: str | None = None) -> OperationError:
        """Return the error of a decline with this code of the gateway's; None: it gave none.

        Args:
            gateway_code: as it came; it is kept, also when nobody knows it.
            advice: what the issuer or the network advises, as it came.
        """
        known = Code.UNKNOWN if gateway_code is None else self.codes.get(gateway_code, Code.UNKNOWN)
        return decline_for(known, gateway_code=gateway_code, advice=advice)


def decline_codes(folder: str) -> DeclineCodes:
    """Return the codes of the gateway whose folder this is.

    Raises:
        ValueError: the file is not as described above: it was released with a fault.
    """
    return read_codes(resources.files(_PACKAGE).joinpath(folder, FILE).read_bytes())


def read_codes(raw: bytes) -> DeclineCodes:
    """Return the codes in the bytes of a file. Raises: ValueError: it is not as described above."""
    said: object = orjson.loads(raw)
    if not isinstance(said, dict) or said.keys() != {"source", "version", "codes"}:
        raise ValueError(f"{FILE} must hold source, version and codes")
    source, version, codes = said["source"], said["version"], said["codes"]
    if not (isinstance(source, str) and source and isinstance(version, str) and version):
        raise ValueError(f"{FILE}: source and version must be texts")
    if not isinstance(codes, dict) or not 0 < len(codes) <= MAX_CODES:
        raise ValueError(f"{FILE}: codes must be an object of 1 to {MAX_CODES} codes")
    strange = sorted(code for code, unified in codes.items() if unified not in set(DECLINES))
    if strange:
        raise ValueError(f"{FILE}: no decline of ours is meant by {', '.join(strange[:3])}")
    unified = {code: Code(meant) for code, meant in codes.items()}
    return DeclineCodes(source=source, version=version, codes=MappingProxyType(unified))
