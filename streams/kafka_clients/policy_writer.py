"""Setting an origin's policy, or deleting it: the next version, or a tombstone, appended to `policies.v1`.

Called by `policy set`, `policy delete` and the tests. Reads the topic to its end first, so that the version
rises; of two operators who set the same origin's policy at once the later append wins, as everywhere on a log.
"""

import dataclasses
import uuid

from gateway_adapters import policy as rules
from schemas.event_types import TYPES
from schemas.messages import EncodedMessage, Envelope, MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.policies import OriginPolicy
from schemas.topics import POLICIES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.errors import RejectedError
from streams.kafka_clients.log_reader import read_log
from streams.kafka_clients.policy_follower import PolicyView
from streams.kafka_clients.producer import LogWriter

SOURCE = "payment-engine/policy"
APPEND_TIMEOUT_S = 15.0


async def set_policy(
    connection: KafkaConnection, codec: MessageCodec, wish: OriginPolicy, *, now_ms: int, topic: str = POLICIES
) -> OriginPolicy:
    """Make `wish` the origin's policy and return it as written: its version is the current one's plus one.

    Args:
        connection: the broker.
        codec: the message codec.
        wish: the policy; its `version` and `updated_at_ms` are replaced.
        now_ms: the time it counts from.
        topic: another topic, in a test.

    Raises:
        RejectedError: the policy cannot be followed; the message says why.
        LogError, MisconfiguredError: as of `read_log` and `LogWriter.append`.
    """
    current = await _current(connection, codec, wish.origin_id, topic)
    policy = dataclasses.replace(wish, version=1 if current is None else current.version + 1, updated_at_ms=now_ms)
    try:
        rules.validate(policy)
    except MisconfiguredError as error:
        raise RejectedError(str(error)) from error
    envelope = Envelope(
        id=str(uuid.uuid4()), source=SOURCE, type=TYPES[OriginPolicy], subject=policy.origin_id, time_ms=now_ms
    )
    message = codec.encode(policy, envelope)
    await _append(connection, topic, policy.origin_id, message)
    return policy


async def delete_policy(
    connection: KafkaConnection, codec: MessageCodec, origin_id: str, *, topic: str = POLICIES
) -> bool:
    """Take the origin's policy out of force, and return whether it had one; without one nothing is written.

    Raises:
        LogError, MisconfiguredError: as of `read_log` and `LogWriter.append`.
    """
    if await _current(connection, codec, origin_id, topic) is None:
        return False
    await _append(connection, topic, origin_id, None)
    return True


async def _current(connection: KafkaConnection, codec: MessageCodec, origin_id: str, topic: str) -> OriginPolicy | None:
    view = PolicyView(codec)
    async for record in read_log(connection, topic):
        view.take(record.key, record.value, record.headers)
    return view.current().get(origin_id)


async def _append(connection: KafkaConnection, topic: str, origin_id: str, message: EncodedMessage | None) -> None:
    """Append a policy, or a tombstone for None. Raises: as `LogWriter.append`."""
    writer = LogWriter(connection)
    try:
        await writer.append(
            topic,
            key=origin_id.encode(),
            value=None if message is None else message.value,
            headers=() if message is None else message.headers,
            timeout_s=APPEND_TIMEOUT_S,
        )
    finally:
        await writer.stop()
