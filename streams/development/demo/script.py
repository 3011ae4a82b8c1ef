"""The scenes of the tour, in their order: what is asked, and what must come of it.

Called by `tour`. Each scene acts through its `Stage`; they build on each other (the payment of the first is refunded
later), as the days of a shop do.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from schemas.event_types import TYPES
from schemas.identifiers import IdempotencyKey, OrderId
from schemas.messages import Envelope
from schemas.records.commands import PaymentRequested
from schemas.records.dead_letters import DeadLetter, DeadLetterHandled
from schemas.vocabulary import DeadLetterReason
from streams.development.demo.casts import Cast
from streams.development.demo.log_desk import now_ms
from streams.development.demo.scenes import Expected
from streams.development.demo.stage import ORIGIN, Stage
from streams.operator_tools.dead_letters import Letter, LetterState

BOOK = OrderId("book-1")
LAMP = OrderId("lamp-2")
SHOES = OrderId("shoes-3")
CHAIR = OrderId("chair-4")
TABLE = OrderId("table-5")
POISONED = OrderId("poison-6")
MISPLACED = OrderId("vase-7")

COMMAND = TYPES[PaymentRequested]
POISON = b'{"pleaseCharge": 19.99, "to": "whoever"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePlan:
    """One scene to be played."""

    title: str
    meaning: str
    play: Callable[[Stage], Awaitable[None]]
    at: Callable[[Cast], bool] = lambda _: True  # which gateways can play it


async def pay(stage: Stage) -> None:
    """A sale in one request."""
    expect = Expected(status=201, says={"status": "captured", "capturedAmount": 1999})
    await stage.pay(BOOK, key="demo-pay", amount=1999, expect=expect)
    await stage.follow(BOOK, until=["payments.sale.succeeded.v1"])


async def replay(stage: Stage) -> None:
    """The same request again."""
    expect = Expected(
        status=201,
        replayed=True,
        says={"id": stage.payment_of(BOOK), "status": "captured", "operation.idempotencyKey": "demo-pay"},
    )
    await stage.pay(BOOK, key="demo-pay", amount=1999, expect=expect)
    await stage.follow(BOOK, until=[COMMAND])


async def conflict(stage: Stage) -> None:
    """The same key for another wish: once for the same order, once for another."""
    expect = Expected(status=409, says={"code": "idempotency_key_reused"})
    await stage.pay(BOOK, key="demo-pay", amount=2999, expect=expect)
    await stage.pay(OrderId("book-1b"), key="demo-pay", amount=1999, expect=expect)
    await stage.follow(BOOK, until=["payments.operation.rejected.v1"])
    await stage.follow(OrderId("book-1b"), until=["payments.operation.rejected.v1"])


async def authorize_then_capture(stage: Stage) -> None:
    """Hold 50.00, take 20.00, then the rest."""
    held = Expected(status=201, says={"status": "authorized", "authorizedAmount": 5000, "capturedAmount": 0})
    await stage.pay(LAMP, key="demo-auth", amount=5000, capture=False, expect=held)
    path = f"/payments/{stage.payment_of(LAMP)}/capture?mode=sync"
    some = Expected(status=200, says={"status": "partially_captured", "capturedAmount": 2000})
    await stage.ask(path, key="demo-capture-1", body={"amount": 2000}, wish="20.00 USD", expect=some)
    rest = Expected(status=200, says={"status": "captured", "capturedAmount": 5000})
    await stage.ask(path, key="demo-capture-2", body={"final": True}, wish="what is left, and final", expect=rest)
    captured = "payments.capture.succeeded.v1"
    await stage.follow(LAMP, until=["payments.authorization.succeeded.v1", captured, captured])


async def authorize_then_void(stage: Stage) -> None:
    """Hold 50.00; a part that is not the last is refused; let go of all."""
    held = Expected(status=201, says={"status": "authorized", "authorizedAmount": 5000, "capturedAmount": 0})
    await stage.pay(LAMP, key="demo-auth", amount=5000, capture=False, expect=held)
    path = f"/payments/{stage.payment_of(LAMP)}"
    refused = Expected(status=422, says={"code": "multiple_capture_unsupported"})
    await stage.ask(
        f"{path}/capture?mode=sync", key="demo-capture", body={"amount": 2000}, wish="20.00 USD", expect=refused
    )
    let_go = Expected(status=200, says={"status": "voided", "capturedAmount": 0})
    await stage.ask(f"{path}/void?mode=sync", key="demo-void", body={}, wish="all of it", expect=let_go)
    await stage.follow(LAMP, until=["payments.authorization.succeeded.v1", "payments.void.succeeded.v1"])


async def refund_in_parts(stage: Stage) -> None:
    """5.00, then 14.99; then a cent more than there is."""
    payment = stage.payment_of(BOOK)
    steps = (
        ("demo-refund-1", 500, "5.00 USD", Expected(status=201, says={"payment.status": "partially_refunded"})),
        ("demo-refund-2", 1499, "14.99 USD", Expected(status=201, says={"payment.status": "refunded"})),
        ("demo-refund-3", 1, "0.01 USD", Expected(status=422, says={"code": "amount_exceeds_captured"})),
    )
    for key, amount, wish, expect in steps:
        body = {"paymentId": payment, "amount": amount}
        await stage.ask("/refunds?mode=sync", key=key, body=body, wish=wish, expect=expect)
    refunded = "payments.refund.succeeded.v1"
    await stage.follow(BOOK, until=[refunded, refunded, "payments.operation.rejected.v1"])


async def decline(stage: Stage) -> None:
    """A card that its issuer says no to."""
    says = {"code": "declined", "operation.error.gatewayCode": stage.cast.declined_as}
    expect, token = Expected(status=402, says=says), stage.cast.declined_token
    await stage.pay(SHOES, key="demo-decline", amount=8900, token=token, expect=expect)
    await stage.follow(SHOES, until=["payments.sale.declined.v1"])


async def asynchronous(stage: Stage) -> None:
    """202 at once, the outcome later."""
    await stage.pay(CHAIR, key="demo-async", amount=12_000, mode="async", expect=Expected(status=202))
    await stage.read_until(CHAIR, expect=Expected(status=200, says={"status": "captured", "capturedAmount": 12_000}))
    await stage.follow(CHAIR, until=["payments.sale.succeeded.v1"])


async def pending_then_webhook(stage: Stage) -> None:
    """The gateway cannot say yet; its webhook says it later."""
    expect = Expected(status=202, says={"state": "pending", "inDoubt": False})
    await stage.pay(TABLE, key="demo-pending", amount=30_000, token=stage.cast.pending_token, expect=expect)
    await stage.read_until(TABLE, expect=Expected(status=200, says={"status": "captured", "capturedAmount": 30_000}))
    await stage.follow(TABLE, until=["payments.sale.pended.v1", "payments.sale.succeeded.v1"])


async def poison(stage: Stage) -> None:
    """Bytes that are no command: kept whole in the dead letters, while the neighbour in the same partition is paid."""
    stage.act("produce", f"{len(POISON)} bytes that are no CloudEvent to payments.commands.v1, key {POISONED}")
    await stage.desk.append_raw(POISONED, POISON)
    letters = await stage.letters_when(POISONED, bool, "there")
    stage.require([each.reason for each in letters] == [DeadLetterReason.NOT_CLOUD_EVENT], "not one such letter")
    expect = Expected(status=201, says={"status": "captured"})
    await stage.pay(POISONED, key="demo-neighbour", amount=700, expect=expect)
    stage.act("dlq discard", "a redrive would only kill it again: nothing is wrong with the engine")
    await stage.desk.handle(letters, LetterState.DISCARDED, note="no command, and its sender knows")
    after = await stage.letters_when(POISONED, _all(LetterState.DISCARDED), "discarded")
    stage.require(len(after) == 1, "the discarded letter is not alone")
    happened = [TYPES[DeadLetter], "payments.sale.succeeded.v1", TYPES[DeadLetterHandled]]
    await stage.follow(POISONED, until=happened)


async def redrive(stage: Stage) -> None:
    """A right command in the wrong partition: a redrive puts it where its key belongs, and it is paid."""
    command = PaymentRequested(
        origin_id=ORIGIN,
        order_id=MISPLACED,
        idempotency_key=IdempotencyKey("demo-misplaced"),
        amount_minor=4200,
        currency="USD",
        token=stage.cast.token,
        capture=True,
    )
    envelope = Envelope(id="demo-command-1", source="demo/till", type=COMMAND, time_ms=now_ms())
    stage.act("produce", f"a right command with another partitioner than murmur2, key {MISPLACED}")
    await stage.desk.append_misplaced(MISPLACED, command, envelope)
    letters = await stage.letters_when(MISPLACED, bool, "there")
    stage.require([each.reason for each in letters] == [DeadLetterReason.WRONG_KEY], "not one such letter")
    stage.act("dlq redrive", "bytes, key and headers as they were, to the partition of its key")
    await stage.desk.handle(letters, LetterState.REDRIVEN, note="the till now sets partitioner=murmur2_random")
    happened = [TYPES[DeadLetter], COMMAND, "payments.sale.succeeded.v1", TYPES[DeadLetterHandled]]
    await stage.follow(MISPLACED, until=happened)
    after = await stage.letters_when(MISPLACED, _all(LetterState.REDRIVEN), "redriven")
    stage.require(len(after) == 1, "the command died again")


def _all(state: LetterState) -> Callable[[tuple[Letter, ...]], bool]:
    return lambda letters: bool(letters) and all(each.state is state for each in letters)


def scenes_at(cast: Cast) -> tuple[ScenePlan, ...]:
    """Return what can be played at this gateway, in its order."""
    return tuple(plan for plan in SCENES if plan.at(cast))


SCENES: tuple[ScenePlan, ...] = (
    ScenePlan(title="Pay", meaning="A sale in one request: claimed, called, captured, answered.", play=pay),
    ScenePlan(
        title="Replay", meaning="The same request again: the same answer, and no second charge.", play=replay
    ),
    ScenePlan(
        title="Conflict", meaning="The same key for another amount, and for another order: refused.", play=conflict
    ),
    ScenePlan(
        title="Authorize, then capture twice", meaning="Hold 50.00, take 20.00, then the rest.",
        play=authorize_then_capture, at=lambda cast: cast.captures_holds,
    ),
    ScenePlan(
        title="Authorize, then void", meaning="Hold 50.00; a part that is not the last is refused; let go of all.",
        play=authorize_then_void, at=lambda cast: not cast.captures_holds,
    ),
    ScenePlan(
        title="Refund in parts", meaning="5.00, then 14.99; a cent more than was captured is refused.",
        play=refund_in_parts,
    ),
    ScenePlan(title="Decline", meaning="The issuer says no; nothing is held.", play=decline),
    ScenePlan(
        title="Asynchronous", meaning="202 as soon as the key is granted; read the outcome later.", play=asynchronous
    ),
    ScenePlan(
        title="Pending, then a webhook", meaning="The gateway cannot say yet; its signed notice settles it.",
        play=pending_then_webhook, at=lambda cast: cast.pending_token is not None,
    ),
    ScenePlan(
        title="A poison message", meaning="Kept whole as a dead letter; its neighbour in the same partition is paid.",
        play=poison,
    ),
    ScenePlan(
        title="A dead letter redriven", meaning="A right command in the wrong partition; the redrive mends it.",
        play=redrive,
    ),
)  # fmt: skip
