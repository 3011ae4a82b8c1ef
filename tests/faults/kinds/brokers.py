"""Brokers that are killed, frozen, restarted all at once, or lose the leadership of their partitions."""

import asyncio
import random

from confluent_kafka import ElectionType, KafkaException
from confluent_kafka.admin import AdminClient

from tests.faults.fault import Fault, Site
from tests.faults.world import World

GONE_FOR_S = (1.0, 6.0)
FROZEN_FOR_S = (2.0, 10.0)
ALL_GONE_FOR_S = (0.5, 4.0)
ELECT_TIMEOUT_S = 20.0


async def kill(world: World, chance: random.Random) -> str:
    """Kill one broker and start it again on its data."""
    node = chance.choice(world.cluster.nodes)
    seconds = chance.uniform(*GONE_FOR_S)
    node.kill()
    await world.pause(seconds)
    node.start()
    await world.all_brokers_serve()
    return f"broker {node.spec.node_id} gone for {seconds:.1f} s"


async def freeze(world: World, chance: random.Random) -> str:
    """Freeze one broker: its connections stay open and nobody answers."""
    node = chance.choice(world.cluster.nodes)
    seconds = chance.uniform(*FROZEN_FOR_S)
    node.freeze()
    try:
        await world.pause(seconds)
    finally:
        node.thaw()
    await world.all_brokers_serve()
    return f"broker {node.spec.node_id} frozen for {seconds:.1f} s"


async def restart_all(world: World, chance: random.Random) -> str:
    """Kill every broker at once and start them all again."""
    seconds = chance.uniform(*ALL_GONE_FOR_S)
    for node in world.cluster.nodes:
        node.kill()
    await world.pause(seconds)
    for node in world.cluster.nodes:
        node.start()
    await world.all_brokers_serve()
    return f"all brokers gone for {seconds:.1f} s"


async def move_leaders(world: World, chance: random.Random) -> str:
    """Stop one broker cleanly, so that others lead; when it is back, have everything led by whom it should be."""
    node = chance.choice(world.cluster.nodes)
    await asyncio.to_thread(node.stop)
    node.start()
    await world.all_brokers_serve()
    await asyncio.to_thread(_elect_preferred, world.cluster.bootstrap_servers)
    return f"leaders moved off broker {node.spec.node_id} and back"


def _elect_preferred(bootstrap_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        admin.elect_leaders(ElectionType.PREFERRED, request_timeout=ELECT_TIMEOUT_S).result(ELECT_TIMEOUT_S)
    except KafkaException:
        return  # the controller moves them by itself a little later


FAULTS = (
    Fault(name="broker-kill", site=Site.BROKERS, strike=kill),
    Fault(name="broker-freeze", site=Site.BROKERS, strike=freeze),
    Fault(name="brokers-restart-all", site=Site.BROKERS, strike=restart_all),
    Fault(name="leaders-moved", site=Site.BROKERS, strike=move_leaders),
)
