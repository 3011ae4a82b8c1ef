"""The programs of the engine: `dev`, the components, gateways' own servers, `broker`.

Called by `application`. Each runs in the one shell (`program`, `loop`), in this process. Components of other rooms are
found by their module's name when they are called: `streams` imports neither `http_ingress` nor a concrete gateway.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import gateway_adapters
from streams.cli import ended_by_interrupt
from streams.cli.terminal import expected_failures

if TYPE_CHECKING:
    from schemas.messages import MessageCodec
    from streams.cli.program import Program
    from streams.settings import Settings

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
COMPONENTS = {
    "ingress": ("http_ingress.program", "IngressRun", "The HTTP ingress."),
    "orders": ("streams.bootstrap", "OrdersProgram", "A worker of the orders app: decides what orders do."),
    "claims": ("streams.bootstrap", "ClaimsProgram", "A worker of the claims app: keeps idempotency keys unique."),
    "executor": (
        "streams.bootstrap",
        "ExecutorProgram",
        "A gateway executor: the one component that calls gateways.",
    ),
    "operators": (
        "http_ingress.operators.program",
        "OperatorsRun",
        "The desk: takes what a person decides about a payment.",
    ),
}
"""What speaks to the log: by name, the module and what in it composes the component (`program.Compose`)."""


def _gateway_servers() -> dict[str, tuple[str, str]]:
    # By the files, not by the registry: to import that takes longer than all of `--help` may.
    folders = sorted(program.parent.name for program in Path(gateway_adapters.__file__).parent.glob("*/program.py"))
    return {
        f"{name}-gateway": (
            f"gateway_adapters.{name}.program",
            f"The {name.capitalize()} gateway, a server with a ledger of its own.",
        )
        for name in folders
    }


SERVERS = {
    **_gateway_servers(),
    "broker": (
        "streams.development.embedded_broker.program",
        "The embedded broker: in memory, on loopback, for development.",
    ),
}
"""What needs no log: `parsed` and `serve` of the module. All its options are on its command line: it reads no settings,
whose import would take longer than all of its start."""

AcceptLossOption = Annotated[
    bool,
    typer.Option(
        "--accept-loss",
        help="Start although records were deleted before this group had read them, and go on from what is left. "
        "For once, after a person has looked.",
    ),
]


WITHOUT_GROUP = frozenset({"ingress", "operators"})
"""What is a member of no group, so that nothing can have been deleted before it was read (`topology.COMPONENTS`)."""


def register(app: typer.Typer) -> None:
    """Add the programs to the command line."""
    app.command(name="dev", help="The whole engine on this machine, nothing else needed. Ctrl-C stops it.")(dev)
    for name, (module, composer, text) in COMPONENTS.items():
        app.command(name=name, help=text)(_component(name, module, composer))
    for name, (module, text) in SERVERS.items():
        app.command(name=name, help=text, context_settings=PASS_ON, add_help_option=False)(_server(name, module))


def dev(
    port: Annotated[int, typer.Option(help="Port of the ingress.", min=0, max=65535)] = 8080,
    folder: Annotated[
        Path | None, typer.Option(help="Where logs, tables and the gateway's ledger go. Default: a temporary folder.")
    ] = None,
) -> None:
    """Run everything on the embedded broker, with a gateway that moves no money."""
    with expected_failures(), ended_by_interrupt():
        from streams.cli.loop import run_until_told
        from streams.development.dev_engine import serve_dev
        from streams.settings import load

        load()
        run_until_told(lambda stopping: serve_dev(stopping, port=port, folder=folder))


def _component(name: str, module: str, composer: str) -> Callable[..., None]:
    def compose(settings: "Settings", codec: "MessageCodec") -> "Program":
        made: Program = getattr(import_module(module), composer)(settings, codec)
        return made

    def start_member(accept_loss: AcceptLossOption = False) -> None:
        with expected_failures(), ended_by_interrupt():
            from streams.cli.program import run_program

            run_program(name, compose, accept_loss=accept_loss)

    def start() -> None:
        start_member()

    return start if name in WITHOUT_GROUP else start_member


def _server(name: str, module: str) -> Callable[[typer.Context], None]:
    def start(context: typer.Context) -> None:
        with expected_failures(), ended_by_interrupt():
            from streams.cli.loop import announce, run_until_told

            program = import_module(module)
            options = program.parsed(context.args)
            logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
            run_until_told(lambda stopping: program.serve(options, stopping, lambda port: announce(name, port)))

    return start
