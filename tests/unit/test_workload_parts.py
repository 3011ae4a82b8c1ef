"""What clients of the fault runs do: the merchant whose payer has to act, and the operator at the desk."""

import random
from collections.abc import Sequence
from typing import Any, cast

import aiohttp
import pytest

from tests.support.clerks import Clerk
from tests.support.payers import COMPLETED_BY_MERCHANT, Cashier
from tests.support.workload import Answer, Client, Habits, History, Request

PATIENT = Habits(tries=3, retry_delay_s=0.0)
PAYMENT = "pay_1"
BY_THE_BANK = "pm_card_authenticationRequired"
ACTION_URL = "https://bank.example/act"


def answer(status: int, /, **body: Any) -> Answer:
    return Answer(status=status, body=body, replayed=False, seconds=0.0)


WAITS = answer(202, state="requires_action", actionUrl=ACTION_URL, id=PAYMENT)


class _Scripted(Client):
    """A client whose requests are answered from a list, by path; the last answer stays."""

    def __init__(self, history: History, script: dict[str, list[Answer]]) -> None:
        super().__init__(cast("aiohttp.ClientSession", None), "http://nobody", history, PATIENT)
        self.script = script
        self.sent: list[tuple[str, dict[str, str], dict[str, Any] | None]] = []

    async def send(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None) -> Answer:
        del method
        self.sent.append((path, headers, body))
        answers = next(answers for part, answers in self.script.items() if part in path)
        return answers.pop(0) if len(answers) > 1 else answers[0]


async def seen_through(seed: int, *, token: str = BY_THE_BANK) -> tuple[History, list[bool], Sequence[str]]:
    """Return what was noted, what payers said, and which further requests were sent, in their order."""
    history = History()
    completed, cancelled = answer(200, status="captured"), answer(200, status="voided")
    client = _Scripted(history, {"complete": [completed], "cancel": [cancelled], "/payments?": [WAITS, answer(201)]})
    paid = client.wish(origin_id="o", order_id="order", key="k", path="/payments?mode=sync", body={"token": token})
    await client.pursue(paid, to_payer=True)
    said: list[bool] = []

    async def visit(url: str, agrees: bool) -> dict[str, str]:
        assert url == ACTION_URL
        assert history.acts[-1].agreed is agrees, "what a payer says is noted before it is said"
        said.append(agrees)
        return {"mock_result": "brought"}

    cashier = Cashier(client, paid, visit=visit, chance=random.Random(seed), new_key=lambda: "k2")
    asked = await cashier.see_through()
    paths = [path for path, _, _ in client.sent if "/payments?" not in path]
    assert asked == len(paths)
    assert paid.last.status == 201
    return history, said, paths


@pytest.mark.parametrize("seed", range(30))
async def test_merchant_cancels_where_the_payer_left_and_nowhere_else(seed: int) -> None:
    history, said, paths = await seen_through(seed)
    assert [act.agreed for act in history.acts] == said
    assert any("cancel" in path for path in paths) is (not said)
    if said:
        brought = [each.body["parameters"] for each in history.requests if "complete" in each.path]
        assert brought[-1] == {"mock_result": "brought"}


async def test_merchant_completes_and_cancels_at_once_where_the_bank_alone_decides_nothing() -> None:
    lives = [await seen_through(seed, token=COMPLETED_BY_MERCHANT) for seed in range(60)]
    raced = [paths for _, said, paths in lives if said and any("cancel" in path for path in paths)]
    assert raced
    assert all(any("complete" in path for path in paths) for paths in raced)


async def test_seeds_play_every_payer() -> None:
    heard = [tuple((await seen_through(seed))[1]) for seed in range(30)]
    assert set(heard) == {(True,), (False,), ()}


async def test_client_asks_until_the_payer_has_to_act() -> None:
    history = History()
    client = _Scripted(history, {"/payments?": [answer(503), WAITS, answer(201)]})
    paid = client.wish(origin_id="o", order_id="order", key="k", path="/payments?mode=sync", body={})
    await client.pursue(paid, to_payer=True)
    assert [each.status for each in paid.answers] == [503, 202]
    assert not paid.done


# The desk


def told(state: str, *overlays: str) -> Request:
    """A request that was answered about an operation in this state."""
    payment = {"id": PAYMENT, "overlays": list(overlays)}
    body = {"operation": {"id": "op_1", "state": state, "kind": "refund"}, "payment": payment}
    return Request(
        number=0, origin_id="o", order_id="order", key="k", path="/refunds", body={}, answers=[answer(202, **body)]
    )


async def ruled(request: Request, *answers: Answer, seed: int = 1) -> tuple[History, _Scripted]:
    history = History()
    history.requests.append(request)
    client = _Scripted(history, {"/decisions": list(answers)})
    await Clerk(client, history, seed=seed, name="anna", run="run", habits=PATIENT).one_ruling()
    return history, client


@pytest.mark.parametrize(
    ("request_told", "outcomes"),
    [
        (told("pending"), {"succeeded", "not_executed", "note"}),
        (told("succeeded", "review"), {"close_review", "note"}),
        (told("dispatched"), {"note"}),
    ],
)
async def test_operator_decides_what_can_be_decided(request_told: Request, outcomes: set[str]) -> None:
    seen = set()
    for seed in range(20):
        history, _ = await ruled(request_told, answer(200), seed=seed)
        (ruling,) = history.rulings
        assert (ruling.body["paymentId"], ruling.body["operation"]) == (PAYMENT, "op_1")
        seen.add(ruling.body["outcome"])
    assert seen == outcomes


async def test_operator_asks_again_under_the_same_key_until_there_is_an_answer() -> None:
    history, client = await ruled(told("dispatched"), answer(0), answer(202, state="accepted"), answer(200))
    assert [each.status for each in history.rulings[0].answers] == [0, 202, 200]
    assert len({headers["Idempotency-Key"] for _, headers, _ in client.sent}) == 1


async def test_operator_has_nothing_to_decide_before_an_operation_has_begun() -> None:
    history, client = await ruled(told("claiming"), answer(200))
    assert (history.rulings, client.sent) == ([], [])
