"""How many true ids the guard against card data refuses: `python -m bench.false_alarms [--ids 1000000] [--seed 1]`.

For each shape of id that merchants, gateways and this engine make, so many of them are drawn at random and judged as a
command's fields are (`schemas.card_disguises`). Prints one line a shape; `tests/unit/test_card_false_alarms.py` holds
the shapes that must never be refused to it, with fewer ids.
"""

import argparse
import base64
import random
import string
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from schemas import identifiers
from schemas.card_disguises import hides_card_number
from schemas.identifiers import IdempotencyKey, OrderId, OriginId

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE62: Final = string.ascii_letters + string.digits
_UPPER_36: Final = string.ascii_uppercase + string.digits
_MS_OF_2026: Final = 1_790_000_000_000

Draw = Callable[[random.Random], str]


def _text(alphabet: str, length: int) -> Draw:
    return lambda chance: "".join(chance.choices(alphabet, k=length))


def _uuid4(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(int=chance.getrandbits(128), version=4)


def _payment(order: Draw) -> Draw:
    def draw(chance: random.Random) -> str:
        wish = identifiers.op_id(
            OriginId("originA"), IdempotencyKey(chance.randbytes(8).hex()), OrderId("o"), identifiers.fingerprint("x")
        )
        return identifiers.payment_id(OrderId(order(chance)), wish)

    return draw


def _op_id(chance: random.Random) -> str:
    body = identifiers.fingerprint(chance.randbytes(8).hex())
    return identifiers.op_id(OriginId("originA"), IdempotencyKey("k"), OrderId("o"), body)


def _ulid(chance: random.Random) -> str:
    number = (_MS_OF_2026 + chance.randrange(10**10)) << 80 | chance.getrandbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def _dated(chance: random.Random) -> str:
    day = f"2026{chance.randrange(1, 13):02}{chance.randrange(1, 29):02}"
    return f"ORD-{day}-{chance.randrange(10**6):06}"


def _paypal(chance: random.Random) -> str:
    # As PayPal's order ids look: 17 characters, mostly digits.
    return "".join(chance.choice(string.digits if chance.random() < 0.75 else _UPPER_36) for _ in range(17))  # noqa: PLR2004


NEVER_REFUSED: Final[Mapping[str, Draw]] = {
    "request id (uuid4, hex)": lambda chance: _uuid4(chance).hex,
    "uuid4, dashed": lambda chance: str(_uuid4(chance)),
    "uuid4, after a word": lambda chance: f"order-{_uuid4(chance)}",
    "payment id of a dated order": _payment(_dated),
    "payment id of a uuid order": _payment(lambda chance: str(_uuid4(chance))),
    "operation id": _op_id,
    "event id (uuid5)": lambda chance: identifiers.event_id(chance.randbytes(8).hex(), "captured"),
    "ORD-20261122-000123": _dated,
    "ULID": _ulid,
    "number of 6 digits": lambda chance: str(chance.randrange(10**5, 10**6)),
    "number of 10 digits": lambda chance: str(chance.randrange(10**9, 10**10)),
    "milliseconds of a clock": lambda chance: str(_MS_OF_2026 + chance.randrange(10**10)),
    "tok_ and 24 of base62 (Stripe)": lambda chance: "tok_1" + _text(_BASE62, 23)(chance),
    "pm_ and 24 of base62 (Stripe)": lambda chance: "pm_1" + _text(_BASE62, 23)(chance),
    "36 characters of base36 (Braintree)": _text(string.ascii_lowercase + string.digits, 36),
    "base64 nonce of 32 bytes": lambda chance: base64.b64encode(chance.randbytes(32)).decode(),
    "base64url nonce of 96 bytes": lambda chance: base64.urlsafe_b64encode(chance.randbytes(96)).decode(),
    "digest (SHA-256, hex)": lambda chance: chance.randbytes(32).hex(),
}
"""Shapes of which not one in a million is refused."""

SELDOM_REFUSED: Final[Mapping[str, Draw]] = {
    "17 characters, three in four digits (PayPal)": _paypal,
    "16 characters of base36 (Adyen)": _text(_UPPER_36, 16),
    "16 hexadecimal digits": lambda chance: chance.randbytes(8).hex(),
    "24 hexadecimal digits (ObjectId)": lambda chance: chance.randbytes(12).hex(),
    "number of 12 digits": lambda chance: str(chance.randrange(10**11, 10**12)),
    "number of 13 digits": lambda chance: str(chance.randrange(10**12, 10**13)),
    "number of 16 digits": lambda chance: str(chance.randrange(10**15, 10**16)),
    "number of 16 digits from 4": lambda chance: f"4{chance.randrange(10**15):015}",
    "number of 19 digits": lambda chance: str(chance.randrange(10**18, 10**19)),
    "number of 20 digits": lambda chance: str(chance.randrange(10**19, 10**20)),
}
"""Shapes in which a card number cannot be told from an id: by how much is what this measures."""


def refused(draw: Draw, *, ids: int, seed: int) -> int:
    """Return how many of so many ids of this shape are taken for a card number. The same seed gives the same ids."""
    chance = random.Random(seed)
    return sum(hides_card_number(draw(chance)) for _ in range(ids))


def main() -> None:
    """Measure each shape and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ids", type=int, default=1_000_000, help="of each shape (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print(f"{chosen.ids:,} ids of each shape, seed {chosen.seed}")
    for shape, draw in (*NEVER_REFUSED.items(), *SELDOM_REFUSED.items()):
        before_s = time.process_time()
        count = refused(draw, ids=chosen.ids, seed=chosen.seed)
        spent_us = (time.process_time() - before_s) / chosen.ids * 1e6
        print(f"{count:9,}  {count / chosen.ids:8.4%}  {spent_us:5.1f} us  {shape}", flush=True)


if __name__ == "__main__":
    main()
