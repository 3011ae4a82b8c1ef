"""What the clients of the crash model ask for: payments and what follows on them, with retries and reused keys."""

import random
from typing import Final

from schemas import identifiers
from schemas.identifiers import IdempotencyKey, OrderId, OriginId, PaymentId
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
    op_id_of,
)

ORIGIN: Final = OriginId("origin")
ORDERS: Final = 3
KEYS: Final = 9
AMOUNT_MINOR: Final = 10_000


def client_commands(chance: random.Random, count: int) -> list[Command]:
    """Return so many commands; about a quarter are retries of an earlier one, and keys are reused here and there."""
    commands: list[Command] = []
    payments: dict[OrderId, list[PaymentId]] = {}
    for _ in range(count):
        if commands and chance.random() < 0.25:
            commands.append(chance.choice(commands))
            continue
        order = OrderId(f"o{chance.randrange(ORDERS)}")
        key = IdempotencyKey(f"k{chance.randrange(KEYS)}")
        known = payments.setdefault(order, [])
        if not known or chance.random() < 0.2:
            command = _payment(chance, order, key)
            known.append(identifiers.payment_id(order, op_id_of(command)))
        else:
            command = _follow_up(chance, order, key, chance.choice(known))
        commands.append(command)
    return commands


def _payment(chance: random.Random, order: OrderId, key: IdempotencyKey) -> Command:
    return PaymentRequested(
        origin_id=ORIGIN,
        order_id=order,
        idempotency_key=key,
        amount_minor=AMOUNT_MINOR,
        currency="USD",
        token="tok_1",  # a gateway's token, no secret
        capture=chance.random() < 0.5,
        allow_partial=chance.random() < 0.5,
    )


def _follow_up(chance: random.Random, order: OrderId, key: IdempotencyKey, payment: PaymentId) -> Command:
    amount = chance.choice((3_000, 6_000, None))
    draw = chance.random()
    if draw < 0.1:  # the payer is back, or so the merchant says
        return CompletionRequested(origin_id=ORIGIN, order_id=order, idempotency_key=key, payment_id=payment)
    if draw < 0.45:
        return CaptureRequested(
            origin_id=ORIGIN,
            order_id=order,
            idempotency_key=key,
            payment_id=payment,
            amount_minor=amount,
            currency=None,
            final=chance.random() < 0.3,
        )
    if draw < 0.85:
        return RefundRequested(
            origin_id=ORIGIN,
            order_id=order,
            idempotency_key=key,
            payment_id=payment,
            amount_minor=amount,
            currency="USD",
        )
    return VoidRequested(origin_id=ORIGIN, order_id=order, idempotency_key=key, payment_id=payment)
