"""A worker that has lost its disk reads every order back from the changelog: how long, and in how much memory.

The rows are real: one finished sale, through the whole engine, and then its like under other order ids, encoded by the
engine's own codec and stamped as the pipeline stamps them. Only who writes them is another: librdkafka, for its speed.
"""

import asyncio
import dataclasses
import shutil
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import aiohttp
from confluent_kafka import Producer

from gateway_adapters.mock.spec import SPEC
from schemas import identifiers, topics
from schemas.identifiers import OrderId
from schemas.messages import MessageCodec
from schemas.records.orders import OrderRow
from schemas.schema_ids import SchemaIds
from schemas.topics import changelog_topic
from streams.agents.dues import due_of_order
from streams.domain.limits import DEFAULT_RULES
from streams.kafka import dues
from streams.kafka.stamps import Stamp, to_header
from tests.faults.figures.report import Report
from tests.faults.figures.stage import PARTITIONS, Stage
from tests.faults.figures.steady_load import CREATED, ORIGIN
from tests.support.evidence import EvidenceGatherer
from tests.support.workload import Client, History, Request

AIM_S = 120.0
READY_TIMEOUT_S = 900.0
FLUSH_TIMEOUT_S = 300.0
SAMPLES = 20
WORKER = "orders-0"
TOPIC = changelog_topic("orders", "orders")


async def measure(stage: Stage, report: Report, *, rows: int, aim_s: float = AIM_S) -> None:
    """Fill the changelog, empty the disk of the one orders worker, start it, and look whether the orders are there."""
    run = f"cold{time.time_ns():x}"
    template = await _finished_sale(stage, run)
    worker = stage.engine.components[WORKER]
    await worker.stop()
    began = time.monotonic()
    row_bytes = await asyncio.to_thread(_fill, stage.engine.bootstrap_servers, template, run, rows)
    report.say(f"{rows} rows of {row_bytes} bytes written to {TOPIC} in {time.monotonic() - began:.0f} s")
    shutil.rmtree(stage.engine.folder / WORKER)
    began = time.monotonic()
    await worker.start(ready_timeout_s=READY_TIMEOUT_S)
    report.figure(f"cold recovery of {rows} orders, process start to READY", time.monotonic() - began, "s", below=aim_s)
    report.figure("peak memory of the worker", _peak_mib(worker.pid), "MiB")
    wrong = await _forgotten(stage, [_order_id(run, number) for number in range(0, rows, max(1, rows // SAMPLES))])
    report.none_of(f"of {SAMPLES} recovered orders, forgotten", wrong)
    fresh = await asyncio.gather(*(_pay(stage, f"{run}-new-{number}") for number in range(SAMPLES)))
    report.none_of("new payments not served", [each.order_id for each in fresh if each.last.status != CREATED])


async def _pay(stage: Stage, order_id: str) -> Request:
    body = {
        "originId": ORIGIN, "orderId": order_id, "amount": 1999, "currency": "USD", "token": "tok_visa", "capture": True
    }  # fmt: skip
    async with aiohttp.ClientSession() as session:
        client = Client(session, stage.engine.url, History())
        return await client.ask(
            origin_id=ORIGIN, order_id=order_id, key=f"k{time.time_ns()}", path="/payments?mode=sync", body=body
        )


async def _finished_sale(stage: Stage, run: str) -> OrderRow:
    order_id = f"{run}-template"
    paid = await _pay(stage, order_id)
    assert paid.last.status == CREATED, paid.last
    return (await EvidenceGatherer(stage.engine, run=run).rows())[ORIGIN, order_id]


async def _forgotten(stage: Stage, order_ids: list[str]) -> list[str]:
    """Those of the orders that may be paid once more: to the worker they are new."""
    again = await asyncio.gather(*(_pay(stage, order_id) for order_id in order_ids))
    return [f"{each.order_id}: {each.last.status}" for each in again if each.last.status == CREATED]


def _fill(bootstrap_servers: str, template: OrderRow, run: str, rows: int) -> int:
    """Write the rows and return the size of one. Raises: RuntimeError when not all were acknowledged."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 100_000,
        }
    )
    due = due_of_order(template, DEFAULT_RULES, {SPEC.name: SPEC.capabilities})
    headers: list[tuple[str, str | bytes | None]] = [to_header(Stamp(1, template.version)), dues.to_header(due)]
    size = 0
    for partition, key, value in _rows(template, run, rows):
        size = len(value)
        while True:
            try:
                producer.produce(TOPIC, value, key, partition, headers=headers)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(FLUSH_TIMEOUT_S):
        raise RuntimeError("the changelog could not be filled")
    return size


def _rows(template: OrderRow, run: str, rows: int) -> Iterator[tuple[int, bytes, bytes]]:
    codec = MessageCodec(SchemaIds.packaged())
    for number in range(rows):
        order_id = OrderId(_order_id(run, number))
        row = dataclasses.replace(template, order_id=order_id)
        partition = topics.partition_of(order_id.encode(), PARTITIONS)
        yield partition, identifiers.row_key(template.origin_id, order_id), codec.encode_row(row)


def _order_id(run: str, number: int) -> str:
    """Scattered, as merchants' are: rows that come in the order of their keys would spare RocksDB its compactions."""
    return f"{run}-{blake2b(number.to_bytes(8), digest_size=8).hexdigest()}"


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM: this figure is read on Linux")
