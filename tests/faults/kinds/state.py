"""The local tables of a worker: deleted, older than the changelog, or on a disk that is full."""

import asyncio
import errno
import os
import random
import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.faults.fault import Fault, Site, cause_is_gone
from tests.faults.world import World

KINDS = ("orders", "claims")
DISK_BYTES = 256 * 1024 * 1024
FILL_CHUNK = b"\0" * (1024 * 1024)
FULL_FOR_S = (3.0, 6.0)
APART_S = (1.0, 3.0)
MOUNT_TIMEOUT_S = 10.0


async def delete(world: World, chance: random.Random, *, kind: str) -> str:
    """Kill a worker and take its tables away: it reads everything back from the changelogs."""
    name = chance.choice(world.workers(kind))
    async with world.held_down(name):
        await world.kill(name)
        await asyncio.to_thread(shutil.rmtree, world.state_dir(name), ignore_errors=True)
    cause_is_gone()
    await world.running(name)
    return f"{name} lost its tables"


async def set_back(world: World, chance: random.Random, *, kind: str) -> str:
    """Kill a worker twice, and give it the second time the tables that it had the first time."""
    name = chance.choice(world.workers(kind))
    folder = world.state_dir(name)
    older = folder.with_name(f"{name}-older")
    async with world.held_down(name):
        await world.kill(name)
        await asyncio.to_thread(shutil.copytree, folder, older, dirs_exist_ok=True)
    await world.running(name)
    seconds = chance.uniform(*APART_S)
    await world.pause(seconds)
    async with world.held_down(name):
        await world.kill(name)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await asyncio.to_thread(older.rename, folder)
    cause_is_gone()
    await world.running(name)
    return f"{name} has tables that are {seconds:.1f} s old"


async def fill_disk(world: World, chance: random.Random, *, kind: str) -> str:
    """Put a worker's tables on a small file system, fill that, and kill the worker; after a while make room again."""
    name = chance.choice(world.workers(kind))
    folder = world.state_dir(name)
    async with world.held_down(name):
        await world.kill(name)
        folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_mount, folder)
    try:
        await world.running(name)
        filler = folder / "filler"
        await asyncio.to_thread(_fill, filler)
        # What RocksDB has open it has reserved room for: the tables must be opened anew to miss it.
        await world.kill(name)
        seconds = chance.uniform(*FULL_FOR_S)
        await world.pause(seconds)
        filler.unlink()
        await world.running(name)
    finally:
        async with world.held_down(name):
            await world.kill(name)
            await asyncio.to_thread(_unmount, folder)
    cause_is_gone()
    await world.running(name)
    return f"the disk of {name} full for {seconds:.1f} s"


def _mount(folder: Path) -> None:
    argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    subprocess.run(argv, check=True, capture_output=True, timeout=MOUNT_TIMEOUT_S)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True, capture_output=True, timeout=MOUNT_TIMEOUT_S)


def _fill(filler: Path) -> None:
    """Write until nothing fits any more, not even a little."""
    with filler.open("wb", buffering=0) as file:
        for chunk in (FILL_CHUNK, FILL_CHUNK[:4096]):
            for _ in range(DISK_BYTES // len(chunk) + 1):
                try:
                    file.write(chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break


def cannot_mount() -> str | None:
    """Return why no small file system can be made here, or None."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        return "a small file system needs root and `mount`"
    return None


FAULTS = (
    *(Fault(name=f"tables-deleted-{kind}", site=Site.WORKERS, strike=partial(delete, kind=kind)) for kind in KINDS),
    *(Fault(name=f"tables-older-{kind}", site=Site.WORKERS, strike=partial(set_back, kind=kind)) for kind in KINDS),
    *(
        Fault(name=f"disk-full-{kind}", site=Site.WORKERS, strike=partial(fill_disk, kind=kind), missing=cannot_mount)
        for kind in KINDS
    ),
)
