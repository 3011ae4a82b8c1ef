"""Imports `kio` without hypothesis, which it would otherwise load whenever it is installed.

Imported first by the package. `kio.static._phantom` imports hypothesis to register strategies for kio's own tests; in
a developer's environment that is half of the broker's start-up (0.3 of 0.6 s, measured with kio 0.6.5), and nobody
here uses those strategies. Where hypothesis is loaded already (under pytest) there is nothing to save and nothing is
done.
"""

import importlib
import sys
from typing import Final, cast

_UNWANTED: Final = "hypothesis"


def import_kio() -> None:
    """Loads kio's base module; a second call does nothing."""
    if _UNWANTED in sys.modules:
        return
    # None in sys.modules makes the import fail with ImportError, which kio expects of an environment without it.
    modules = cast("dict[str, object]", sys.modules)
    modules[_UNWANTED] = None
    try:
        importlib.import_module("kio.static.primitive")
    finally:
        del modules[_UNWANTED]


import_kio()
