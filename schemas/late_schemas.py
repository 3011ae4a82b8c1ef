"""Schema ids that a registry learned after this program had started: asked for when a record first names one.

Made by `schemas.schema_registry`, called by the Avro codec through `schemas.schema_ids.SchemaIds`. The registry is
asked on a thread of its own, never on the event loop; the record that named the id waits, and with it the records of
its partition, at most `MAX_WAIT_S`. What is not there is remembered for `MISS_LIFE_S`, and so is a registry that does
not answer: a stranger's nonsense, or an outage, costs a partition one wait and not one for each record.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from schemas.schema_ids import Wait, WriterSchema

MAX_WAIT_S: Final = 10.0
"""How long a record waits; a registry restarts in less."""
ASK_AGAIN_S: Final = 1.0
"""Between two questions to a registry that does not answer."""
MAX_ASKED_AT_ONCE: Final = 32
"""Questions, and hence threads, at one time. More than we have records, which a new release may register at once."""
MAX_LEARNED: Final = 1_000
"""Schemas that are learned so; a stranger may register any number. A restart forgets them."""
MISS_LIFE_S: Final = 60.0
"""How long an id that the registry does not know is not asked for again. A dead letter redriven later is read."""
MAX_MISSES: Final = 256
"""Ids that are remembered as missing. While there are as many, no other is asked for: that many questions a minute."""
SILENCE_S: Final = 30.0
"""How long nothing is asked after the registry did not answer for a whole wait. Nor is anything before it has answered
or been given up: the one request of its client may take longer than a wait."""


class RegistrySilentError(Exception):
    """The registry did not answer, or not as one: it may in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    until_s: float
    answered: Future[None]


class LateSchemas:
    """Asks for unknown ids, a few at a time, and puts the answers among the known ones. Safe on any thread."""

    def __init__(
        self,
        known: MutableMapping[int, WriterSchema],
        fetch: Callable[[int], WriterSchema | None],
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is known, and who is asked.

        Args:
            known: where answers go.
            fetch: returns what an id was written with, None when nobody can say; blocks. Raises: RegistrySilentError.
            clock_s: seconds that only rise.
        """
        self._known = known
        self._fetch = fetch
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._open: dict[int, _Question] = {}
        self._missing_until_s: dict[int, float] = {}
        self._silent_until_s = float("-inf")
        self._learned = 0

    def ask(self, schema_id: int) -> Wait | None:
        """Return what waits for the answer, or None: it is missing, or nothing more is asked for now."""
        with self._lock:
            question = self._open.get(schema_id) or self._new_question(schema_id)
        if question is None or self._clock_s() >= question.until_s:
            return None

        async def wait() -> None:
            loop, answered = asyncio.get_running_loop(), asyncio.Event()

            def wake(_answer: Future[None]) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(answered.set)

            question.answered.add_done_callback(wake)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, question.until_s - self._clock_s())):
                    await answered.wait()

        return wait

    def _new_question(self, schema_id: int) -> _Question | None:
        now_s = self._clock_s()
        self._missing_until_s = {each: until for each, until in self._missing_until_s.items() if until > now_s}
        if (
            schema_id in self._missing_until_s
            or now_s < self._silent_until_s
            or any(now_s >= question.until_s for question in self._open.values())
            or len(self._missing_until_s) >= MAX_MISSES
            or len(self._open) >= MAX_ASKED_AT_ONCE
            or self._learned + len(self._open) >= MAX_LEARNED
        ):
            return None
        question = self._open[schema_id] = _Question(until_s=now_s + MAX_WAIT_S, answered=Future())
        # A daemon: the end of the process does not wait for a registry.
        threading.Thread(target=self._answer, args=(schema_id, question), name="schema-registry", daemon=True).start()
        return question

    def _answer(self, schema_id: int, question: _Question) -> None:
        try:
            self._keep(schema_id, *self._fetched(schema_id, question))
        finally:
            with self._lock:
                del self._open[schema_id]
            question.answered.set_result(None)

    def _fetched(self, schema_id: int, question: _Question) -> tuple[WriterSchema | None, bool]:
        """Return what the id was written with, and whether the registry has said anything at all."""
        while self._clock_s() < question.until_s:
            try:
                return self._fetch(schema_id), True
            except RegistrySilentError:
                time.sleep(ASK_AGAIN_S)
        return None, False

    def _keep(self, schema_id: int, found: WriterSchema | None, has_answered: bool) -> None:
        with self._lock:
            if found is not None:
                self._known[schema_id] = found
                self._learned += 1
            elif has_answered:
                self._missing_until_s[schema_id] = self._clock_s() + MISS_LIFE_S
            else:
                self._silent_until_s = self._clock_s() + SILENCE_S
