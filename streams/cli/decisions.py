"""`payment-engine payments list|decide|approve|proposals`: what waits for a person, and what a person decides.

Called by `payments`. `list` reads the log; the others go through the desk (`payment-engine operators`), so that who
decides is the owner of an operator's key.
"""

import uuid
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.dlq_options import operator_name
from streams.cli.dlq_view import printable
from streams.cli.exits import ExitCode
from streams.cli.terminal import Output, OutputOption, console, expected_failures, fail, note, print_json, say
from streams.cli.times import shown_time

if TYPE_CHECKING:
    from schemas.records.decisions import PaymentWaiting
    from streams.operator_tools.desk_client import DeskAddress, DeskAnswer


class Verdicts(StrEnum):
    """What may be decided, as the command line spells it. A test holds it to `schemas.vocabulary`, a slow import."""

    SUCCEEDED = "succeeded"
    NOT_EXECUTED = "not_executed"
    TAKEN_BACK = "taken_back"
    NOTE = "note"
    CLOSE_REVIEW = "close_review"


UrlOption = Annotated[
    str | None, typer.Option("--url", help="The desk's address. Default: PAYMENT_ENGINE_OPERATORS_URL.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", help="File that holds your operator's key. Default: PAYMENT_ENGINE_OPERATORS_KEY."),
]
NameOption = Annotated[
    str | None, typer.Option("--as", help="Your name, for a desk in development mode. Default: the system's user.")
]
PaymentArgument = Annotated[str, typer.Argument(metavar="ID", help="Payment id.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group `payments`."""
    app.command(name="list")(list_payments)
    app.command()(decide)
    app.command()(approve)
    app.command()(proposals)


def list_payments(
    *,
    in_doubt: Annotated[bool, typer.Option("--in-doubt", help="Whose outcome nobody knows yet.")] = False,
    review: Annotated[bool, typer.Option("--review", help="That a person has to decide.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Whose gateway's last word is to come.")] = False,
    origin: Annotated[str | None, typer.Option(help="Only of this origin (merchant).")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the operations that wait, those first that have waited longest. Without a choice: all of them."""
    with expected_failures():
        from schemas.vocabulary import WaitingFor
        from streams.cli.tools import opened
        from streams.operator_tools import waiting

        chosen = {WaitingFor.IN_DOUBT: in_doubt, WaitingFor.REVIEW: review, WaitingFor.PENDING: pending}
        reasons = [reason for reason, wanted in chosen.items() if wanted]
        with opened() as tools:
            found = waiting.chosen(waiting.list_waiting(tools.log, tools.codec), reasons=reasons, origin=origin)
        if output is Output.JSON:
            print_json([_as_json(each) for each in found])
        elif found:
            _draw(found)
        else:
            note("nothing waits")


def _as_json(waiting: "PaymentWaiting") -> dict[str, object]:
    return {
        "origin_id": waiting.origin_id,
        "order_id": waiting.order_id,
        "payment_id": waiting.payment_id,
        "op_id": waiting.op_id,
        "kind": waiting.kind.value,
        "waits_for": [each.value for each in waiting.waits_for],
        "amount_minor": waiting.amount_minor,
        "currency": waiting.currency,
        "gateway": waiting.gateway,
        "gateway_reference": waiting.gateway_reference,
        "since": shown_time(waiting.since_ms),
    }


def _draw(found: "Sequence[PaymentWaiting]") -> None:
    from rich.table import Table
    from rich.text import Text

    names = ("since (UTC)", "waits for", "what", "amount", "gateway", "origin", "payment", "operation")
    table = Table(*names, box=None, padding=(0, 1))
    for each in found:
        table.add_row(
            shown_time(each.since_ms),
            ", ".join(each.waits_for),
            each.kind.value,
            f"{each.amount_minor} {each.currency}",
            Text(printable(f"{each.gateway or '-'} {each.gateway_reference or ''}")),
            Text(each.origin_id),
            Text(each.payment_id),
            Text(each.op_id),
        )
    console().print(table)


def decide(
    payment: PaymentArgument,
    *,
    operation: Annotated[str, typer.Option(help="The operation's id, as `payments list` and `payments show` say it.")],
    outcome: Annotated[Verdicts, typer.Option(help="What you decide.")],
    why: Annotated[str, typer.Option(help="Why, in one line: it is published, and never holds card data.")],
    amount: Annotated[
        int | None, typer.Option(help="Minor units, of succeeded and taken_back. Left out: all of it.", min=1)
    ] = None,
    origin: Annotated[str | None, typer.Option(help="Origin (merchant). Left out: looked up on the log.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Of an earlier try that got no answer: the decision then holds once.")
    ] = None,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    name: NameOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Decide what no gateway can: that an operation succeeded, was not executed, was taken back; note; end a review."""
    with expected_failures():
        address = _address(url, key_file, name)
        body: dict[str, object] = {
            "originId": origin or _origin_of(payment),
            "paymentId": payment,
            "operation": operation,
            "outcome": outcome.value,
            "amount": amount,
            "why": why,
            "dryRun": dry_run,
        }
        key = idempotency_key or str(uuid.uuid4())
        _tell(_asked(address, "/decisions", body, key), output, again=f"--idempotency-key {key}")


def approve(
    decision: Annotated[str, typer.Argument(metavar="ID", help="Id of a proposed decision.")],
    *,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    name: NameOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Approve what another operator has proposed: then it holds."""
    from urllib.parse import quote

    with expected_failures():
        answer = _asked(_address(url, key_file, name), f"/proposals/{quote(decision, safe='')}/approval", None, None)
        _tell(answer, output, again="the same command")


def proposals(
    *,
    url: UrlOption = None,
    key_file: KeyFileOption = None,
    name: NameOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the decisions that wait for another operator."""
    with expected_failures():
        from streams.operator_tools.desk_client import ask_desk

        found: Any = ask_desk(_address(url, key_file, name), "GET", "/proposals").body["proposals"]
        if output is Output.JSON:
            print_json(found)
            return
        for each in found:
            say(printable(f"{each['id']}  {_sentence(each)}; void from {each['expiresAt']} on"))
        if not found:
            note("nothing waits for another operator")


def _asked(address: "DeskAddress", path: str, body: dict[str, object] | None, key: str | None) -> "DeskAnswer":
    from streams.operator_tools.desk_client import ask_desk
    from streams.operator_tools.errors import UnreachableError

    try:
        return ask_desk(address, "POST", path, body, idempotency_key=key)
    except UnreachableError as error:
        again = f"; ask again with --idempotency-key {key}: it holds once" if key is not None else ""
        raise UnreachableError(f"{error}{again}") from error


def _address(url: str | None, key_file: Path | None, name: str | None) -> "DeskAddress":
    from schemas import identifiers
    from schemas.misconfigured import MisconfiguredError
    from streams.addresses import web_address
    from streams.operator_tools.desk_client import DeskAddress
    from streams.settings import load

    known = load().operators
    key = None if known.key is None else known.key.get_secret_value()
    if key_file is not None:
        try:
            key = key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise MisconfiguredError(f"--key-file: {key_file} cannot be read ({type(error).__name__})") from error
    if key is not None and not (key.isascii() and key.isprintable()):
        raise MisconfiguredError("PAYMENT_ENGINE_OPERATORS_KEY: is no key: it has other characters than a key has")
    try:
        place = known.url if url is None else web_address(url)
    except ValueError as error:
        raise typer.BadParameter(f"--url: {error}") from None
    who = operator_name(name)
    try:
        identifiers.operator_name(who)
    except identifiers.InvalidIdentifierError as error:
        raise typer.BadParameter(f"--as: {error}") from None
    return DeskAddress(url=place, key=key, name=who)


def _origin_of(payment: str) -> str:
    """Return whose payment this is: of what waits, else of any that the log still tells of."""
    from schemas.identifiers import PaymentId
    from streams.cli.tools import opened
    from streams.operator_tools import timelines, waiting

    subject = timelines.subject_of(payment, origin=None)
    with opened() as tools:
        waits = waiting.list_waiting(tools.log, tools.codec)
        known = waiting.origin_of_waiting(waits, PaymentId(payment))
        return known or timelines.origin_of_subject(tools.log, tools.codec, subject)


def _tell(answer: "DeskAnswer", output: Output, *, again: str) -> None:
    if output is Output.JSON:
        print_json(answer.body)
    else:
        _say(answer.body)
    if answer.body["state"] == "accepted":
        fail(
            f"the decision stands on the log, and its order has not answered yet: `payments show` tells, or {again}",
            ExitCode.UNREACHABLE,
        )


def _say(body: Any) -> None:
    decision = body["decision"]
    words = {
        "decided": "holds",
        "tried": "would hold; nothing was changed",
        "proposed": f"waits for another operator until {decision['expiresAt']}: `payments approve {decision['id']}`",
        "accepted": "is taken",
    }
    say(printable(_sentence(decision)))
    for title, standing in (("before", body["before"]), ("after", body["after"])):
        if standing is not None:
            say(f"  {title:6} {printable(_standing(standing))}")
    say(f"{decision['id']} {words[body['state']]}")


def _sentence(decision: Any) -> str:
    amount = "" if decision["amount"] is None else f" with {decision['amount']}"
    second = "" if decision["approvedBy"] is None else f", approved by {decision['approvedBy']}"
    return (
        f"{decision['operation']} of {decision['paymentId']}: {decision['outcome']}{amount}, by "
        f"{decision['decidedBy']}{second}: {decision['why']}"
    )


def _standing(standing: Any) -> str:
    operation, payment = standing["operation"], standing["payment"]
    words = (
        [] if operation is None else [f"operation {operation['state']} {operation['amount']} {operation['currency']}"]
    )
    if payment is not None:
        sums = " ".join(f"{name}={payment[f'{name}Amount']}" for name in ("authorized", "captured", "refunded"))
        overlays = "".join(f" +{each}" for each in payment["overlays"])
        words.append(f"payment {payment['status']}{overlays} {sums}")
    return "; ".join(words) or "unknown"
