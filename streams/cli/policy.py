"""`payment-engine policy show|set|delete|explain`: where an origin's payments go. Called by `application`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli import policy_explain
from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, console, expected_failures, fail, note, print_json, say
from streams.cli.times import shown_time
from streams.kafka_clients.log_clock import wall_clock_ms

if TYPE_CHECKING:
    from gateway_adapters.spec import Accounts
    from schemas.identifiers import GatewayRoute
    from schemas.records.policies import AmountLimit, OriginPolicy, RoutingRule
    from schemas.vocabulary import DeclineClass

EVERYONE = "*"

app = typer.Typer(help="Routing policies: gateways, fallback and limits of an origin.", no_args_is_help=True)

MINUTE_MS: Final = 60_000

OriginArgument = Annotated[str, typer.Argument(metavar="ORIGIN", help="Origin id, or * for all that have no own.")]


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    app.command()(policy_explain.explain)
    parent.add_typer(app, name="policy")


@app.command()
def show(
    origin: Annotated[str | None, typer.Argument(metavar="[ORIGIN]", help="Only this origin's, or `*`.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show the policies that hold."""
    with expected_failures():
        from streams.cli.tools import opened
        from streams.operator_tools import policies

        with opened() as tools:
            known = policies.known_policies(tools.log, tools.codec)
        chosen = [known[name] for name in sorted(known) if origin in {None, name}]
        if output is Output.JSON:
            print_json([_as_json(policy) for policy in chosen])
        elif chosen:
            _draw(chosen)
        if origin is not None and not chosen:
            fail(f"{origin} has no policy of its own; {_otherwise(known)}", ExitCode.NOT_FOUND)
        if EVERYONE not in known:
            note(f"no policy `{EVERYONE}`: PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS holds for origins without their own")


@app.command(name="set")
def set_policy(
    origin: OriginArgument,
    gateways: Annotated[
        str,
        typer.Option(
            help="Gateways with commas, in order; another account than the default as gateway/account. Empty: none."
        ),
    ],
    fallback: Annotated[
        bool, typer.Option(help="Whether a call that was not executed may go to the next gateway.")
    ] = True,
    max_attempts: Annotated[int, typer.Option(help="Over all gateways.", min=1, max=10)] = 3,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="Largest payment, CURRENCY=MINOR_UNITS, such as USD=100000 for 1000.00; may be repeated."),
    ] = None,
    action_minutes: Annotated[
        int | None, typer.Option(help="How long a payer may take to act (3-D Secure, redirect); 60 unless given.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Routing rules, JSON or TOML: the first that fits a payment says its gateways. Not given: none.",
        ),
    ] = None,
    fallback_class: Annotated[
        list[str] | None,
        typer.Option(help="A class of declines after which the next gateway is asked, such as soft; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--rules-dry-run", help="Route by --gateways; tell by metric and log what the rules would do."),
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Put a policy in force: the origin's whole policy, as given here. Running workers follow without a restart."""
    with expected_failures():
        from schemas.records.policies import OriginPolicy
        from streams.cli.tools import opened
        from streams.operator_tools import policies
        from streams.operator_tools.errors import NotFoundError
        from streams.operator_tools.kafka_log import operator_connection
        from streams.operator_tools.upgrades import write_as_the_log_is

        wish = OriginPolicy(
            origin_id=origin,
            version=1,
            gateways=_routes(gateways),
            fallback=fallback,
            max_attempts=max_attempts,
            limits=_limits(limit or ()),
            updated_at_ms=wall_clock_ms(),
            action_life_ms=None if action_minutes is None else action_minutes * MINUTE_MS,
            rules=() if rules is None else _rules_of(rules),
            fallback_classes=_classes(fallback_class or ()),
            dry_run=dry_run,
        )
        policies.check(wish)
        with opened() as tools:
            connection = operator_connection(tools.settings.kafka)
            write_as_the_log_is(tools.log, tools.codec)
            try:
                before = policies.known_policies(tools.log, tools.codec).get(origin)
            except NotFoundError:  # no topic: to write is refused then, with the command that mends it
                before = None
            written = policies.change(connection, tools.codec, wish, now_ms=wall_clock_ms())
        if before is not None and before.rules and not written.rules:
            note(f"the {len(before.rules)} rules of version {before.version} hold no more: no --rules were given")
        for route in _named(written):
            if not _is_here(route, tools.settings.accounts):
                note(f"{route} is not set up in this environment; workers that lack it pass it over")
        if output is Output.JSON:
            print_json(_as_json(written))
            return
        say(f"{written.origin_id}: version {written.version} is on the log")
        say(
            f"running workers follow within {policies.FOLLOWED_WITHIN_S} s, without a restart; "
            "operations whose claim was made before keep their plan"
        )


@app.command(name="delete")
def delete_policy(
    origin: OriginArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a policy: `*` holds for the origin then, or the configured gateways. Running workers follow at once."""
    with expected_failures():
        from streams.cli.tools import opened
        from streams.operator_tools import policies
        from streams.operator_tools.kafka_log import operator_connection

        if not yes:
            typer.confirm(f"the policy of {origin} to be deleted?", abort=True, err=True)
        with opened() as tools:
            policies.forget(operator_connection(tools.settings.kafka), tools.codec, origin)
            known = policies.known_policies(tools.log, tools.codec)
        say(f"{origin}: the policy is deleted; {_otherwise(known)}")


def _named(policy: "OriginPolicy") -> list["GatewayRoute"]:
    """Return each gateway and account that the policy names, once."""
    return list(dict.fromkeys([*policy.gateways, *(each.gateway for rule in policy.rules for each in rule.routes)]))


def _is_here(route: "GatewayRoute", accounts: "Accounts") -> bool:
    from schemas.identifiers import parts_of

    gateway, account = parts_of(route)
    return account in accounts.get(gateway, {})


def _otherwise(known: "Mapping[str, OriginPolicy]") -> str:
    return f"`{EVERYONE}` holds" if EVERYONE in known else "the configured default gateways hold"


def _routes(text: str) -> tuple["GatewayRoute", ...]:
    from schemas.identifiers import InvalidIdentifierError
    from streams.settings import routes_of

    try:
        return routes_of(text)
    except InvalidIdentifierError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from error


def _limits(texts: Sequence[str]) -> tuple["AmountLimit", ...]:
    from schemas.records.policies import AmountLimit

    limits: list[AmountLimit] = []
    for text in texts:
        currency, _, amount = text.partition("=")
        if not (amount.isdigit() and amount.isascii()):
            raise typer.BadParameter(f"{text!r} is not CURRENCY=MINOR_UNITS, such as USD=100000")
        limits.append(AmountLimit(currency=currency.upper(), max_amount_minor=int(amount)))
    return tuple(limits)


def _rules_of(file: Path) -> tuple["RoutingRule", ...]:
    from streams.operator_tools import policy_rules
    from streams.operator_tools.errors import RefusedError

    try:
        with file.open("rb") as opened_file:
            raw = opened_file.read(policy_rules.MAX_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read ({error.strerror or type(error).__name__})") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8 text") from error
    if len(raw) > policy_rules.MAX_FILE_BYTES:
        raise typer.BadParameter(f"{file} is larger than {policy_rules.MAX_FILE_BYTES} bytes")
    try:
        return policy_rules.rules_in(text)
    except RefusedError as error:
        raise RefusedError(f"{file}: {error}") from error


def _classes(names: Sequence[str]) -> tuple["DeclineClass", ...]:
    from schemas.vocabulary import DeclineClass

    known = {each.value: each for each in DeclineClass}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: no such class of declines; known: {', '.join(known)}")
    return tuple(known[name] for name in names)


def _as_json(policy: "OriginPolicy") -> dict[str, object]:
    from streams.operator_tools import policy_rules

    return {
        "origin_id": policy.origin_id,
        "version": policy.version,
        "gateways": list(policy.gateways),
        "fallback": policy.fallback,
        "max_attempts": policy.max_attempts,
        "limits": {limit.currency: limit.max_amount_minor for limit in policy.limits},
        "action_life_ms": policy.action_life_ms,
        "rules": policy_rules.shown(policy.rules),
        "fallback_classes": [each.value for each in policy.fallback_classes],
        "dry_run": policy.dry_run,
        "updated_at": shown_time(policy.updated_at_ms),
    }


def _draw(chosen: Sequence["OriginPolicy"]) -> None:
    from rich.table import Table

    from streams.operator_tools import policy_rules

    table = Table(
        "origin",
        "version",
        "gateways",
        "fallback",
        "after declines",
        "attempts",
        "limits (minor units)",
        "payer has",
        "changed",
        box=None,
    )
    for policy in chosen:
        table.add_row(
            policy.origin_id,
            str(policy.version),
            " > ".join(policy.gateways) or "none: payments are refused",
            "yes" if policy.fallback else "no",
            ", ".join(policy.fallback_classes) or "no",
            str(policy.max_attempts),
            ", ".join(f"{limit.currency} {limit.max_amount_minor}" for limit in policy.limits) or "none",
            "60 min" if policy.action_life_ms is None else f"{policy.action_life_ms // MINUTE_MS} min",
            shown_time(policy.updated_at_ms),
        )
    console().print(table)
    for policy in chosen:
        for number, rule in enumerate(policy.rules, start=1):
            dry = " (dry run)" if policy.dry_run else ""
            say(f"{policy.origin_id}: rule {number}{dry}: {policy_rules.in_words(rule)}")
