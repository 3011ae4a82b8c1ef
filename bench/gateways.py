"""`python -m bench.gateways`: what a payment costs the executor by Stripe's adapter, against the Mock's.

One engine on the embedded broker, one process a component, its executor with both gateways. Two origins take turns, one
routed to the Mock's server and one to a stub that answers as Stripe does, at once. So what the machine does besides
falls on both alike, and the medians are compared. CPU of the executor alone is counted.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from bench.load import closed_loop, payments
from bench.processes import cpu_ms_each, usage_of
from schemas.identifiers import GatewayName, GatewayRoute, OriginId
from schemas.messages import MessageCodec
from schemas.records.policies import OriginPolicy
from schemas.schema_ids import SchemaIds
from streams.development.local_engine import LocalEngine
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.policy_writer import set_policy

CLIENTS: Final = 16
WARM_UP_S: Final = 10.0
CREATED: Final = 201
LIMIT: Final = 1.5
"""How much more the executor may spend on a payment at Stripe."""

EXECUTOR: Final = "executor-0"
ORIGINS: Final = {"mock": "bench", "stripe": "bench-stripe"}


async def answered(request: web.Request) -> web.Response:
    """Answer a sale as Stripe does, in its size."""
    given = parse_qs((await request.read()).decode())
    amount, now_s = int(given["amount"][0]), int(time.time())
    empty = dict.fromkeys(("address_line1_check", "address_postal_code_check", "cvc_check"))
    charge = {
        "id": "ch_3MtwBwLkdIwHu7ix28a3tqPa", "object": "charge", "amount": amount, "captured": True, "created": now_s,
        "billing_details": {"address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))},
        "outcome": {"network_status": "approved_by_network", "risk_level": "normal", "type": "authorized"},
        "payment_method_details": {"card": {"brand": "visa", "checks": empty, "last4": "4242"}, "type": "card"},
        "status": "succeeded", "metadata": {},
    }  # fmt: skip
    return web.json_response(
        {
            "id": "pi_3MtwBwLkdIwHu7ix28a3tqPa", "object": "payment_intent", "amount": amount, "amount_capturable": 0,
            "amount_received": amount, "canceled_at": None, "cancellation_reason": None,
            "capture_method": "automatic_async", "client_secret": "pi_3MtwBwLkdIwHu7ix28a3tqPa_secret",
            "confirmation_method": "automatic", "created": now_s, "currency": given["currency"][0],
            "customer": None, "description": None, "last_payment_error": None, "latest_charge": charge,
            "livemode": False, "metadata": {"op_id": given["metadata[op_id]"][0]}, "next_action": None,
            "payment_method": "pm_card_visa", "payment_method_options": {"card": {"network": None}},
            "payment_method_types": ["card"], "processing": None, "receipt_email": None, "review": None,
            "setup_future_usage": None, "shipping": None, "statement_descriptor": None, "status": "succeeded",
        }
    )  # fmt: skip


async def measured(*, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return the executor's CPU milliseconds a payment, by gateway, of each round."""
    stub = web.Application()
    stub.router.add_post("/v1/payment_intents", answered)
    runner = web.AppRunner(stub, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    environment = {
        "PAYMENT_ENGINE_HTTP_REQUESTS_PER_SECOND": "100000",
        "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
        "PAYMENT_ENGINE_GATEWAY_STRIPE_API_KEY": "sk_test_bench",
        "PAYMENT_ENGINE_GATEWAY_STRIPE_URL": f"http://127.0.0.1:{site.port}",
        "PAYMENT_ENGINE_GATEWAY_STRIPE_WEBHOOK_SECRET": "whsec_bench",
    }
    try:
        with tempfile.TemporaryDirectory(prefix="payment-engine-bench-") as folder:
            async with LocalEngine(folder=Path(folder), environment=environment) as engine:
                await _routed(engine)
                return await _taken_in_turns(engine, seconds=seconds, rounds=rounds)
    finally:
        await runner.cleanup()


async def _routed(engine: LocalEngine) -> None:
    connection = KafkaConnection(bootstrap_servers=engine.bootstrap_servers)
    codec = MessageCodec(SchemaIds.packaged())
    for gateway, origin in ORIGINS.items():
        wish = OriginPolicy(
            origin_id=OriginId(origin),
            version=1,
            gateways=(GatewayRoute(GatewayName(gateway)),),
            fallback=False,
            max_attempts=1,
            limits=(),
            updated_at_ms=0,
        )
        await set_policy(connection, codec, wish, now_ms=time.time_ns() // 1_000_000)


async def _taken_in_turns(engine: LocalEngine, *, seconds: float, rounds: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {gateway: [] for gateway in ORIGINS}
    executor = {EXECUTOR: engine.components[EXECUTOR].pid}
    for number in range(rounds + 1):
        for gateway, origin in ORIGINS.items():
            length_s = seconds if number else WARM_UP_S
            before = usage_of(executor)
            requests = payments(f"{gateway}-{number}", "sync", origin=origin)
            done = await closed_loop(engine.http_port, requests, clients=CLIENTS, seconds=length_s)
            each = cpu_ms_each(before, usage_of(executor), count=done.statuses[CREATED])[EXECUTOR]
            if set(done.statuses) != {CREATED}:
                raise RuntimeError(f"not every payment at {gateway} succeeded: {dict(done.statuses)}")
            if number:
                spent[gateway].append(each)
                print(f"{gateway:7} {done.per_second(CREATED):6.0f} payments/s, executor {each:.2f} ms CPU a payment")
    return spent


def main() -> int:
    """Print the figures; 1 when Stripe's adapter costs more than it may."""
    parser = argparse.ArgumentParser(prog="bench.gateways", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each gateway (default: %(default)s)")
    chosen = parser.parse_args()
    spent = asyncio.run(measured(seconds=chosen.seconds, rounds=chosen.rounds))
    medians = {gateway: statistics.median(each) for gateway, each in spent.items()}
    ratio = medians["stripe"] / medians["mock"]
    print(
        f"medians: {', '.join(f'{name} {each:.2f} ms' for name, each in medians.items())}; {ratio:.2f} times the Mock's"
    )
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
