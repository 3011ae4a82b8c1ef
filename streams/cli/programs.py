"""The programs of the engine: `dev`, `ingress`, `orders`, `claims`, `executor`, gateways' own servers, `broker`.

Called by `application`. Workers are composed by `streams.bootstrap`. The ingress, a gateway's server and the embedded
broker are programs of their own: this process becomes them (exec), so that signals and exit codes are theirs; and the
ingress must be, since `streams` never imports `http_ingress`.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

import gateway_adapters
from streams.cli.terminal import ExitCode, expected_failures, fail, note

if TYPE_CHECKING:
    from streams.settings import Settings

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _gateway_servers() -> dict[str, tuple[str, str]]:
    # By the files, not by the registry: to import that takes longer than all of `--help` may.
    folders = sorted(main.parent.name for main in Path(gateway_adapters.__file__).parent.glob("*/__main__.py"))
    return {
        f"{name}-gateway": (
            f"gateway_adapters.{name}",
            f"The {name.capitalize()} gateway, a server with a ledger of its own.",
        )
        for name in folders
    }


OWN_PROGRAMS = {
    "ingress": ("http_ingress", "The HTTP ingress."),
    **_gateway_servers(),
    "broker": (
        "streams.development.embedded_broker",
        "The embedded broker: in memory, on loopback, for development.",
    ),
}
AcceptLossOption = Annotated[
    bool,
    typer.Option(
        "--accept-loss",
        help="Start although records were deleted before this group had read them, and go on from what is left. "
        "For once, after a person has looked.",
    ),
]
_WORKERS = {
    "orders": "A worker of the orders app: decides what orders do.",
    "claims": "A worker of the claims app: keeps idempotency keys unique.",
    "executor": "A gateway executor: the one component that calls gateways.",
}


def register(app: typer.Typer) -> None:
    """Add the programs to the command line."""
    app.command(name="dev", help="The whole engine on this machine, nothing else needed. Ctrl-C stops it.")(dev)
    for name, (module, text) in OWN_PROGRAMS.items():
        app.command(name=name, help=text, context_settings=PASS_ON, add_help_option=False)(_own_program(module))
    for name, text in _WORKERS.items():
        app.command(name=name, help=text)(_worker(name))


def dev(
    port: Annotated[int, typer.Option(help="Port of the ingress.", min=0, max=65535)] = 8080,
    folder: Annotated[
        Path | None, typer.Option(help="Where logs, tables and the gateway's ledger go. Default: a temporary folder.")
    ] = None,
) -> None:
    """Run everything on the embedded broker, with a gateway that moves no money."""
    with expected_failures():
        from streams.development.dev_engine import run_dev
        from streams.development.local_engine import ComponentFailedError

        try:
            run_dev(port=port, folder=folder)
        except ComponentFailedError as error:
            fail(str(error), ExitCode.FAILED)


def _worker(component: str) -> Callable[[], None]:
    def start(accept_loss: AcceptLossOption = False) -> None:
        with expected_failures():
            configured = _settings_once_a_broker_answers()
            with worker_failures():
                from streams import bootstrap  # late: what is wrong above is said without waiting for Faust's import

                bootstrap.run(component, configured, accept_loss=accept_loss)

    return start


@contextmanager
def worker_failures() -> Iterator[None]:
    """Say in one line what whoever runs a worker can mend; a defect keeps its trace, for the worker's supervisor."""
    from schemas.misconfigured import MisconfiguredError
    from streams.kafka.errors import LocalRowsLockedError, TopicsNotReadyError
    from streams.kafka_clients.errors import RetryableError

    try:
        yield
    except TopicsNotReadyError as error:
        fail(f"refusing to start: {error}; `payment-engine topics plan` tells more", ExitCode.MISCONFIGURED)
    except (MisconfiguredError, LocalRowsLockedError) as error:
        fail(f"refusing to start: {error}", ExitCode.MISCONFIGURED)
    except RetryableError as error:
        fail(f"the log does not answer as it must: {error}; `payment-engine doctor` tells more", ExitCode.UNREACHABLE)


def _own_program(module: str) -> Callable[[typer.Context], None]:
    def become(context: typer.Context) -> None:
        with expected_failures():
            if module == "http_ingress" and not _asks_for_help(context.args):
                _refuse_public_webhook_secrets()
                _settings_once_a_broker_answers()
            elif module != "streams.development.embedded_broker":
                _refuse_wrong_settings()
            become_module(module, context.args)

    return become


def _refuse_wrong_settings() -> None:
    from streams import settings

    settings.load()


def _refuse_public_webhook_secrets() -> None:
    from streams import settings

    settings.accounts_with_webhook_secrets(settings.load())


def _asks_for_help(arguments: Sequence[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(arguments)


def _settings_once_a_broker_answers() -> "Settings":
    from streams import settings
    from streams.operator_tools.reachability import wait_for_broker

    configured = settings.load()
    wait_for_broker(configured.kafka, say=note)
    return configured


def become_module(module: str, arguments: Sequence[str]) -> NoReturn:
    """Turn this process into `python -m module arguments`; the environment, and so the settings, are kept."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 -- our own module, no shell
