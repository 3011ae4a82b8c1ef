"""Brokers that are killed, frozen, restarted all at once, or lose the leadership of their partitions."""

import asyncio
import random

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.faults.fault import Fault, Site, cause_is_gone
from tests.faults.world import World

GONE_FOR_S = (1.0, 6.0)
FROZEN_FOR_S = (2.0, 10.0)
ALL_GONE_FOR_S = (0.5, 4.0)
ADMIN_TIMEOUT_S = 5.0
LOOK_AGAIN_S = 0.25
LEADS_AGAIN_LIMIT_S = 60.0
SETTINGS = {"leader.imbalance.check.interval.seconds": "5", "leader.imbalance.per.broker.percentage": "0"}
"""Of brokers that give leadership back soon [300 s, 10 %]."""


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
    """Stop one broker cleanly, so that others lead; when it is back, the controller has it lead again."""
    node = chance.choice(world.cluster.nodes)
    await asyncio.to_thread(node.stop)
    node.start()
    await world.all_brokers_serve()
    cause_is_gone()
    async with asyncio.timeout(LEADS_AGAIN_LIMIT_S):
        while not await asyncio.to_thread(_leads_something, world.cluster.bootstrap_servers, node.spec.node_id):
            await world.pause(LOOK_AGAIN_S)
    return f"leaders moved off broker {node.spec.node_id} and back"


def _leads_something(bootstrap_servers: str, node_id: int) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        topics = admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics.values()
    except KafkaException:
        return False
    return any(partition.leader == node_id for topic in topics for partition in topic.partitions.values())


FAULTS = (
    Fault(name="broker-kill", site=Site.BROKERS, strike=kill),
    Fault(name="broker-freeze", site=Site.BROKERS, strike=freeze),
    Fault(name="brokers-restart-all", site=Site.BROKERS, strike=restart_all),
    Fault(name="leaders-moved", site=Site.BROKERS, strike=move_leaders),
)
