"""`payment-engine accounts check|example`: the file of accounts at gateways. Called by `application`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.terminal import Output, OutputOption, console, expected_failures, note, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from schemas.identifiers import AccountName, GatewayName, GatewayRoute
    from streams.accounts_file import FileAccount

app = typer.Typer(help="Accounts at gateways: credentials and webhook secrets by reference.", no_args_is_help=True)

_CHECKED = typer.Argument(metavar="[FILE]", help="Another file than PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE names.")


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="accounts")


@app.command()
def example() -> None:
    """Print an accounts file to begin with: every field of every gateway, commented out."""
    from gateway_adapters.registry import GATEWAYS
    from streams.accounts_file import example_of

    say(example_of(GATEWAYS))


@app.command()
def check(file: Annotated[Path | None, _CHECKED] = None, output: OutputOption = Output.TEXT) -> None:
    """List every account that there is, and where its secrets come from; or all that is wrong. Values are not shown."""
    with expected_failures():
        from streams.settings import load, use_accounts_file

        if file is not None:
            use_accounts_file(file)
        settings = load()
        rows = [
            _row(gateway, account, settings.in_file)
            for gateway, accounts in settings.accounts.items()
            for account in accounts
        ]
        if output is Output.JSON:
            print_json(rows)
        elif rows:
            _draw(rows)
        else:
            note("no account is set up: payments are refused")


def _row(
    gateway: "GatewayName", account: "AccountName", in_file: "Mapping[GatewayRoute, FileAccount]"
) -> dict[str, object]:
    from schemas.identifiers import gateway_route

    route = gateway_route(gateway, account)
    kept = in_file.get(route)
    return {
        "account": route,
        "webhooks": f"/webhooks/{route}",
        "from": "variables" if kept is None else "file",
        "secrets": {} if kept is None else dict(kept.sources),
    }


def _draw(rows: "Sequence[dict[str, object]]") -> None:
    from rich.table import Table

    table = Table("account", "webhooks", "from", "secrets", box=None)
    for row in rows:
        secrets = row["secrets"]
        assert isinstance(secrets, dict)
        told = ", ".join(f"{name}: {source}" for name, source in secrets.items())
        table.add_row(str(row["account"]), str(row["webhooks"]), str(row["from"]), told)
    console().print(table)
