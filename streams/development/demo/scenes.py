"""What a scene of the tour leaves behind: moments in order of time, and what was otherwise than expected.

Written by `stage`, read by `drawing` and `tour`. Values only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = Mapping[str, Any]


class Speaker(StrEnum):
    """Who acts at a moment."""

    YOU = "you"  # a merchant, a producer or an operator
    ENGINE = "engine"  # its answer
    LOG = "log"  # a record that appeared


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the timeline."""

    at_ms: int  # since the epoch, by this machine's clock
    speaker: Speaker
    what: str
    details: str
    as_expected: bool | None = None  # None: nothing was expected of it


@dataclass(slots=True, kw_only=True)
class Scene:
    """One scene as it went."""

    title: str
    meaning: str
    moments: list[Moment] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: Json
    replayed: bool

    def said(self, path: str) -> object:
        """Return what the body says at a dotted path, such as `operation.state`; None where it says nothing."""
        found: object = self.body
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a scene expects of an answer."""

    status: int
    says: Mapping[str, object] = field(default_factory=dict)  # dotted path of the body -> value
    replayed: bool = False

    def faults(self, answer: Answer) -> list[str]:
        """Return a sentence for each way in which the answer is another."""
        found = []
        if answer.status != self.status:
            found.append(f"expected status {self.status}, was told {answer.status}")
        if answer.replayed != self.replayed:
            found.append(f"expected Idempotent-Replayed {self.replayed}, was told {answer.replayed}")
        found += [
            f"expected {path} to be {value!r}, was told {answer.said(path)!r}"
            for path, value in self.says.items()
            if answer.said(path) != value
        ]
        return found
