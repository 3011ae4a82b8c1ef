"""What a scenario says: figures with what was aimed at, and what must hold whatever the figures are."""

import sys
from collections.abc import Sequence

MAX_SHOWN = 10


class Report:
    """Prints as it is told, so that a scenario that hangs has said how far it came."""

    def __init__(self) -> None:
        self.misses: list[str] = []
        """What was aimed at and not reached, or must hold and does not; a sentence each."""

    @property
    def exit_code(self) -> int:
        """0 when every aim was reached and nothing was lost."""
        return 1 if self.misses else 0

    def say(self, text: str) -> None:
        """Print a line that is judged by nobody."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def figure(self, what: str, value: float, unit: str, *, below: float | None = None) -> None:
        """Print a figure and, when there is an aim, whether it was reached."""
        if below is None:
            self.say(f"{what}: {value:.3g} {unit}")
            return
        reached = value < below
        self.say(f"{what}: {value:.3g} {unit} (aimed at: below {below:g} {unit}; {'reached' if reached else 'MISSED'})")
        if not reached:
            self.misses.append(f"{what}: {value:.3g} {unit}, aimed at below {below:g}")

    def none_of(self, what: str, found: Sequence[object]) -> None:
        """Print that there is none of this, or the first ones that there are."""
        self.say(f"{what}: {len(found)} (must be none)")
        for each in found[:MAX_SHOWN]:
            self.say(f"    {each}")
        if found:
            self.misses.append(f"{what}: {len(found)}, the first: {found[0]}")
