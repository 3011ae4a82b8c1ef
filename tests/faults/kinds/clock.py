"""A process whose clock is wrong: hours ahead, or behind, or beyond the life of any claim and order.

By libfaketime (Debian: `apt install faketime`), and by `c11_waits.c` for the waits that it does not know.
Such a process sweeps for what has expired by the second, so that its wrong clock has the time to do harm.
"""

import asyncio
import functools
import random
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from tests.faults.fault import Fault, FaultNotPlayedError, Site, cause_is_gone
from tests.faults.world import World

KINDS = ("ingress", "orders", "claims", "executor", "operators")
OFFSETS = ("+2h", "+200d", "-2h")
WRONG_FOR_S = (3.0, 6.0)
LIBRARY_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
LIBRARY = "libfaketime.so.1"
COMPILER = "cc"
COMPILE_LIMIT_S = 60.0


@functools.cache
def library() -> Path | None:
    """Return where libfaketime is, or None."""
    patterns = (f"faketime/{LIBRARY}", f"*/faketime/{LIBRARY}")
    found = (path for folder in LIBRARY_FOLDERS for pattern in patterns for path in Path(folder).glob(pattern))
    return next(found, None)


def no_library() -> str | None:
    """Return what is missing, or None."""
    if shutil.which(COMPILER) is None:
        return "there is no C compiler (Debian: gcc, libc6-dev)"
    return None if library() is not None else f"{LIBRARY} is not installed (Debian: faketime)"


@functools.cache
def waits() -> Path:
    """Return the library of `c11_waits.c`, made when first asked for. Raises: CalledProcessError."""
    made = Path(tempfile.mkdtemp(prefix="c11-waits-")) / "libc11waits.so"
    source = Path(__file__).with_name("c11_waits.c")
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(made), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_LIMIT_S)
    return made


def _is_loaded(pid: int) -> bool:
    return LIBRARY.partition(".")[0] in Path(f"/proc/{pid}/maps").read_text()


async def set_wrong(world: World, chance: random.Random, *, kind: str) -> str:
    """Restart a process with a clock that is wrong; after a while restart it with the right one."""
    name = chance.choice(world.workers(kind))
    component = world.engine.components[name]
    right, offset = component.environment, chance.choice(OFFSETS)
    wrong = {
        **right,
        "LD_PRELOAD": f"{library()}:{waits()}",
        "FAKETIME": offset,
        # Time-outs and back-offs go by the monotonic clock, which no clock setting moves.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PAYMENT_ENGINE_STREAM_SWEEP_INTERVAL_S": "1",
    }
    try:
        async with world.held_down(name):
            await world.kill(name)
            component.environment = wrong
        await world.running(name)
        if not await asyncio.to_thread(_is_loaded, component.pid):
            raise FaultNotPlayedError(f"{name} runs without {LIBRARY}")
        seconds = chance.uniform(*WRONG_FOR_S)
        await world.pause(seconds)
    finally:
        async with world.held_down(name):
            await world.kill(name)
            component.environment = right
    cause_is_gone()
    await world.running(name)
    return f"the clock of {name} {offset} for {seconds:.1f} s"


FAULTS = tuple(
    Fault(name=f"clock-{kind}", site=Site.WORKERS, strike=partial(set_wrong, kind=kind), missing=no_library)
    for kind in KINDS
)
