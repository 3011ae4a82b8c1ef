"""What each program may do on the cluster, and no more: Kafka's ACLs by component, from the topology.

Called by `payment-engine topology`. The rights of the components follow from `streams.topology`. A test runs the engine
on Apache Kafka with exactly these. Three principals are no components: whoever runs the command line, a producer of
commands, and a reader of events.

Operations and what they imply: https://kafka.apache.org/documentation/#operations_resources_and_protocols (Read and
Write imply Describe; an idempotent producer needs Write alone since Kafka 2.8).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from schemas import topics
from streams.topology import COMPONENTS, GROUPS, OPERATOR_CLIENT_ID, SOURCE_TOPICS, Component

OPERATOR: Final = f"User:{OPERATOR_CLIENT_ID}"
PRODUCER: Final = "User:payment-engine-producer"
READER: Final = "User:payment-engine-reader"
"""Names to put your own principals for: they may write commands, or read events."""

PROBE_TOPICS: Final = "payment-engine-doctor-"
"""Begin of the names of the topics that `doctor --probe` makes and deletes."""

READER_GROUPS: Final = "payment-engine-reader"

Resource = Literal["topic", "group", "cluster"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Operations that a principal is allowed on some resources of one kind."""

    principal: str
    resource: Resource
    names: tuple[str, ...]  # none for the cluster
    operations: tuple[str, ...]  # as `kafka-acls.sh` names them
    prefixed: bool = False  # every resource whose name begins so


def all_rights() -> tuple[Right, ...]:
    """Return the rights of every component, then of operator, producer and reader."""
    components = (right for component in COMPONENTS.values() for right in rights_of(component))
    return (*components, *_operators(), *_outsiders())


def rights_of(component: Component) -> Iterator[Right]:
    """Yield what a component needs. It looks at the settings of its topics before it starts (`start_check`)."""
    written = (*component.writes, *component.changelogs)
    for operation, names in (("Read", component.reads), ("Write", written)):
        if names:
            yield Right(principal=component.principal, resource="topic", names=names, operations=(operation,))
    looked_at = tuple(dict.fromkeys((*component.reads, *written)))
    yield Right(principal=component.principal, resource="topic", names=looked_at, operations=("DescribeConfigs",))
    if component.group is not None:
        yield Right(principal=component.principal, resource="group", names=(component.group,), operations=("Read",))


def _operators() -> Iterator[Right]:
    every = tuple(each.name for each in topics.CATALOGUE)
    administer = ("Create", "Describe", "DescribeConfigs", "AlterConfigs", "Read")
    yield Right(principal=OPERATOR, resource="topic", names=every, operations=administer)
    # Redriven records go back where they died. What is decided about them, policies and upgrades are records too.
    redriven = (*SOURCE_TOPICS, topics.DLQ, topics.POLICIES, topics.UPGRADES)
    yield Right(principal=OPERATOR, resource="topic", names=redriven, operations=("Write",))
    yield Right(
        principal=OPERATOR,
        resource="topic",
        names=(PROBE_TOPICS,),
        operations=("Create", "Delete", "Write"),
        prefixed=True,
    )
    yield Right(principal=OPERATOR, resource="group", names=tuple(GROUPS), operations=("Describe",))
    yield Right(principal=OPERATOR, resource="cluster", names=(), operations=("Describe", "DescribeConfigs"))


def _outsiders() -> Iterator[Right]:
    yield Right(principal=PRODUCER, resource="topic", names=(topics.COMMANDS,), operations=("Write",))
    yield Right(principal=READER, resource="topic", names=(topics.EVENTS,), operations=("Read",))
    yield Right(principal=READER, resource="group", names=(READER_GROUPS,), operations=("Read",), prefixed=True)


def as_commands(rights: Iterable[Right]) -> str:
    """Return one line of `kafka-acls.sh` for each right; a shell that runs them has `BOOTSTRAP_SERVERS` set."""
    return "\n".join(_command(right) for right in rights)


def _command(right: Right) -> str:
    words = ["kafka-acls.sh", "--bootstrap-server", '"$BOOTSTRAP_SERVERS"', "--add"]
    words += ["--allow-principal", right.principal]
    words += [word for operation in right.operations for word in ("--operation", operation)]
    words += [word for name in right.names for word in (f"--{right.resource}", name)] or ["--cluster"]
    words += ["--resource-pattern-type", "prefixed"] if right.prefixed else []
    return " ".join(words)


def as_markdown(rights: Iterable[Right]) -> str:
    """Return the table of docs/operations.md."""
    lines = ["| principal | may | on |", "| --- | --- | --- |"]
    lines += [f"| `{right.principal}` | {', '.join(right.operations)} | {_told(right)} |" for right in rights]
    return "\n".join(lines)


def _told(right: Right) -> str:
    if right.resource == "cluster":
        return "the cluster"
    names = ", ".join(f"`{name}{'*' if right.prefixed else ''}`" for name in right.names)
    return f"{right.resource}{'s' if len(right.names) > 1 else ''} {names}"
