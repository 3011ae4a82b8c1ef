"""`payment-engine schemas check|register`: the Avro files, and the registry. Called by `application`."""

import typer

from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, expected_failures, print_json, say

app = typer.Typer(help="The Avro schemas of the records.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="schemas")


@app.command()
def check(output: OutputOption = Output.TEXT) -> None:
    """Prove that no change breaks the last release, and that all versions are FULL_TRANSITIVE. Exit code 1 if not."""
    with expected_failures():
        from schemas.schema_ids import packaged_schemas
        from streams.operator_tools.schema_files import faults

        found = faults()
        if output is Output.JSON:
            print_json([{"record": each.record, "version": each.version, "problem": each.problem} for each in found])
        else:
            for each in found:
                say(f"{each.record} v{each.version}: {each.problem}")
            say(f"{len(packaged_schemas())} schemas, {len(found)} faults")
        if found:
            raise typer.Exit(int(ExitCode.FAILED))


@app.command(name="register")
def register_schemas(output: OutputOption = Output.TEXT) -> None:
    """Register every schema with the configured registry. Safe to repeat."""
    with expected_failures():
        from streams.operator_tools import schema_files
        from streams.settings import load

        ids = schema_files.register(load().registry)
        if output is Output.JSON:
            print_json(dict(ids))
        else:
            for subject, schema_id in ids.items():
                say(f"{schema_id:>6}  {subject}")
