"""`payment-engine topics plan|apply`: the catalogue against the broker; `describe`: what it is. By `application`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, console, expected_failures, fail, print_json, say

if TYPE_CHECKING:
    from streams.kafka_clients.admin import TopicRow

app = typer.Typer(help="The topics of the engine on the broker.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="topics")


@app.command()
def plan(output: OutputOption = Output.TEXT) -> None:
    """Show what `apply` would do; changes nothing. Exit code 1 when there is something to do."""
    with expected_failures():
        rows = _admin_rows(apply=False)
        _answer(rows, output)
        if any(row.action.value != "none" for row in rows):
            raise typer.Exit(int(ExitCode.FAILED))


@app.command()
def apply(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Create missing topics and correct their settings. Deletes nothing, changes no partition count. Safe to repeat."""
    with expected_failures():
        if not yes:
            if output is Output.JSON:
                fail("with -o json nobody can be asked: say --yes", ExitCode.USAGE)
            _answer(_admin_rows(apply=False), output)
            typer.confirm("apply?", abort=True, err=True)
        rows = _admin_rows(apply=True)
        _answer(rows, output)
        refused = [row for row in rows if row.action.value == "refuse"]
        if refused:
            named = ", ".join(f"{row.topic} ({row.aspect})" for row in refused)
            fail(f"left as they are, a person must decide: {named}", ExitCode.REFUSED)


class DescriptionForm(StrEnum):
    """How the topics are described."""

    TEXT = "text"
    ASYNCAPI = "asyncapi"


@app.command()
def describe(
    output: Annotated[
        DescriptionForm, typer.Option("--output", "-o", help="A table, or an AsyncAPI document in JSON.")
    ] = DescriptionForm.TEXT,
) -> None:
    """Describe every topic: who writes and reads it, its key, its records, how long they are kept. Asks no broker."""
    match output:
        case DescriptionForm.ASYNCAPI:
            from importlib.metadata import version

            from streams.operator_tools import asyncapi

            print_json(asyncapi.document(version=version("payment-engine-lite")))
        case DescriptionForm.TEXT:
            _draw_catalogue()


def _draw_catalogue() -> None:
    from rich.table import Table

    from schemas.topics import CATALOGUE, HOUR_MS
    from streams.topology import COMPONENTS

    table = Table("topic", "key", "records", "written by", "read by", "kept", box=None)
    for topic in CATALOGUE:
        writers = (each.name for each in COMPONENTS.values() if topic.name in (*each.writes, *each.changelogs))
        readers = (each.name for each in COMPONENTS.values() if topic.name in each.reads)
        table.add_row(
            topic.name,
            topic.key,
            ", ".join(record.__name__ for record in topic.records),
            ", ".join(writers) or "operators",
            ", ".join(readers) or "whoever wants to know",
            "for ever" if topic.retention_ms is None else f"{topic.retention_ms // HOUR_MS} h",
        )
    console().print(table)


def _admin_rows(*, apply: bool) -> Sequence["TopicRow"]:
    from streams.kafka_clients.admin import TopicAdmin, sizes_of
    from streams.operator_tools.kafka_log import operator_connection, translated
    from streams.operator_tools.reachability import require_broker
    from streams.settings import load

    kafka = load().kafka
    require_broker(kafka)
    with translated():
        admin = TopicAdmin(operator_connection(kafka), sizes_of(kafka))
        return admin.apply() if apply else admin.plan()


def _answer(rows: Sequence["TopicRow"], output: Output) -> None:
    if output is Output.JSON:
        print_json(
            [
                {
                    "topic": row.topic,
                    "aspect": row.aspect,
                    "wanted": row.wanted,
                    "actual": row.actual,
                    "action": row.action.value,
                }
                for row in rows
            ]
        )
        return
    changes = [row for row in rows if row.action.value != "none"]
    if changes:
        from rich.table import Table

        table = Table("topic", "what", "is", "should be", "action", box=None)
        for row in changes:
            table.add_row(row.topic, row.aspect, row.actual or "missing", row.wanted, row.action.value)
        console().print(table)
    say(f"{len({row.topic for row in rows})} topics, {len(changes)} differences")
