"""Python's cyclic garbage collector in a program that serves: it walks what payments make, not what a start has made.

Called by `loop` when a program says that it serves. By default the collector runs after each 700 containers more than
before, and each tenth run of each tenth run is over everything that there is: some hundred thousand objects of imported
modules, and the rows that a worker remembers. None of those is garbage. Payments leave next to none that needs the
collector: all they leave goes by its count of references.
"""

import gc
from typing import Final

CONTAINERS: Final = 5_000
"""More than at the last run, before the youngest are walked: a row that is replaced within a second is never met."""

RUNS: Final = 10
"""Of one generation before the next older one is walked, too. Python's own number."""


def spare_what_stands() -> None:
    """Leave what there is now out of all later runs, and let them be rarer. Twice is safe."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(CONTAINERS, RUNS, RUNS)
