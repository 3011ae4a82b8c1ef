"""`payment-engine topology`: which component reads, keeps and writes what, and the rights it needs. By `application`.

docs/operations.md holds the table of rights (`-o markdown`) between two markers; a test holds the two together.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from streams.cli.terminal import console, print_json, say

RIGHTS_START = "<!-- rights -->"
RIGHTS_END = "<!-- /rights -->"


class TopologyForm(StrEnum):
    """How the topology is printed."""

    TEXT = "text"
    JSON = "json"
    ACLS = "acls"
    MARKDOWN = "markdown"


def register(parent: typer.Typer) -> None:
    """Add the command to the command line."""
    parent.command(name="topology")(show)


def show(
    output: Annotated[
        TopologyForm,
        typer.Option(
            "--output", "-o", help="A table; JSON; lines of kafka-acls.sh; or the table of rights, as the docs have it."
        ),
    ] = TopologyForm.TEXT,
) -> None:
    """Print each component's topics, tables, group, ports, settings and Kafka principal. Asks no broker."""
    from streams.operator_tools.rights import all_rights, as_commands, as_markdown

    match output:
        case TopologyForm.JSON:
            print_json(list(_components()))
        case TopologyForm.ACLS:
            say(as_commands(all_rights()))
        case TopologyForm.MARKDOWN:
            say(as_markdown(all_rights()))
        case TopologyForm.TEXT:
            _draw()


def _components() -> Iterator[dict[str, object]]:
    from streams.topology import COMPONENTS

    for each in COMPONENTS.values():
        yield {
            "component": each.name,
            "does": each.does,
            "reads": list(each.source_topics),
            "follows": list(each.follows),
            "tables": dict(zip(each.tables, each.changelogs, strict=True)),
            "writes": list(each.writes),
            "group": each.group,
            "httpPort": each.http_port,
            "healthPort": each.health_port,
            "settings": [f"PAYMENT_ENGINE_{group.upper()}_" for group in each.settings_groups],
            "clientId": each.client_id,
            "principal": each.principal,
        }


def _draw() -> None:
    from rich.table import Table

    table = Table("", *(str(each["component"]) for each in _components()), box=None, pad_edge=False)
    rows = list(_components())
    for field in rows[0]:
        if field != "component":
            table.add_row(field, *(_cell(row[field]) for row in rows), end_section=True)
    console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}: {changelog}" for name, changelog in value.items())
    if isinstance(value, list):
        return "\n".join(value)
    return "" if value is None else str(value)
