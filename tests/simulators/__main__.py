"""A simulator of a gateway as a process: `python -m tests.simulators stripe --port 0 --ledger stripe.sqlite`.

Started by the fault run with four gateways (`tests/faults/peers.py`). It says `READY <name> <port>` once it listens on
loopback, and ends at SIGTERM; kill -9 takes nothing from it that it has answered.
"""

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path

from tests.simulators.adyen_process import AdyenProcess
from tests.simulators.book import Book
from tests.simulators.paypal_process import PayPalProcess, read_certificate
from tests.simulators.process import Desk
from tests.simulators.stripe import API_KEY
from tests.simulators.stripe_events import SECRET
from tests.simulators.stripe_process import StripeProcess


def main() -> None:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="simulators", description=__doc__)
    parser.add_argument("name", choices=("stripe", "adyen", "paypal"))
    parser.add_argument("--port", type=int, default=0, help="0 (default): a free one")
    parser.add_argument("--ledger", type=Path, required=True, help="SQLite file; made when absent, else continued")
    parser.add_argument("--webhook-url", default=None, help="where webhooks go (default: nowhere, they wait)")
    parser.add_argument("--api-key", default=API_KEY, help="of an account at Stripe")
    parser.add_argument("--webhook-secret", default=SECRET, help="of an account at Stripe")
    parser.add_argument("--certificate", type=Path, help="PayPal's, with its chain and its key, PEM")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(chosen: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    book = Book(chosen.ledger)
    desk = Desk(book=book)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(book.close)
        server: StripeProcess | AdyenProcess | PayPalProcess
        if chosen.name == "adyen":
            server = await stack.enter_async_context(AdyenProcess(desk, port=chosen.port))
        else:
            server = _stripe(desk, chosen) if chosen.name == "stripe" else _paypal(desk, chosen)
            await server.start()
            stack.push_async_callback(server.stop)
        print("READY", chosen.name, server.port, flush=True)  # noqa: T201 -- how a component says so
        delivering = None
        if chosen.webhook_url is not None:
            delivering = asyncio.create_task(server.postman(chosen.webhook_url).run())
        await stopping.wait()
        if delivering is not None:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)


def _stripe(desk: Desk, chosen: argparse.Namespace) -> StripeProcess:
    return StripeProcess(desk, port=chosen.port, api_key=chosen.api_key, webhook_secret=chosen.webhook_secret)


def _paypal(desk: Desk, chosen: argparse.Namespace) -> PayPalProcess:
    return PayPalProcess(desk, port=chosen.port, certificate=read_certificate(chosen.certificate))


if __name__ == "__main__":
    main()
