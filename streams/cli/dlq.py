"""`payment-engine dlq list|show|redrive|discard`: what could not be taken, and what becomes of it.

Called by `application`; calls `operations.dead_letters` and `operations.redrive`. Raw bytes are shown only by `show
--raw`, since they may hold tokens.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli import dlq_options as options
from streams.cli import dlq_view as view
from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, error_console, expected_failures, fail, note, print_json, say
from streams.kafka_clients.log_clock import wall_clock_ms

if TYPE_CHECKING:
    from streams.cli.tools import Tools
    from streams.operator_tools.dead_letters import LetterFilter
    from streams.operator_tools.redrive import Done, Order, Plan

DEFAULT_LISTED = 100
MAX_LISTED = 10_000

app = typer.Typer(help="Dead letters: what could not be taken, and what becomes of it.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="dlq")


@app.command(name="list")
def list_letters(
    *,
    reason: options.Reasons = None,
    topic: options.Topic = None,
    component: options.Component = None,
    origin: options.Origin = None,
    key: options.Key = None,
    since: options.Since = None,
    until: options.Until = None,
    at: options.At = None,
    state: options.States = None,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1, max=MAX_LISTED)] = DEFAULT_LISTED,
    output: OutputOption = Output.TEXT,
) -> None:
    """List dead letters, oldest first."""
    with expected_failures():
        wanted = options.letter_filter(
            reason=reason, topic=topic, component=component, origin=origin, key=key, since=since, until=until, at=at,
            states=state or ("open",),
        )  # fmt: skip
        from streams.cli.tools import opened
        from streams.operator_tools import dead_letters

        with opened() as tools:
            found = dead_letters.find(tools.log, tools.codec, wanted)
        listed = found.letters[-limit:]
        if output is Output.JSON:
            print_json([view.as_json(letter) for letter in listed])
        else:
            view.draw(listed, total=len(found.letters))
        if found.unreadable:
            note(f"{found.unreadable} records on the topic are no dead letters and were passed over")


@app.command()
def show(
    position: Annotated[str, typer.Argument(help="partition:offset on the dead letter topic.")],
    raw: Annotated[bool, typer.Option("--raw", help="Also the record's bytes, which may hold tokens.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show one dead letter: where and why it died, its headers, what was done about it."""
    with expected_failures():
        wanted = options.letter_filter(at=[position])
        from streams.cli.tools import opened
        from streams.operator_tools import dead_letters

        with opened() as tools:
            (place,) = wanted.positions
            letter = dead_letters.whole(tools.log, tools.codec, {place})[place]
            (summary,) = dead_letters.find(tools.log, tools.codec, wanted).letters
        answer = view.as_json(summary) | view.whole_as_json(letter, raw=raw)
        if output is Output.JSON:
            print_json(answer)
        else:
            view.draw_whole(answer)


@app.command()
def redrive(
    *,
    reason: options.Reasons = None,
    topic: options.Topic = None,
    component: options.Component = None,
    origin: options.Origin = None,
    key: options.Key = None,
    since: options.Since = None,
    until: options.Until = None,
    at: options.At = None,
    everything: options.Everything = False,
    note_text: Annotated[str, typer.Option("--note", help="Why, for the audit record.")] = "",
    operator: options.Operator = None,
    limit: options.Limit = 1_000,
    rate: options.Rate = 100.0,
    dry_run: options.DryRun = False,
    again: options.Again = False,
    yes: options.Yes = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Append dead records again to the topic they died on, bytes, key and headers as they were. Safe to repeat."""
    with expected_failures():
        wanted = options.letter_filter(
            reason=reason, topic=topic, component=component, origin=origin, key=key, since=since, until=until, at=at
        )
        options.require_choice(wanted, everything=everything)
        from streams.operator_tools.dead_letters import LetterState
        from streams.operator_tools.redrive import Order

        order = Order(action=LetterState.REDRIVEN, operator=options.operator_name(operator), note=note_text)
        _run(wanted, order, limit=limit, rate_per_s=rate, dry_run=dry_run, again=again, yes=yes, output=output)


@app.command()
def discard(
    *,
    note_text: Annotated[str, typer.Option("--note", help="Why, for the audit record.")],
    reason: options.Reasons = None,
    topic: options.Topic = None,
    component: options.Component = None,
    origin: options.Origin = None,
    key: options.Key = None,
    since: options.Since = None,
    until: options.Until = None,
    at: options.At = None,
    everything: options.Everything = False,
    operator: options.Operator = None,
    limit: options.Limit = 1_000,
    rate: options.Rate = 1_000.0,
    dry_run: options.DryRun = False,
    again: options.Again = False,
    yes: options.Yes = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Mark dead letters as not to be redriven. Nothing is deleted: the letter and the audit record stay."""
    with expected_failures():
        wanted = options.letter_filter(
            reason=reason, topic=topic, component=component, origin=origin, key=key, since=since, until=until, at=at
        )
        options.require_choice(wanted, everything=everything)
        from streams.operator_tools.dead_letters import LetterState
        from streams.operator_tools.redrive import Order

        order = Order(action=LetterState.DISCARDED, operator=options.operator_name(operator), note=note_text)
        _run(wanted, order, limit=limit, rate_per_s=rate, dry_run=dry_run, again=again, yes=yes, output=output)


def _run(
    wanted: "LetterFilter",
    order: "Order",
    *,
    limit: int,
    rate_per_s: float,
    dry_run: bool,
    again: bool,
    yes: bool,
    output: Output,
) -> None:
    from schemas.topics import DAY_MS
    from streams.cli.tools import opened
    from streams.operator_tools import dead_letters
    from streams.operator_tools.redrive import known_since_ms, plan

    with opened() as tools:
        found = dead_letters.find(tools.log, tools.codec, wanted)
        lives = tools.settings.stream
        since_ms = known_since_ms(
            wall_clock_ms(),
            order_life_ms=lives.order_life_days * DAY_MS,
            claim_life_ms=lives.claim_life_days * DAY_MS,
        )
        planned = plan(found.letters, order.action, again=again, since_ms=since_ms, limit=limit)
        done: Sequence[Done] = ()
        if not dry_run and planned.chosen:
            _confirm(planned, order, yes=yes, output=output)
            done = _carry_out(tools, planned, order, rate_per_s=rate_per_s)
    if output is Output.JSON:
        print_json(view.report_as_json(planned, done, action=order.action.value, dry_run=dry_run))
        return
    if dry_run:
        view.draw(planned.chosen, total=len(planned.chosen))
    say(f"{len(planned.chosen)} to be {order.action.value}" if dry_run else f"{len(done)} {order.action.value}")
    view.say_left(planned)


def _confirm(planned: "Plan", order: "Order", *, yes: bool, output: Output) -> None:
    if yes:
        return
    if output is Output.JSON:
        fail("with -o json nobody can be asked: say --yes, or --dry-run", ExitCode.USAGE)
    oldest = planned.chosen[0]
    question = f"{len(planned.chosen)} letters, the oldest at {oldest.position} ({oldest.reason.value}), to be"
    typer.confirm(f"{question} {order.action.value}?", abort=True, err=True)


def _carry_out(tools: "Tools", planned: "Plan", order: "Order", *, rate_per_s: float) -> Sequence["Done"]:
    from rich.progress import Progress

    from streams.operator_tools.redrive import carry_out
    from streams.operator_tools.upgrades import write_as_the_log_is

    write_as_the_log_is(tools.log, tools.codec)
    done: list[Done] = []
    steps = carry_out(
        tools.log, tools.codec, planned.chosen, order, rate_per_s=rate_per_s, clock_ms=wall_clock_ms, pause=time.sleep
    )
    with closing(steps), Progress(console=error_console(), transient=True) as progress:
        bar = progress.add_task(order.action.value, total=len(planned.chosen))
        for each in steps:
            done.append(each)
            progress.advance(bar)
    return done
