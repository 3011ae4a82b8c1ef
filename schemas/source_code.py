"""Functions put together from source at import, where a loop over a record's fields would cost more than their work.

Called by `schemas.avro_binary`, `schemas.quick_init` and `schemas.records.commands`, with the names of fields of our
own classes and nothing else: never with anything from a message or a setting. `dataclasses` of the standard library
works the same way.
"""

from collections.abc import Iterable
from typing import Any


def indented(lines: Iterable[str]) -> list[str]:
    """Return the lines one level deeper."""
    return [f"    {line}" for line in lines]


def compiled(source: str, name: str, known: dict[str, Any]) -> Any:
    """Return the function of this name that the source defines. `known` is what it may use; it is kept and changed."""
    exec(source, known)  # noqa: S102 -- see the module's docstring
    return known[name]
