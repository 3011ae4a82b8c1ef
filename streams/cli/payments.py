"""`payment-engine payments show ID`: the life of a payment, refund or order, as the log tells it.

Called by `application`; calls `operations.timelines`. Tokens are never shown.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli import decisions
from streams.cli.dlq_view import printable
from streams.cli.terminal import Output, OutputOption, console, expected_failures, note, print_json, say
from streams.cli.times import WHEN_HELP, parse_when, shown_time

if TYPE_CHECKING:
    from streams.operator_tools.facts import Fact
    from streams.operator_tools.timelines import Entry, Timeline

app = typer.Typer(help="Payments as the log tells of them, and what a person decides.", no_args_is_help=True)

_STYLES = {
    "command": "bold cyan",
    "event": "bold green",
    "gateway request": "yellow",
    "gateway result": "yellow",
    "decision": "bold magenta",
    "proposal": "magenta",
    "dead letter": "bold red",
    "dead letter handled": "red",
}


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    decisions.register(app)
    parent.add_typer(app, name="payments")


@app.command()
def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Payment id, refund id, or order id with --origin.")],
    origin: Annotated[str | None, typer.Option(help="Origin (merchant) of the order.")] = None,
    since: Annotated[str | None, typer.Option(help=f"From this time on: {WHEN_HELP}")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the timeline of a payment, a refund or an order."""
    with expected_failures():
        since_ms = parse_when(since)
        from streams.cli.tools import opened
        from streams.operator_tools import timelines

        subject = timelines.subject_of(identifier, origin=origin)
        with opened() as tools:
            life = timelines.timeline(tools.log, tools.codec, subject, since_ms=since_ms)
        if output is Output.JSON:
            print_json(_as_json(life))
        else:
            _draw(life)
        if life.truncated:
            note(f"only the first {len(life.entries)} records are shown")


def _as_json(life: "Timeline") -> dict[str, object]:
    return {
        "origin_id": life.origin_id,
        "order_id": life.order_id,
        "id": life.identifier,
        "truncated": life.truncated,
        "entries": [
            {
                "at": shown_time(entry.at_ms),
                "kind": entry.kind,
                "type": entry.event_type,
                "event_id": entry.event_id,
                "op_id": entry.op_id,
                "topic": entry.topic,
                "partition": entry.partition,
                "offset": entry.offset,
                "repeat": entry.repeat,
                "facts": dict(entry.facts),
            }
            for entry in life.entries
        ],
    }


def _draw(life: "Timeline") -> None:
    from rich.table import Table
    from rich.text import Text

    say(f"order {life.order_id} of {life.origin_id}" + (f", {life.identifier}" if life.identifier else ""))
    table = Table("time (UTC)", "after", "what", "operation", "facts", "on the log", box=None, padding=(0, 1))
    first_ms = life.entries[0].at_ms
    for entry in life.entries:
        table.add_row(
            shown_time(entry.at_ms)[11:],
            f"{entry.at_ms - first_ms} ms",
            Text(_title(entry), style=_STYLES.get(entry.kind, "")),
            Text((entry.op_id or "")[:11]),
            Text(printable(_sentence(entry.facts))),
            Text(f"{entry.topic}:{entry.partition}:{entry.offset}", style="dim"),
        )
    say(f"from {shown_time(first_ms)}")
    console().print(table)


def _title(entry: "Entry") -> str:
    name = entry.event_type.removeprefix("payments.").removesuffix(".v1") if entry.kind == "event" else entry.kind
    return f"{name} (again)" if entry.repeat else name


def _sentence(facts: tuple["Fact", ...]) -> str:
    return " ".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in facts)
