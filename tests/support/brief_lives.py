"""A worker of the orders or claims app to which a day is half a second: its rows end while a test looks on.

Run as a process, `python -m tests.support.brief_lives orders`. Nothing else differs from production's.
"""

import sys

from streams import bootstrap
from streams.cli.program import run_program
from streams.cli.programs import COMPONENTS

DAY_MS = 500

if __name__ == "__main__":
    bootstrap.DAY_MS = DAY_MS
    name = sys.argv[1]
    run_program(name, getattr(bootstrap, COMPONENTS[name][1]))
