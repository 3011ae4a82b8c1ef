"""The only broker dies and comes back on its data: what the ingress says meanwhile, and how all recovers by itself.

Two kinds of clients ask. A steady load of merchants who send the same key again until they have an answer: nothing of
theirs may be lost. And callers who ask once and go away: an answer of 503 that says that nothing was written must never
turn out to have been written; one that says that it may have been is free to.
"""

import asyncio
import time
from dataclasses import dataclass
from operator import attrgetter

import aiohttp

from http_ingress.app import NOTHING_WRITTEN
from tests.faults.figures.report import Report
from tests.faults.figures.stage import Stage
from tests.faults.figures.steady_load import ORIGIN, SteadyLoad
from tests.faults.supervisor import Supervisor
from tests.support.checker import read_ledger
from tests.support.workload import Habits

UNAVAILABLE = 503
ASK_EVERY_S = 0.1
AT_ONCE_S = 0.5
"""A 503 that came quicker than this was not waited for."""

SLOWEST_AIM_S = 3.0
"""The log counts as gone when it owes answers for 2 s (`SILENCE_S`): the requests that find that out wait so long."""

BACK_OFF_S = 1.0
"""The supervisor's, between an end and the next start."""

READY_TIMEOUT_S = 300.0
"""A supervisor does not end what is still starting; a component must give up by itself."""

REQUEST_TIMEOUT_S = 30.0
SERVING_TIMEOUT_S = 180.0
AIM_RECOVERED_S = 30.0
"""From when the broker answers again; a JVM's own start is not ours."""

PATIENT = Habits(tries=2_000, retry_delay_s=2.0)  # as `Retry-After` asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asked once, and was told this."""

    order_id: str
    status: int  # 0: the connection broke or was refused
    retry_after: str | None
    detail: str
    seconds: float


async def measure(
    stage: Stage,
    report: Report,
    *,
    seconds: float,
    per_second: float,
    aim_s: float = AIM_RECOVERED_S,
    slowest_aim_s: float = SLOWEST_AIM_S,
) -> None:
    """Kill the broker, ask every tenth of a second, start it again, and wait until payments are served."""
    (node,) = stage.kafka.nodes
    load = SteadyLoad(stage, per_second=per_second, habits=PATIENT)
    supervisor = Supervisor(stage.engine, back_off_s=BACK_OFF_S, ready_timeout_s=READY_TIMEOUT_S)
    async with supervisor.watching(), load.running():
        await load.flowing(load.order_partition, since_s=load.now(), timeout_s=SERVING_TIMEOUT_S)
        await asyncio.to_thread(node.kill)
        callers = await _ask_for(stage, seconds=seconds)
        await asyncio.to_thread(node.start)
        started_s = load.now()
        await asyncio.to_thread(stage.kafka.wait_until_serving, 1)
        answers_s = load.now()
        report.figure("broker started: it answers after", answers_s - started_s, "s")
        served = await load.flowing(load.order_partition, since_s=started_s, timeout_s=SERVING_TIMEOUT_S)
        report.figure("broker started: first payment served after", min(served.values()), "s")
        all_served_s = started_s + max(served.values()) - answers_s
        report.figure("broker answers: every partition served again after", all_served_s, "s", below=aim_s)
    ended = ", ".join(f"{name} {count}x" for name, count in sorted(supervisor.ended.items()))
    report.say(f"components that ended and were started again by their supervisor: {ended or 'none'}")
    _judge_answers(report, callers, seconds=seconds, slowest_aim_s=slowest_aim_s)
    await load.nothing_lost(report)
    _judge_effects(stage, report, callers)


async def _ask_for(stage: Stage, *, seconds: float) -> list[Caller]:
    run = f"once{time.time_ns():x}"
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks: list[asyncio.Task[Caller]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while loop.time() < began + seconds:
            tasks.append(asyncio.create_task(_ask_once(session, stage.engine.url, f"{run}-{len(tasks)}")))
            await asyncio.sleep(ASK_EVERY_S)  # the pace of the callers, no condition
        return await asyncio.gather(*tasks)


async def _ask_once(session: aiohttp.ClientSession, url: str, order_id: str) -> Caller:
    body = {
        "originId": ORIGIN, "orderId": order_id, "amount": 1999, "currency": "USD", "token": "tok_visa", "capture": True
    }  # fmt: skip
    began = asyncio.get_running_loop().time()
    status, retry_after, detail = 0, None, ""
    try:
        async with session.post(
            f"{url}/payments?mode=sync",
            json=body,
            headers={"Idempotency-Key": f"k-{order_id}", "X-Origin-Id": ORIGIN},
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        ) as response:
            status, retry_after = response.status, response.headers.get("Retry-After")
            detail = str((await response.json(content_type=None)).get("detail"))
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        pass  # told by the status
    took = asyncio.get_running_loop().time() - began
    return Caller(order_id=order_id, status=status, retry_after=retry_after, detail=detail, seconds=took)


def _judge_answers(report: Report, callers: list[Caller], *, seconds: float, slowest_aim_s: float) -> None:
    refused = [each for each in callers if each.status == UNAVAILABLE]
    by_time = sorted(each.seconds for each in refused)
    at_once = sum(each < AT_ONCE_S for each in by_time)
    report.say(f"asked once each while the broker was gone for {seconds:g} s: {len(callers)}")
    report.none_of("answers other than 503", [each for each in callers if each.status != UNAVAILABLE])
    report.none_of("503 without Retry-After", [each for each in refused if each.retry_after is None])
    if refused:
        report.figure("503: median", by_time[len(by_time) // 2], "s", below=AT_ONCE_S)
        report.figure(f"503: later than {AT_ONCE_S} s", 100 * (1 - at_once / len(refused)), "% of answers")
        report.figure("503: slowest", by_time[-1], "s", below=slowest_aim_s)


def _judge_effects(stage: Stage, report: Report, callers: list[Caller]) -> None:
    """Who never came back with the key: was anything done for them?"""
    charged = {entry.order_id for entry in read_ledger(stage.engine.ledger_path)}
    done = sorted((each for each in callers if each.order_id in charged), key=attrgetter("seconds"))
    unwritten = [each for each in callers if each.detail == NOTHING_WRITTEN]
    report.say(f"told that nothing was written: {len(unwritten)} of {len(callers)}")
    report.none_of("told that nothing was written, yet executed", [each for each in done if each in unwritten])
    report.say(f"told that it may have been written, and executed later: {len(done)}")
