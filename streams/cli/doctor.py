"""`payment-engine doctor`: what is wrong, why it matters, how to mend it. Called by `application`."""

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, console, expected_failures, print_json
from streams.kafka_clients.log_clock import wall_clock_ms

if TYPE_CHECKING:
    from streams.operator_tools.doctor.findings import Finding

_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "failure": ("FAILURE", "bold red")}


def register(parent: typer.Typer) -> None:
    """Add the command to the command line."""
    parent.command(name="doctor")(examine)


def examine(
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Also ask the broker's clock: one record on a topic made for it and deleted."),
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Look at broker, topics, partitioner, registry, clock, workers and settings. Exit code 1 on a failure."""
    with expected_failures():
        from streams.cli.loop import set_up_logs
        from streams.settings import load

        settings = load()
        from streams.operator_tools.doctor.examination import Wish, examine
        from streams.operator_tools.doctor.findings import Severity

        set_up_logs("operator")
        findings: list[Finding] = []
        for finding in examine(settings, Wish(probe_clock=probe), clock_ms=wall_clock_ms):
            findings.append(finding)
            if output is Output.TEXT:
                _draw(finding)
        if output is Output.JSON:
            print_json([_as_json(finding) for finding in findings])
        if any(finding.severity is Severity.FAILURE for finding in findings):
            raise typer.Exit(int(ExitCode.FAILED))


def _as_json(finding: "Finding") -> dict[str, str]:
    return {
        "subject": finding.subject.value,
        "severity": finding.severity.value,
        "finding": finding.finding,
        "why": finding.why,
        "fix": finding.fix,
    }


def _draw(finding: "Finding") -> None:
    from rich.text import Text

    mark, style = _MARKS[finding.severity.value]
    line = Text.assemble((mark, style), f"  {finding.subject.value:<12} {finding.finding}")
    console().print(line)
    for label, text in (("why", finding.why), ("fix", finding.fix)):
        if text:
            console().print(Text.assemble(f"{'':<22}", (f"{label}: ", "dim"), text))
