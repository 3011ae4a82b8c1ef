"""The broker of the crash model: logs, and workers that lose what they have not flushed when they crash.

Each topic is one log. A worker reads its input topics in any interleaving; what a step writes waits in a buffer for
each target, and a flush appends some of one target's buffer. A crash loses all buffers, each target independently of
the others (there are no transactions); the worker starts again from its committed offsets with the state that its
changelog gives, read from where its local rows stand, which outlive a crash. A worker that was paused instead lives on
as a zombie beside its successor: its writes still arrive, its commits do not, and what it has not said by then it
never says (the lease of `streams.kafka.pipeline`). It may be given its work back.

A record may die where it is read: a defect makes a dead letter of it, or retention takes it. Nobody hears of it then,
until perhaps an operator appends it again.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

State = TypeVar("State")

MAX_BATCH = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """A record on a log; `generation` of its writer and `version` matter on changelogs only."""

    key: str
    value: Any
    at_ms: int
    generation: int = 0
    version: int = 0
    redriven: bool = False


@dataclass(slots=True)
class Logs:
    """All topics, and the clock that stamps their records."""

    topics: defaultdict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    now_ms: int = 1_000
    fates: dict[tuple[str, int], bool] = field(default_factory=dict)  # by place: whether the record died there
    dead: list[tuple[str, Entry]] = field(default_factory=list)  # letters that nobody has handled

    def append(self, topic: str, key: str, value: Any, *, generation: int = 0, version: int = 0) -> None:
        self.now_ms += 7
        self.topics[topic].append(Entry(key, value, self.now_ms, generation, version))

    def redrive(self, chance: random.Random) -> None:
        """Append again what one of the letters holds."""
        topic, entry = self.dead.pop(chance.randrange(len(self.dead)))
        self.now_ms += 7
        self.topics[topic].append(replace(entry, at_ms=self.now_ms, redriven=True))

    def bury(self, topic: str, offset: int) -> None:
        """Keep the record as a dead letter: whoever reads it passes it over."""
        self.fates[topic, offset] = True
        self.dead.append((topic, self.topics[topic][offset]))


@dataclass(frozen=True, slots=True)
class Write:
    """One record that a step wants to write. `table`: a changelog record, which persist-then-speak waits for."""

    topic: str
    key: str
    value: Any
    table: bool = False
    version: int = 0


@dataclass(slots=True)
class _Taken:
    """An input that was read: its offset, and how many of its writes are not acknowledged yet."""

    offset: int
    unacked: int


@dataclass(slots=True)
class _Held:
    """Messages of one step that wait for its table writes."""

    tables_unacked: int
    messages: list[Write]
    taken: _Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong with the workers, on purpose."""

    speak_at_once: bool = False  # without persist-then-speak
    never_replays: bool = False  # without the re-drive rule: no input counts as a possible replay
    commits_past_unacked: bool = False  # Faust's off-by-one
    last_row_wins: bool = False  # recovery keeps the last row of a key, and not the highest
    speaks_when_fenced: bool = False  # a zombie says what it decides
    gaps_count_as_read: bool = False  # an owner's own row raises the place of its local rows past what others wrote
    dies_percent: int = 0  # of the records on topics where one may die


class Worker(Generic[State]):
    """Reads `inputs`, handles each record, keeps rows; `handle` is the code under test with its shell."""

    name: str
    inputs: tuple[str, ...]
    mortal: frozenset[str] = frozenset()
    """Of the inputs: where a record may die."""

    def __init__(self, logs: Logs, chance: random.Random, faults: Faults) -> None:
        self.logs = logs
        self.chance = chance
        self.faults = faults
        self.generation = 0
        self.committed = dict.fromkeys(self.inputs, 0)
        self.fenced = False
        self._local: dict[str, Entry] = {}
        self._applied = 0
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a crash: offsets as committed, rows as on the changelog, buffers empty."""
        self.generation += 1
        self.position = dict(self.committed)
        self.replay_until = {topic: len(self.logs.topics[topic]) for topic in self.inputs}
        self.rows = self._recovered()
        self._buffers: dict[str, list[tuple[Write, _Taken, _Held | None]]] = {}
        self._taken: dict[str, list[_Taken]] = {topic: [] for topic in self.inputs}

    def _recovered(self) -> dict[str, Any]:
        changelog = self.logs.topics[f"changelog:{self.name}"]
        for entry in changelog[self._applied :]:
            known = self._local.get(entry.key)
            newer = known is None or (entry.generation, entry.version) >= (known.generation, known.version)
            if newer or self.faults.last_row_wins:
                self._local[entry.key] = entry
        self._applied = len(changelog)
        return {key: entry.value for key, entry in self._local.items()}

    def _keep(self, offset: int, entry: Entry) -> None:
        """Keep a row of one's own, whose changelog record is acknowledged at this offset."""
        self._local[entry.key] = entry
        if offset == self._applied or self.faults.gaps_count_as_read:
            self._applied = offset + 1

    def handle(self, topic: str, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        raise NotImplementedError  # each worker of the model has its own

    @property
    def busy(self) -> bool:
        """Whether there is anything left to read or to flush."""
        unread = any(self.position[topic] < len(self.logs.topics[topic]) for topic in self.inputs)
        return unread or any(self._buffers.values())

    def step(self) -> bool:
        """Handle one record of one input, if there is one."""
        ready = [topic for topic in self.inputs if self.position[topic] < len(self.logs.topics[topic])]
        if not ready:
            return False
        topic = self.chance.choice(ready)
        offset = self.position[topic]
        self.position[topic] += 1
        replay = offset < self.replay_until[topic] and not self.faults.never_replays
        taken = _Taken(offset, 0)
        self._taken[topic].append(taken)
        writes: list[Write] = []
        if not self._dies(topic, offset):
            writes += self.handle(topic, self.logs.topics[topic][offset], possible_replay=replay)
        taken.unacked = len(writes)
        tables = [write for write in writes if write.table]
        messages = [write for write in writes if not write.table]
        held = _Held(len(tables), messages, taken)
        for write in tables:
            self._buffer(write, taken, held)
        if self.faults.speak_at_once or not tables:
            self._speak(held)
        return True

    def _dies(self, topic: str, offset: int) -> bool:
        """Return whether nobody can take the record; once it is decided, it holds for every reader."""
        if topic in self.mortal and (topic, offset) not in self.logs.fates:
            self.logs.fates[topic, offset] = False
            if self.chance.randrange(100) < self.faults.dies_percent:
                self.logs.bury(topic, offset)
        return self.logs.fates.get((topic, offset), False)

    def _buffer(self, write: Write, taken: _Taken, held: _Held | None) -> None:
        self._buffers.setdefault(write.topic, []).append((write, taken, held))

    def _speak(self, held: _Held) -> None:
        if self.fenced and not self.faults.speaks_when_fenced:
            return  # abandoned, and never committed
        for message in held.messages:
            self._buffer(message, held.taken, None)
        held.messages = []

    def flush(self) -> bool:
        """Append some of what waits for one target."""
        waiting = [topic for topic, buffer in self._buffers.items() if buffer]
        if not waiting:
            return False
        buffer = self._buffers[self.chance.choice(waiting)]
        for _ in range(self.chance.randint(1, min(len(buffer), MAX_BATCH))):
            write, taken, held = buffer.pop(0)
            self.logs.append(write.topic, write.key, write.value, generation=self.generation, version=write.version)
            if write.table:
                log = self.logs.topics[write.topic]
                self._keep(len(log) - 1, log[-1])
            taken.unacked -= 1
            if held is not None:
                held.tables_unacked -= 1
                if held.tables_unacked == 0:
                    self._speak(held)
        return True

    def commit(self) -> None:
        """Commit each input up to the first whose writes are not all acknowledged. The broker fences a zombie."""
        for topic, queue in self._taken.items():
            if self.faults.commits_past_unacked and len(queue) > 1 and queue[0].unacked and not queue[1].unacked:
                self._advance(topic, queue[1].offset + 1)  # Faust 0.15.3, Consumer._new_offset
                del queue[:2]
            while queue and not queue[0].unacked:
                self._advance(topic, queue.pop(0).offset + 1)

    def _advance(self, topic: str, offset: int) -> None:
        if not self.fenced:
            self.committed[topic] = max(self.committed[topic], offset)


W = TypeVar("W", bound=Worker[Any])


def paused(worker: W, successor: Callable[[], W]) -> W:
    """Return a successor that takes over from the worker, which lives on as a zombie with what it had in memory."""
    heir = successor()
    heir.generation = worker.generation
    heir.committed = dict(worker.committed)
    heir.start()
    worker.fenced = True
    return heir


def handed_back(zombie: Worker[Any], owner: Worker[Any]) -> None:
    """Give the work back to the zombie, with the local rows that it has; the owner is paused in its turn."""
    zombie.generation = owner.generation
    zombie.committed = dict(owner.committed)
    zombie.fenced = False
    owner.fenced = True
    zombie.start()
