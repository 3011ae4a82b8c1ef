"""One row of a table of fences: what of a library is mended or looked into past its public names, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """One fence. It goes when upstream no longer needs it: its test fails then, or its `stock` half does."""

    name: str
    """`module.name` in the folder of the table; of a class its method may follow."""
    upstream: str
    """The issue, as `#647`; empty: none was found or filed."""
    breaks: str
    """What happens without it."""
    faust_md: str = ""
    """Its numbers in docs/FAUST.md."""
