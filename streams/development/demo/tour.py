"""Runs the tour: a fresh engine, the scenes one after the other, a summary, and an orderly end.

Called by `payment-engine demo`. Nothing outlives it: the broker keeps its log in memory, and tables, logs and the
Mock's ledger go to a temporary folder.
"""

import asyncio
import signal
import tempfile
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.text import Text

from streams.development.demo.casts import MOCK, Cast
from streams.development.demo.drawing import draw_scene
from streams.development.demo.log_desk import LogDesk, now_ms
from streams.development.demo.scenes import Scene
from streams.development.demo.script import ScenePlan, scenes_at
from streams.development.demo.stage import Shared, Stage
from streams.development.local_engine import Component, LocalEngine


async def play_tour(console: Console, stopping: asyncio.Event, *, cast: Cast = MOCK, http_port: int = 0) -> bool | None:
    """Play every scene against a fresh engine.

    Args:
        console: Where the timeline is drawn.
        stopping: Set to end the tour early.
        cast: Whose gateway is played at. Another than the Mock is reached as the settings say.
        http_port: Port of the ingress; 0 takes a free one.

    Returns:
        Whether everything, the engine's end too, went as expected. None when told to stop first; the engine has ended.

    Raises:
        ComponentFailedError: The engine did not start.
    """
    with tempfile.TemporaryDirectory(prefix="payment-engine-demo-") as folder:
        playing = asyncio.ensure_future(_tour(console, Path(folder), cast, http_port))
        stop = asyncio.ensure_future(stopping.wait())
        await asyncio.wait({playing, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not playing.done():
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            return None
        return await playing


async def _tour(console: Console, folder: Path, cast: Cast, http_port: int) -> bool:
    gateway = "the Mock gateway" if cast is MOCK else f"the gateway {cast.gateway}"
    console.print(f"Starting an engine: the embedded broker (in memory, not Kafka) and {gateway} …")
    if cast.lacks:
        console.print(cast.lacks)
    began_ms = now_ms()
    own = {} if cast is MOCK else {"PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS": cast.gateway}
    engine, scenes = LocalEngine(folder=folder, http_port=http_port, environment=own), scenes_at(cast)
    async with engine:
        console.print(f"Ready after {now_ms() - began_ms} ms: {engine.url}, {len(engine.components)} processes.")
        async with aiohttp.ClientSession() as session:
            desk = LogDesk(engine.bootstrap_servers)
            shared = Shared(session=session, url=engine.url, desk=desk, cast=cast, began_ms=began_ms)
            played = [await _play(console, shared, scenes, number) for number in range(len(scenes))]
        lost = [each.name for each in engine.components.values() if not each.running]
        console.print()
        console.print("Stopping the engine …")
    unclean = [each.name for each in engine.components.values() if not _ended_well(each)]
    return _summarize(console, played, lost=lost, unclean=unclean, took_ms=now_ms() - began_ms)


async def _play(console: Console, shared: Shared, scenes: tuple[ScenePlan, ...], number: int) -> Scene:
    plan = scenes[number]
    scene = Scene(title=plan.title, meaning=plan.meaning)
    try:
        await plan.play(Stage(shared, scene))
    except (aiohttp.ClientError, TimeoutError, KeyError) as error:
        # KeyError: an earlier scene left no payment to go on with.
        scene.faults.append(f"broken off: {type(error).__name__}: {error}")
    draw_scene(console, scene, number=number + 1, count=len(scenes))
    return scene


def _ended_well(component: Component) -> bool:
    return component.process is not None and component.process.returncode in {0, -signal.SIGTERM}


def _summarize(console: Console, played: list[Scene], *, lost: list[str], unclean: list[str], took_ms: int) -> bool:
    right = [scene for scene in played if not scene.faults]
    text = f"{len(right)} of {len(played)} scenes as expected, in {took_ms / 1000:.1f} s."
    ok = len(right) == len(played) and not lost and not unclean
    console.print(Text(text, style="bold green" if ok else "bold red"))
    for label, names in (("ended during the tour", lost), ("did not end cleanly", unclean)):
        if names:
            console.print(Text(f"{', '.join(names)} {label}", style="bold red"))
    return ok
