"""`python -m bench.hot_order`: what an order of many refunds writes to its changelogs, and costs its worker.

Each refund is a command, a verdict and a result, through the orders agent and its codec, in memory: no broker, so that
nothing but the engine's own work is counted. Printed twice: as settled operations leave the row, and as if none did,
which is how it was before.
"""

import time
import uuid
from collections import Counter
from dataclasses import replace
from typing import Final

from schemas.identifiers import OrderId, payment_id
from streams.domain.limits import DEFAULT_RULES, Rules
from streams.kafka.step import InputEvent, Step
from streams.topology import OPERATIONS_TABLE, ORDERS_TABLE
from tests.support.order_desk import Said, refund, sale
from tests.support.post_office import PostOffice

SHOWN: Final = (100, 300, 499)
"""Refunds after which the sums are printed; 500 operations are an order's last."""

ORDER: Final = OrderId("order-1")
NEVER: Final = replace(DEFAULT_RULES, kept_operations=10_000)
KIB: Final = 1_024
COUNTED: Final = (ORDERS_TABLE, OPERATIONS_TABLE)


class _Counting(PostOffice):
    """Counts the bytes of each table's changelog: keys and values, without what Kafka adds to a record."""

    def __init__(self, rules: Rules) -> None:
        self.written: Counter[str] = Counter()
        super().__init__(rules=rules)

    def carry_out(self, event: InputEvent, step: Step, *, speak: bool = True) -> None:
        for write in step.rows:
            self.written[write.table] += len(write.key) + len(write.value or b"")
        super().carry_out(event, step, speak=speak)


def main() -> None:
    """Print the figures."""
    for name, rules in (("settled operations leave the row", DEFAULT_RULES), ("none leaves it", NEVER)):
        print(f"{name}:")
        _refund_often(rules)


def _refund_often(rules: Rules) -> None:
    office = _Counting(rules)
    sold = office.send(sale(10**9, order=ORDER))
    office.answer(sold, Said(reference=str(uuid.uuid4())))
    payment = payment_id(ORDER, sold)
    for number in range(1, max(SHOWN) + 1):
        began = time.process_time()
        op_id = office.send(refund(payment, 1, key=str(uuid.uuid4())))
        office.answer(op_id, Said(reference=str(uuid.uuid4())))
        took_ms = (time.process_time() - began) * 1_000
        office.said.clear()
        office.log.clear()
        if number in SHOWN:
            row = office.row(ORDER)
            assert row is not None
            sizes = {table: size // KIB for table, size in office.written.items() if table in COUNTED}
            print(
                f"  {number} refunds: {sum(sizes.values())} KiB of changelog, {sizes}; "
                f"{len(row.operations)} operations in the row; {took_ms:.1f} ms of CPU for the last refund"
            )


if __name__ == "__main__":
    main()
