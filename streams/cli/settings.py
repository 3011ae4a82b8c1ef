"""`payment-engine settings`: every setting in one generated table. Called by `application`.

docs/configuration.md holds the same table (`-o markdown`) between two markers, and `.env.example` is all of it as a
file (`-o env`); a test holds both against the settings.
"""

import re
from enum import StrEnum
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin

import typer

from streams.cli.terminal import console, expected_failures, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo

ENV_COLUMNS = 120
_SINGLE_QUOTED = re.compile(r"^[^=]*=\s*'")
HIDDEN = "(a secret)"  # in place of one that has a default
TABLE_START = "<!-- settings -->"
TABLE_END = "<!-- /settings -->"


class TableForm(StrEnum):
    """How the table is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    ENV = "env"


ENV_HEADER = """\
# Every setting of the engine with its default. Copy this file to `.env`, take the # away from what you change:
# `make run`, `payment-engine --env-file .env <program>` and Compose read it. What the environment says goes before it.
# A value with a space, a # or a $ stands in 'single quotes'. Written by `payment-engine settings -o env`.
#
# `make run` and Compose set themselves: the brokers, the ingress' address and port, development mode, the address of
# the gateway that moves no money, the ids of the workers, and where their tables are."""


def register(parent: typer.Typer) -> None:
    """Add the command to the command line."""
    parent.command(name="settings")(show)


def show(
    output: Annotated[TableForm, typer.Option("--output", "-o", help="For a person, the docs, or a program.")] = (
        TableForm.TEXT
    ),
) -> None:
    """Print every setting with its meaning, unit and default; then whether the environment's are right."""
    with expected_failures():
        from streams.settings import load

        rows = list(_rows())
        match output:
            case TableForm.MARKDOWN:
                say(markdown())
                return  # for the docs, whatever the environment says
            case TableForm.ENV:
                say(env_file())
                return
            case TableForm.JSON:
                print_json([dict(zip(("variable", "values", "default", "meaning"), row, strict=True)) for row in rows])
            case TableForm.TEXT:
                _draw(rows)
        load()


def markdown() -> str:
    """Return the docs' table of settings."""
    lines = ["| variable | values | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {_cell(values)} | {f'`{default}`' if default else ''} | {_cell(meaning)} |"
        for name, values, default, meaning in _rows()
    ]
    return "\n".join(lines)


def env_file() -> str:
    """Return the text of `.env.example`: each setting commented out, with its meaning, values and default."""
    lines = [ENV_HEADER]
    for name, values, default, meaning in _rows():
        stated = "" if default == HIDDEN else default
        lines += ["", *wrap(f"{meaning} ({values})", ENV_COLUMNS, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"#{name}={stated}")
    return "\n".join(lines)


def env_file_values(path: "Path") -> "Mapping[str, str]":
    """Return the variables of a file such as `.env.example`.

    The file is read as Compose reads it, or not at all: a line that the two would take differently is refused.

    Raises:
        MisconfiguredError: it cannot be read, or a line of it; values are not shown.
    """
    from dotenv.parser import parse_stream

    from schemas.misconfigured import MisconfiguredError

    try:
        bindings = list(parse_stream(StringIO(path.read_text("utf-8"))))
    except (OSError, UnicodeDecodeError) as error:
        raise MisconfiguredError(f"{path} cannot be read ({type(error).__name__})") from error
    values: dict[str, str] = {}
    for binding in bindings:
        text = binding.original.string
        number = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error:
            raise MisconfiguredError(f"{path}, line {number}: is not NAME=value, or a quote is not closed")
        if binding.key is None or binding.value is None:
            continue  # a comment, or a name that Compose takes from the environment
        if "$" in binding.value and _SINGLE_QUOTED.search(text) is None:
            raise MisconfiguredError(
                f"{path}, line {number}: {binding.key} holds a $, which Compose would take for a variable's name: "
                "put the value in single quotes"
            )
        values[binding.key] = binding.value  # the last of a name counts
    return values


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rows() -> "Iterator[tuple[str, str, str, str]]":
    from streams.settings import variables

    for name, field in variables():
        yield name, _values(field), _default(field), field.description or ""


def _default(field: "FieldInfo") -> str:
    from pydantic import SecretStr

    default = field.default
    if default is None or field.is_required():
        return ""
    if isinstance(default, SecretStr):
        return HIDDEN
    return str(default).lower() if isinstance(default, bool) else f"{default}"


def _values(field: "FieldInfo") -> str:
    annotation = field.annotation
    choices = [each for each in get_args(annotation) if each is not type(None)]
    plain = choices[0] if choices and get_origin(annotation) is not Literal else annotation
    if get_origin(plain) is Annotated:  # within a union, where the field has not taken it apart
        plain = get_args(plain)[0]
    if get_origin(plain) is Literal:
        return ", ".join(map(str, get_args(plain)))
    name = {"bool": "true, false", "int": "integer", "float": "number", "str": "text", "SecretStr": "text, secret"}.get(
        getattr(plain, "__name__", ""), "path"
    )
    low, high = (_bound(field, each) for each in (("ge", "gt"), ("le", "lt")))
    return f"{name}, {low} to {high}" if low and high else name


def _bound(field: "FieldInfo", names: tuple[str, str]) -> str:
    for rule in field.metadata:
        for name in names:
            value = getattr(rule, name, None)
            if value is not None:
                return f"above {value:g}" if name == "gt" else f"{value:g}" if isinstance(value, float) else str(value)
    return ""


def _draw(rows: "list[tuple[str, str, str, str]]") -> None:
    from rich.table import Table

    table = Table("variable", "values", "default", "meaning", box=None)
    for row in rows:
        table.add_row(*row)
    console().print(table)
