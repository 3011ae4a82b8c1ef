"""Faults on request, so that a race can be tested instead of waited for.

A test arms a fault; the broker's connections ask for every request whether one strikes:

    armed = broker.faults.add(Fault(api=ApiKey.OFFSET_FETCH, delay_s=0.1, times=5))
    ...
    await armed.wait_until_struck(timeout_s=5)

The first armed fault that matches strikes. Called by `connection`; `refusals` makes the answers of `Effect.ERROR`.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from kio.schema.errors import ErrorCode

from streams.development.embedded_broker.apis import ApiKey
from streams.development.embedded_broker.limits import MAX_ARMED_FAULTS, MAX_FAULT_DELAY_S
from streams.development.embedded_broker.refusals import REFUSABLE
from streams.development.embedded_broker.wire import Request

_GROUP_FIELDS: Final = ("group_id", "key")
_GROUP_LIST_FIELDS: Final = ("groups", "groups_names")
_TOPIC_LIST_FIELDS: Final = ("topics", "topic_data", "topic_names")


@unique
class Effect(Enum):
    """What befalls a request, apart from delays."""

    NONE = "none"  # only the delays
    DROP_BEFORE = "drop before applying"  # no answer, and nothing happened
    DROP_AFTER = "drop after applying"  # no answer, but it happened
    DISCONNECT_BEFORE = "disconnect before applying"
    DISCONNECT_AFTER = "disconnect after applying"
    ERROR = "error"  # answered with `Fault.error`, and nothing happened


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Which requests are struck, and how."""

    api: ApiKey
    topic: str | None = None  # only requests that name this topic
    group: str | None = None  # only requests that name this group
    client_id: str | None = None
    skip: int = 0  # let so many matching requests pass first: skip=n-1 strikes the nth
    times: int = 1  # strike so many requests, then disarm
    delay_s: float = 0.0  # wait before applying
    answer_delay_s: float = 0.0  # wait after applying, before answering
    effect: Effect = Effect.NONE
    error: ErrorCode | None = None  # implies Effect.ERROR

    def __post_init__(self) -> None:
        """Refuses a fault that could never do what it says.

        Raises:
            ValueError: a delay, count or error that does not fit.
        """
        if self.times < 1 or self.skip < 0:
            raise ValueError(f"a fault strikes at least once and skips none or more: {self}")
        if not (0 <= self.delay_s <= MAX_FAULT_DELAY_S and 0 <= self.answer_delay_s <= MAX_FAULT_DELAY_S):
            raise ValueError(f"a fault's delay lies between 0 and {MAX_FAULT_DELAY_S} s: {self}")
        if self.error is not None and self.effect is Effect.NONE:
            object.__setattr__(self, "effect", Effect.ERROR)
        if (self.effect is Effect.ERROR) != (self.error is not None):
            raise ValueError(f"an error code and Effect.ERROR go together: {self}")
        if self.error is not None and self.api not in REFUSABLE:
            raise ValueError(f"no error answer is known for {self.api.name}")

    def matches(self, request: Request) -> bool:
        """Whether this fault is meant for such a request, counts aside."""
        return (
            request.api is self.api
            and (self.client_id is None or self.client_id == request.client_id)
            and (self.topic is None or self.topic in topics_of(request))
            and (self.group is None or self.group in groups_of(request))
        )


class ArmedFault:
    """A fault in place; tells how often it struck."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.matched = 0
        self.struck = 0
        self._struck = asyncio.Condition()

    @property
    def is_spent(self) -> bool:
        """Whether it has struck as often as it was to."""
        return self.struck >= self.fault.times

    def strikes(self, request: Request) -> bool:
        """Counts the request and says whether it is struck."""
        if self.is_spent or not self.fault.matches(request):
            return False
        self.matched += 1
        if self.matched <= self.fault.skip:
            return False
        self.struck += 1
        return True

    async def announce(self) -> None:
        """Wakes those who wait for a strike."""
        async with self._struck:
            self._struck.notify_all()

    async def wait_until_struck(self, *, times: int = 1, timeout_s: float) -> None:
        """Returns once it has struck so often.

        Raises:
            TimeoutError: it has not, within `timeout_s`.
        """
        async with asyncio.timeout(timeout_s), self._struck:
            await self._struck.wait_for(lambda: self.struck >= times)


class Faults:
    """The faults of one broker."""

    def __init__(self) -> None:
        self._armed: list[ArmedFault] = []

    def __bool__(self) -> bool:
        return bool(self._armed)

    def add(self, fault: Fault) -> ArmedFault:
        """Arms a fault.

        Raises:
            ValueError: more than `MAX_ARMED_FAULTS` at once.
        """
        self._armed = [armed for armed in self._armed if not armed.is_spent]
        if len(self._armed) >= MAX_ARMED_FAULTS:
            raise ValueError(f"at most {MAX_ARMED_FAULTS} faults at once")
        armed = ArmedFault(fault)
        self._armed.append(armed)
        return armed

    def remove(self, armed: ArmedFault) -> None:
        """Disarms one; no matter if it is spent or was removed."""
        self._armed = [other for other in self._armed if other is not armed]

    def clear(self) -> None:
        """Disarms all."""
        self._armed.clear()

    def striking(self, request: Request) -> ArmedFault | None:
        """The fault that strikes this request, if one does; counts it."""
        return next((armed for armed in self._armed if armed.strikes(request)), None)


def topics_of(request: Request) -> frozenset[str]:
    """The topics that a request names."""
    return frozenset(_names(request, _TOPIC_LIST_FIELDS, ("name", "topic")))


def groups_of(request: Request) -> frozenset[str]:
    """The groups that a request names."""
    single = (getattr(request.payload, field, None) for field in _GROUP_FIELDS)
    return frozenset(name for name in single if isinstance(name, str)) | frozenset(
        _names(request, _GROUP_LIST_FIELDS, ())
    )


def _names(request: Request, list_fields: Iterable[str], name_fields: tuple[str, ...]) -> Iterable[str]:
    for list_field in list_fields:
        for entry in getattr(request.payload, list_field, None) or ():
            if isinstance(entry, str):
                yield entry
            else:
                yield from (name for field in name_fields if isinstance(name := getattr(entry, field, None), str))
