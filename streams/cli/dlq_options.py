"""The options of `payment-engine dlq`, and what they mean. Called by `dlq`."""

import getpass
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from streams.cli.times import WHEN_HELP, parse_when

if TYPE_CHECKING:
    from streams.operator_tools.dead_letters import LetterFilter
    from streams.operator_tools.log import Position

ALL_STATES = "all"

Word = TypeVar("Word")

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Why it died; may be repeated.")]
Topic = Annotated[str | None, typer.Option(help="Topic on which the record died.")]
Component = Annotated[str | None, typer.Option(help="Who refused it: orders, claims, executor.")]
Origin = Annotated[str | None, typer.Option(help="Origin (merchant) that the record names.")]
Key = Annotated[str | None, typer.Option(help="Key of the record: the order id.")]
Since = Annotated[str | None, typer.Option(help=f"Died at or after: {WHEN_HELP}")]
Until = Annotated[str | None, typer.Option(help="Died before.")]
At = Annotated[
    list[str] | None, typer.Option("--at", help="partition:offset on the dead letter topic; may be repeated.")
]
States = Annotated[list[str] | None, typer.Option("--state", help="open, redriven, discarded or all. Default: open.")]
Everything = Annotated[bool, typer.Option("--all", help="Without any filter: really every letter.")]
Operator = Annotated[str | None, typer.Option(help="Who, for the audit record. Default: the user of this shell.")]
Limit = Annotated[int, typer.Option(help="Letters of this run at most.", min=1, max=100_000)]
Rate = Annotated[float, typer.Option(help="Letters a second at most.", min=0.01, max=10_000)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Again = Annotated[bool, typer.Option("--again", help="Also letters that were handled before.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def letter_filter(
    *,
    reason: Sequence[str] | None = None,
    topic: str | None = None,
    component: str | None = None,
    origin: str | None = None,
    key: str | None = None,
    since: str | None = None,
    until: str | None = None,
    at: Sequence[str] | None = None,
    states: Sequence[str] = (ALL_STATES,),
) -> "LetterFilter":
    """Return the filter that the options mean. Raises: typer.BadParameter."""
    from schemas.vocabulary import DeadLetterReason
    from streams.operator_tools.dead_letters import LetterFilter, LetterState

    named_states = () if ALL_STATES in states else states
    return LetterFilter(
        reasons=_known(reason or (), {each.value: each for each in DeadLetterReason}),
        states=_known(named_states, {each.value: each for each in LetterState}),
        positions=frozenset(_position(each) for each in at or ()),
        topic=topic,
        component=component,
        key=None if key is None else key.encode(),
        origin_id=origin,
        since_ms=parse_when(since),
        until_ms=parse_when(until),
    )


def _known(words: Sequence[str], known: Mapping[str, Word]) -> frozenset[Word]:
    for word in words:
        if word not in known:
            raise typer.BadParameter(f"{word!r} is none of {', '.join(known)}")
    return frozenset(known[word] for word in words)


def _position(text: str) -> "Position":
    from streams.operator_tools.log import Position

    partition, _, offset = text.partition(":")
    if not (partition.isdigit() and offset.isdigit()):
        raise typer.BadParameter(f"{text!r} is not partition:offset, such as 3:42")
    return Position(int(partition), int(offset))


def require_choice(wanted: "LetterFilter", *, everything: bool) -> None:
    """Return if the letters were chosen by somebody: by a filter, or by `--all`. Raises: typer.BadParameter."""
    from streams.operator_tools.dead_letters import LetterFilter

    if wanted == LetterFilter() and not everything:
        raise typer.BadParameter("choose letters by a filter (--reason, --at, --since, …), or say --all")


def operator_name(named: str | None) -> str:
    """Return who the audit record names."""
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
