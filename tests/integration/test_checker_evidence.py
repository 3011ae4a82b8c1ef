"""The gathering of evidence from a broker: the whole log of a run, garbage among it, and the lag of the consumers."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

from schemas import topics
from streams.kafka.stamps import Stamp, to_header
from streams.kafka_clients.connection import KafkaConnection
from streams.topology import GROUPS
from tests.support.checker import violations
from tests.support.embedded_process import embedded_broker_process
from tests.support.evidence import EvidenceGatherer
from tests.support.exhibits import LedgerEntry, owed_by_gateway
from tests.support.group_lag import GroupLag
from tests.support.order_desk import ORDER, ORIGIN
from tests.support.replay_course import INPUT_TOPICS
from tests.support.staged_life import KEY, valid_run
from tests.support.staged_run import StagedRun

ANSWER_TIMEOUT_S = 10.0
RUN = "order-"
KEPT = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
"""Records of 1970, for as long as the tests take."""
GARBAGE = (b"\x00\x7f\xff\xff\xffnobody knows this schema", b"noise", None)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """A broker with the catalogue's topics, a partition each, whose records keep the times they are given."""
    with embedded_broker_process() as address:
        admin = AdminClient({"bootstrap.servers": address})
        wanted = [NewTopic(each.name, num_partitions=1, replication_factor=1, config=KEPT) for each in topics.CATALOGUE]
        for answer in admin.create_topics(wanted).values():
            answer.result(ANSWER_TIMEOUT_S)
        yield address


@pytest.fixture(scope="module")
def staged() -> StagedRun:
    return valid_run()


@pytest.fixture(scope="module")
def log(broker: str, staged: StagedRun) -> str:
    """The staged run on the broker, with garbage under its own and under other keys on every topic."""
    producer = Producer({"bootstrap.servers": broker, "enable.idempotence": True})
    for topic in (*INPUT_TOPICS, topics.EVENTS, topics.CLAIMS, topics.GATEWAY_REQUESTS):
        for value in GARBAGE:
            for key in (b"\xff\xfe", None, *([] if topic == topics.EVENTS else [ORDER.encode()])):
                producer.produce(topic, value, key, headers=[("content-type", b"application/avro")], timestamp=1)
        for record in staged.log[topic]:
            producer.produce(
                topic, record.value, record.key, headers=list(record.headers), timestamp=record.timestamp_ms
            )
    producer.produce(topics.ORDERS_CHANGELOG, b"noise", KEY, headers=[to_header(Stamp(9, 9))])
    nobodys = replace(staged.changelog[-1][2], version=99)
    producer.produce(topics.ORDERS_CHANGELOG, staged.codec.encode_row(nobodys), KEY)  # no owner has stamped it
    for key, stamp, row in staged.changelog:
        producer.produce(topics.ORDERS_CHANGELOG, staged.codec.encode_row(row), key, headers=[to_header(stamp)])
    assert producer.flush(ANSWER_TIMEOUT_S) == 0
    return broker


def committed(address: str, *, short_of: int = 0) -> None:
    """Let every group commit all of its topics, but for the last so many records of the requests."""
    admin = AdminClient({"bootstrap.servers": address})
    for group, names in GROUPS.items():
        places = [
            TopicPartition(name, 0, _end(address, name) - (short_of if name == topics.GATEWAY_REQUESTS else 0))
            for name in names
        ]
        for answer in admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)]).values():
            answer.result(ANSWER_TIMEOUT_S)


def _end(address: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "looks"})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), ANSWER_TIMEOUT_S)
    finally:
        consumer.close()
    return int(end)


def written(ledger: list[LedgerEntry], path: Path) -> Path:
    """The ledger in a file such as the Mock's."""
    names = [each.name for each in fields(LedgerEntry) if each.name not in {"token", "gateway"}]
    columns = ", ".join(names)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"CREATE TABLE ledger ({columns}, payment_id)")
        database.execute("CREATE TABLE payments (id, token)")
        database.execute("CREATE TABLE transitions (seq)")
        database.execute("CREATE TABLE deliveries (seq, state)")
        for entry in ledger:
            payment = f"{entry.origin_id}|{entry.order_id}"
            values = [*(getattr(entry, name) for name in names), payment]
            database.execute(f"INSERT INTO ledger VALUES ({', '.join('?' * len(values))})", values)
            if database.execute("SELECT count(*) FROM payments WHERE id = ?", [payment]).fetchone() == (0,):
                database.execute("INSERT INTO payments VALUES (?, ?)", [payment, entry.token])
        database.commit()
    return path


async def test_gathered_evidence_of_a_valid_run_has_no_violation_when_garbage_stands_on_every_topic(
    log: str, staged: StagedRun, tmp_path: Path
) -> None:
    committed(log)
    gatherer = EvidenceGatherer(run=RUN, bootstrap_servers=log, ledger_path=written(staged.ledger, tmp_path / "mock"))
    evidence = await gatherer.when_settled(staged.history, timeout_s=20.0)
    assert violations(evidence) == []
    assert evidence.rows[ORIGIN, ORDER] == staged.evidence().rows[ORIGIN, ORDER]
    assert len(evidence.events) == len(staged.log[topics.EVENTS])
    assert evidence.late_rows == 0
    tombstone = 1  # no value on the compacted topic of references: nothing is refused, a key is let go
    assert evidence.refused_inputs == len(INPUT_TOPICS) * len(GARBAGE) - tombstone


async def test_evidence_waits_for_what_the_gateway_still_owes(log: str, staged: StagedRun, tmp_path: Path) -> None:
    committed(log)
    path = written(staged.ledger, tmp_path / "mock")
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO deliveries VALUES (1, 'waiting'), (2, 'delivered')")
        database.commit()
    gatherer = EvidenceGatherer(run=RUN, bootstrap_servers=log, ledger_path=path)
    settling = asyncio.create_task(gatherer.when_settled(staged.history, timeout_s=60.0))
    assert owed_by_gateway(path) == 1
    done, _ = await asyncio.wait([settling], timeout=2.0)
    assert not done
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM deliveries")
        database.commit()
    assert violations(await asyncio.wait_for(settling, 30.0)) == []


async def test_freed_key_is_a_violation(log: str, staged: StagedRun, tmp_path: Path) -> None:
    committed(log)
    producer = Producer({"bootstrap.servers": log})
    for key, stamp in ((b"shop|order-key", Stamp(1, 2)), (b"shop|another-runs", Stamp(1, 2)), (b"shop|order-x", None)):
        producer.produce(topics.CLAIMS_CHANGELOG, None, key, headers=[] if stamp is None else [to_header(stamp)])
    assert producer.flush(ANSWER_TIMEOUT_S) == 0
    gatherer = EvidenceGatherer(run=RUN, bootstrap_servers=log, ledger_path=written(staged.ledger, tmp_path / "mock"))
    evidence = await gatherer.when_settled(staged.history, timeout_s=20.0)
    found = violations(evidence)
    assert found == ["rows_never_regress: claim shop|order-key was forgotten before its life was over"]


async def test_event_that_cannot_be_read_is_a_violation(log: str, staged: StagedRun, tmp_path: Path) -> None:
    """Only the engine writes events: whoever reads them must be able to."""
    committed(log)
    producer = Producer({"bootstrap.servers": log})
    producer.produce(topics.EVENTS, b"noise", ORDER.encode(), headers=[("content-type", b"application/avro")])
    assert producer.flush(ANSWER_TIMEOUT_S) == 0
    gatherer = EvidenceGatherer(run=RUN, bootstrap_servers=log, ledger_path=written(staged.ledger, tmp_path / "mock"))
    found = violations(await gatherer.gather(staged.history, lag={}))
    assert [each for each in found if each.startswith("events_equal_replay: the event at 0:")] != []


async def test_lag_is_told_and_waited_for_to_the_limit_when_a_group_is_behind(log: str) -> None:
    committed(log, short_of=2)
    lag = GroupLag(KafkaConnection(bootstrap_servers=log))
    assert lag.now() == {"orders": 0, "claims": 0, "executor": 2}
    assert await lag.when_zero(timeout_s=0.1) == {"orders": 0, "claims": 0, "executor": 2}
    committed(log)
    assert await lag.when_zero(timeout_s=5.0) == {"orders": 0, "claims": 0, "executor": 0}


def test_gatherer_wants_to_know_where_to_look() -> None:
    with pytest.raises(ValueError, match="name an engine"):
        EvidenceGatherer(run="r")
