"""`payment-engine upgrade status|finish`: as which release the log is written. Called by `application`."""

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, expected_failures, fail, print_json, say
from streams.cli.times import shown_time
from streams.kafka_clients.log_clock import wall_clock_ms

if TYPE_CHECKING:
    from streams.operator_tools.upgrades import Upgrade

app = typer.Typer(help="Upgrades of a running fleet: how far one is, and its end.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="upgrade")


@app.command()
def status(output: OutputOption = Output.TEXT) -> None:
    """Say as which release the log is written, and whether this one can still be taken back."""
    with expected_failures():
        from streams.cli.tools import opened
        from streams.operator_tools.upgrades import upgrade_of

        with opened() as tools:
            upgrade = upgrade_of(tools.log, tools.codec)
        _tell(upgrade, output)


@app.command()
def finish(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Write as this release from now on: every running program follows, and none of an earlier release may be left."""
    with expected_failures():
        from streams.cli.tools import opened
        from streams.operator_tools import upgrades

        with opened() as tools:
            upgrade = upgrades.upgrade_of(tools.log, tools.codec)
            if upgrade.is_open:
                _confirm(upgrade, yes=yes, output=output)
                upgrades.finish(tools.log, tools.codec, now_ms=wall_clock_ms())
                upgrade = upgrades.upgrade_of(tools.log, tools.codec)
        _tell(upgrade, output)


def _confirm(upgrade: "Upgrade", *, yes: bool, output: Output) -> None:
    if yes:
        return
    if output is Output.JSON:
        fail("with -o json nobody can be asked: say --yes", ExitCode.USAGE)
    question = f"no program of release {upgrade.written} runs any more, and none will be started again?"
    typer.confirm(question, abort=True, err=True)


def _tell(upgrade: "Upgrade", output: Output) -> None:
    finished = upgrade.finished
    if output is Output.JSON:
        print_json(
            {
                "release": upgrade.own_release,
                "written": upgrade.written,
                "finished": None if finished is None else finished.release,
                "finishedAt": None if finished is None else shown_time(finished.finished_at_ms),
            }
        )
        return
    say(f"this is release {upgrade.own_release}; the log is written as release {upgrade.written}")
    if upgrade.is_open:
        say("the upgrade can be taken back; `payment-engine upgrade finish` ends it")
    elif finished is not None:
        say(f"the upgrade was finished at {shown_time(finished.finished_at_ms)}; no earlier release can run")
    else:
        say("there is no upgrade to finish")
