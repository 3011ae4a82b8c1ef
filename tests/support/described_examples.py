"""The course of requests whose real answers are the examples of `/openapi.json`, and how they are recorded.

`python -m tests.support.described_examples URL > http_ingress/description/assets/examples.json`, against a fresh engine
in development mode (`make run`). An answer's gateway is called `a-gateway`: the document names none.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

LIMIT_S = 30.0
RETURNED = {"redirectResult": "what-the-payer-came-back-with"}
"""What the document shows of a return, whatever the gateway of the recording calls it."""
ORIGIN = "originA"
_ORDER = {"originId": ORIGIN, "amount": 1999, "currency": "USD", "token": "tok_123"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of the course."""

    operation: str  # operationId
    method: str
    path: str  # may name ids of answers before: {payment}, {authorization}, {refund}
    body: Mapping[str, object] | None = None
    key: str | None = None
    keeps: str | None = None  # the name that its answer's id has in what follows
    shown: bool = True  # whether the document shows it
    payer_acts: bool = False  # before what follows; what the payer comes back with is the next body's


Act = Callable[[str], Awaitable[Mapping[str, str]]]
"""Acts as the payer at the address of an action, and returns what the payer comes back with."""


async def _nobody_acts(_: str) -> Mapping[str, str]:
    return RETURNED


COURSE = (
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=sync",
        body={**_ORDER, "orderId": "order-1", "capture": True},
        key="idem-123",
        keeps="payment",
    ),
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=async",
        body={**_ORDER, "orderId": "order-2", "capture": False},
        key="idem-124",
        keeps="authorization",
    ),
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=sync",
        body={**_ORDER, "orderId": "order-3", "capture": True, "token": "tok_chargeDeclinedInsufficientFunds"},
        key="idem-125",
    ),
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=sync",
        body={**_ORDER, "orderId": "order-1", "capture": True, "amount": 2000},
        key="idem-123",
    ),
    Step(operation="readPayment", method="GET", path="/payments/{authorization}", shown=False),
    Step(
        operation="capturePayment",
        method="POST",
        path="/payments/{authorization}/capture?mode=sync",
        body={"amount": 1500},
        key="idem-126",
    ),
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=sync",
        body={**_ORDER, "orderId": "order-4", "capture": False},
        key="idem-127",
        keeps="released",
        shown=False,
    ),
    Step(operation="voidPayment", method="POST", path="/payments/{released}/void?mode=sync", body={}, key="idem-128"),
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=sync",
        body={**_ORDER, "orderId": "order-5", "capture": False},
        key="idem-130",
        keeps="abandoned",
        shown=False,
    ),
    Step(
        operation="cancelPayment",
        method="POST",
        path="/payments/{abandoned}/cancel?mode=sync",
        body={},
        key="idem-131",
    ),
    Step(
        operation="createPayment",
        method="POST",
        path="/payments?mode=sync",
        body={**_ORDER, "orderId": "order-6", "capture": False, "token": "tok_mock_completion_required"},
        key="idem-132",
        keeps="waiting",
        shown=False,
        payer_acts=True,
    ),
    Step(
        operation="completePayment",
        method="POST",
        path="/payments/{waiting}/complete?mode=sync",
        body={"parameters": RETURNED},
        key="idem-133",
    ),
    Step(
        operation="createRefund",
        method="POST",
        path="/refunds?mode=sync",
        body={"paymentId": "{payment}", "amount": 500},
        key="idem-129",
        keeps="refund",
    ),
    Step(operation="readPayment", method="GET", path="/payments/{payment}"),
    Step(operation="readRefund", method="GET", path="/refunds/{refund}"),
    Step(operation="readPayment", method="GET", path="/payments/pay_b3JkZXItOQ_AAAAAAAAAAAAAAAA"),
)


async def played(http: aiohttp.ClientSession, act: Act = _nobody_acts) -> dict[str, dict[str, object]]:
    """Play the course, and return each operation's examples: its first request, and the first answer of each status."""
    ids: dict[str, str] = {}
    came_back = RETURNED
    examples: dict[str, dict[str, object]] = {}
    for step in COURSE:
        path = step.path.format_map(ids)
        body = None if step.body is None else json.loads(_filled(json.dumps(dict(step.body)), ids))
        if body is not None and "parameters" in body:
            body = {"parameters": came_back}
        sent = {"X-Origin-Id": ORIGIN} | ({"Idempotency-Key": step.key} if step.key else {})
        async with http.request(step.method, path, json=body, headers=sent) as answer:
            status, said = answer.status, json.loads(await answer.read())
        if step.keeps is not None:
            ids[step.keeps] = said["id"]
        if step.payer_acts:
            came_back = dict(await act(said["operation"]["actionUrl"] or ""))
        if step.shown:
            shown = examples.setdefault(step.operation, {"path": path, "key": step.key, "body": body, "answers": {}})
            answers = shown["answers"]
            assert isinstance(answers, dict)
            answers.setdefault(str(status), said)
    return examples


def _filled(text: str, ids: Mapping[str, str]) -> str:
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _without_gateway(said: object) -> object:
    match said:
        case dict():
            return {
                name: "a-gateway"
                if name == "gateway" and value
                else RETURNED
                if name == "parameters"
                else _without_gateway(value)
                for name, value in said.items()
            }
        case list():
            return [_without_gateway(each) for each in said]
        case _:
            return said


async def _act_at_the_mock(action_url: str) -> Mapping[str, str]:
    timeout = aiohttp.ClientTimeout(total=LIMIT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http, http.post(f"{action_url}/complete", json={}) as answer:
        brought_back: Mapping[str, str] = (await answer.json())["return_parameters"]
    return brought_back


async def _record(url: str) -> None:
    async with aiohttp.ClientSession(base_url=url, timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as http:
        examples = _without_gateway(await played(http, _act_at_the_mock))
    sys.stdout.write(json.dumps(examples, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(_record(sys.argv[1]))
