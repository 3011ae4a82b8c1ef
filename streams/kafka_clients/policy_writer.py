"""Setting an origin's policy: the next version, appended to `policies.v1`.

Called by `policy set` and the tests. Reads the topic to its end first, so that the version rises; of two operators who
set the same origin's policy at once the later append wins, as everywhere on a log.
"""

import dataclasses
import uuid

from gateway_adapters import policy as rules
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
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
    view = PolicyView(codec)
    async for record in read_log(connection, topic):
        view.take(record.key, record.value, record.headers)
    current = view.current().get(wish.origin_id)
    policy = dataclasses.replace(wish, version=1 if current is None else current.version + 1, updated_at_ms=now_ms)
    try:
        rules.validate(policy)
    except MisconfiguredError as error:
        raise RejectedError(str(error)) from error
    envelope = Envelope(
        id=str(uuid.uuid4()), source=SOURCE, type=TYPES[OriginPolicy], subject=policy.origin_id, time_ms=now_ms
    )
    message = codec.encode(policy, envelope)
    writer = LogWriter(connection)
    try:
        await writer.append(
            topic,
            key=policy.origin_id.encode(),
            value=message.value,
            headers=message.headers,
            timeout_s=APPEND_TIMEOUT_S,
        )
    finally:
        await writer.stop()
    return policy
