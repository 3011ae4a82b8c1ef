"""`python -m bench.steps`: what a sale costs the orders agent and its codec, in steps of Python's interpreter.

One sale in memory: its command, its verdict, its result, and the reference that is kept. A step is one instruction of
bytecode, so the figure is the same each time and on each machine with the same Python, however busy it is. What C does
in a step is not in it, nor what the garbage collector does, nor Kafka's client: `make bench` measures all of that.
"""

import sys
import uuid
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from schemas.identifiers import OrderId
from streams.kafka.step import InputEvent, Step
from tests.support.order_desk import Said, sale
from tests.support.post_office import PostOffice

WARM_UP: Final = 30
"""Sales before the one that is counted: what is remembered of all of them is there by then."""

SHOWN: Final = 12


class _Counting(PostOffice):
    """Counts the steps of the agents' decisions, by what they were in."""

    def __init__(self) -> None:
        self.steps: Counter[CodeType] = Counter()
        self.is_on = False
        super().__init__()

    def handle(self, event: InputEvent) -> Step:
        if self.is_on:
            sys.settrace(self._entered)
        try:
            return super().handle(event)
        finally:
            sys.settrace(None)

    def _entered(self, frame: FrameType, _event: str, _value: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, _value: Any) -> Any:
        if event == "opcode":
            self.steps[frame.f_code] += 1
        return self._stepped


def main() -> None:
    """Print the figure, and where most of it is."""
    office = _Counting()
    for number in range(WARM_UP + 1):
        office.is_on = number == WARM_UP
        sold = office.send(sale(1999, order=OrderId(f"order-{number}"), key=f"key-{number}"))
        office.answer(sold, Said(reference=str(uuid.UUID(int=number))))
    print(f"{office.steps.total()} steps for a sale")
    for code, steps in office.steps.most_common(SHOWN):
        print(f"  {steps:6} {Path(code.co_filename).name} {code.co_qualname}")


if __name__ == "__main__":
    main()
