"""Every name of the catalogue moves: in one run of the engine's own processes, or in a test that is named beside it.

The run is a day's worth of trouble in some seconds: a payment, a retry, a command that nobody can read, a policy that
nobody can follow, requests that come twice, and a broker that stands still.
"""

import ast
import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from schemas import topics
from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.gateway import GatewayCallRequested
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import CallKind
from streams.development.local_engine import LOOPBACK, LocalEngine
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.policy_writer import set_policy
from streams.kafka_clients.producer import LogWriter
from streams.telemetry.metrics import CATALOGUE, MetricName
from tests.support.gateway_calls import WISH
from tests.support.gateway_requests import fresh_order, payment_request
from tests.support.metric_pages import sample_name, samples_of, value_in
from tests.support.waiting import until_async

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CODEC = MessageCodec(SchemaIds.packaged())
WAIT_S = 30.0
GATEWAY_LATENCY_MS = 300
ORIGIN = "merchant-of-this-run"
ORDER = "order-of-this-run"
PAYMENT = {
    "originId": ORIGIN,
    "amount": 1999,
    "currency": "USD",
    "token": "tok_visa",
    "orderId": ORDER,
    "capture": True,
}
ENVIRONMENT = {
    "PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S": "20",  # longer than the broker stands still
    "PAYMENT_ENGINE_EXECUTOR_SESSION_TIMEOUT_S": "20",
    "PAYMENT_ENGINE_GATEWAY_READ_TIMEOUT_S": "3",
    "PAYMENT_ENGINE_TELEMETRY_LOG_LEVEL": "WARNING",
}

EMITTED_BY: Mapping[MetricName, str] = {
    "replies_lost": "unit/test_best_effort.py::"
    "test_replies_to_a_partition_that_takes_none_are_dropped_and_others_go_on",
    "executor_alarms": "unit/test_executor_gateway_calls.py::"
    "test_credentials_that_are_refused_are_counted_and_logged_for_someone_to_see_to",
    "declines_unknown": "unit/test_executor_gateway_calls.py::"
    "test_decline_by_a_code_that_nobody_knows_is_counted_by_gateway",
    "executor_calls_turned_away": "unit/test_executor_gateway_slots.py::"
    "test_first_call_of_a_payment_that_finds_no_slot_in_time_was_not_executed_and_may_go_elsewhere",
    "executor_breaker_opened": "unit/test_executor_gateway_slots.py::"
    "test_sick_gateway_is_not_asked_and_first_calls_go_elsewhere_at_once",
    "executor_breaker_open": "unit/test_executor_gateway_slots.py::"
    "test_sick_gateway_is_not_asked_and_first_calls_go_elsewhere_at_once",
    "worker_records_abandoned": "unit/test_executor_worker_life.py::"
    "test_worker_ends_in_time_and_commits_nothing_when_a_call_does_not_end",
    "executor_calls_beyond_memory": "unit/test_executor_worker_memory.py::"
    "test_worker_only_inquires_and_takes_not_found_as_doubt_when_the_request_is_older_than_its_memory",
    "executor_calls_past_key_window": "unit/test_executor_gateway_calls.py::"
    "test_call_is_an_inquiry_and_never_sent_when_the_key_window_is_over",
    "executor_calls_without_command": "unit/test_executor_commands.py::test_call_is_not_made_when_its_command_is_gone",
    "worker_commits_failed": "unit/test_executor_worker_life.py::test_worker_goes_on_when_a_rebalance_refuses_a_commit",
    "worker_records_let_go": "unit/test_executor_worker_life.py::"
    "test_worker_leaves_its_requests_to_the_next_owner_when_it_was_frozen_and_its_partition_is_gone",
    "worker_appends_retried": "unit/test_executor_worker.py::"
    "test_worker_tries_again_when_a_result_cannot_be_appended_at_once",
    "executor_unexpected_errors": "unit/test_executor_gateway_calls.py::"
    "test_call_is_unknown_and_says_no_more_than_the_class_when_the_adapter_raises",
    "webhooks_ignored": "contract/test_http_callers.py::test_webhook_is_kept_once_and_counted_when_it_is_about_nobody",
    "rows_due": "unit/test_sweep.py::"
    "test_order_and_claim_go_when_their_lives_are_over_and_another_order_may_use_the_key",
    "references_awaited": "acceptance/test_references_index.py::awaited",
    "references_contested": "unit/test_orders_webhooks.py::"
    "test_two_orders_known_by_one_reference_are_an_alarm_and_the_first_keeps_it",
    "account_secrets_changed": "unit/test_account_secrets.py::"
    "test_secret_that_changes_is_in_force_and_no_other_account_is_touched",
    "account_secrets_refused": "unit/test_account_secrets.py::"
    "test_last_good_secrets_hold_and_it_is_said_when_a_file_cannot_be_used",
    "routes_shadowed": "unit/test_orders_routing.py::"
    "test_dry_run_routes_by_the_gateways_and_tells_where_the_rules_would_have_sent_the_payment",
    "key_file_faulty": "contract/test_http_on_kafka.py::"
    "test_instance_stays_ready_and_says_so_when_its_key_file_is_spoilt",
    "log_producer_renewed": "unit/test_kafka_clients_producer.py::"
    "test_append_goes_on_with_a_fresh_producer_when_the_old_one_lost_its_sequence",
    "worker_destination_busy": "unit/test_log_worker_events.py::"
    "test_worker_counts_each_record_and_logs_once_when_its_destination_is_busy",
    "worker_polls_failed": "unit/test_log_worker_events.py::test_worker_counts_a_poll_that_failed",
    "worker_records_retried": "unit/test_log_worker_events.py::"
    "test_worker_counts_and_logs_each_record_that_it_will_try_again",
    "open_transaction_wait_ms": "unit/test_kafka_clients_open_transactions.py::"
    "test_partition_is_named_once_when_it_waits_for_long_and_again_when_that_ends",
    "retention_used": "integration/test_lost_records.py::"
    "test_watch_shows_what_share_of_the_retention_the_oldest_unread_record_has_waited",
    "row_regressions": "unit/test_shell_rows.py::test_table_names_regressed_rows_once_when_they_must_be_written_again",
}
"""What no healthy deployment shows, and the test under `tests/` that makes it move and says by how much."""


class Run:
    """An engine under way, and what its processes have counted."""

    def __init__(self, engine: LocalEngine, http: aiohttp.ClientSession, log: LogWriter) -> None:
        self.engine = engine
        self.http = http
        self.log = log
        self.moved: set[MetricName] = set()
        """What was seen above 0, in any process, at any time."""

    async def look(self) -> list[str]:
        """Return the page of each process that has one."""
        found = []
        for component in self.engine.components.values():
            if component.health_port:
                async with self.http.get(f"http://{LOOPBACK}:{component.health_port}/metrics") as page:
                    found.append(await page.text())
        for shown in map(samples_of, found):
            self.moved |= {name for name in CATALOGUE if any(value for _, value in shown.get(sample_name(name), ()))}
        return found

    async def value(self, name: MetricName, **labels: str) -> float:
        """Return the sum over all processes and series that have these labels."""
        return sum(value_in(page, name, **labels) for page in await self.look())

    async def moves(self, name: MetricName, *, times: int = 1, **labels: str) -> None:
        """Return once the metric has come so far. Raises: TimeoutError, naming it."""

        async def has_moved() -> bool:
            return await self.value(name, **labels) >= times

        try:
            await until_async(has_moved, timeout_s=WAIT_S, look_again_s=0.2)
        except TimeoutError as error:
            error.add_note(f"{name} {labels} did not move")
            raise

    async def pay(self, order: str, token: str = "tok_visa", *, mode: str = "sync") -> int:
        """Return the status of a payment's answer."""
        async with self.http.post(
            f"{self.engine.url}/payments?mode={mode}",
            json=PAYMENT | {"orderId": order, "token": token},
            headers={"Idempotency-Key": order, "X-Origin-Id": ORIGIN},
        ) as answer:
            return answer.status

    async def request(self, *requests: GatewayCallRequested) -> None:
        """Append gateway calls as the orders agent would, one right behind the other."""
        for number, each in enumerate(requests):
            event_id, event_type = f"{each.op_id}-{number}", TYPES[GatewayCallRequested]
            envelope = Envelope(id=event_id, source="test", type=event_type, time_ms=each.requested_at_ms)
            message = CODEC.encode(each, envelope)
            await self.log.append(
                topics.GATEWAY_REQUESTS, key=each.order_id.encode(), value=message.value, headers=message.headers
            )


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Run]:
    mock = ("--latency", f"fixed:{GATEWAY_LATENCY_MS}")
    async with (
        LocalEngine(folder=folder, environment=ENVIRONMENT, mock_arguments=mock) as engine,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S)) as http,
    ):
        log = LogWriter(KafkaConnection(bootstrap_servers=engine.bootstrap_servers))
        await log.start()
        try:
            yield Run(engine, http, log)
        finally:
            await log.stop()


async def go_wrong(run: Run) -> None:
    """What goes wrong on the log: everything that a run can be made to meet, but a broker that stands still."""
    await run.log.append(topics.COMMANDS, key=b"k", value=b"nobody can read this")
    await run.log.append(topics.POLICIES, key=b"o", value=b"nor follow this")
    connection = KafkaConnection(bootstrap_servers=run.engine.bootstrap_servers)
    await set_policy(connection, CODEC, WISH, now_ms=WISH.updated_at_ms)
    await run.moves("policies_known")
    now_ms = time.time_ns() // 1_000_000
    new = replace(payment_request(fresh_order()), first_requested_at_ms=now_ms, requested_at_ms=now_ms)
    await run.request(new, new)  # the second one comes while the first is under way
    await run.moves("executor_calls_joined", kind=CallKind.AUTHORIZE)

    async def is_answered_again() -> bool:
        await run.request(new)  # as often as it takes: while the call is under way, it is joined
        return await run.value("executor_answers_repeated", kind=CallKind.AUTHORIZE) > 0

    await until_async(is_answered_again, timeout_s=WAIT_S, look_again_s=0.5)
    await run.moves("dead_letters", component="orders")
    await run.moves("policies_invalid")


async def stand_still(run: Run) -> None:
    """The broker is frozen for as long as a request takes to be told so."""
    broker = run.engine.components["broker"]
    broker.send(signal.SIGSTOP)
    try:
        refused = asyncio.create_task(run.pay(f"{ORDER}-still"))
        await run.moves("replies_waiting")
        await run.moves("log_appends_in_flight")
        assert await refused == 503
    finally:
        broker.send(signal.SIGCONT)
    await run.moves("log_circuit_opened")


async def test_every_metric_of_the_catalogue_is_emitted(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        assert await run.pay(f"{ORDER}-1") == 201
        assert await run.pay(f"{ORDER}-2", "tok_mock_rate_limited_x2", mode="async") == 202
        await run.moves("table_rows", table="timers")
        await run.moves("timers_fired", kind="retry")
        in_doubt = asyncio.create_task(run.pay(f"{ORDER}-3", "tok_mock_timeout_after"))
        await run.moves("executor_slots_taken")  # once the gateway, which had asked for fewer calls, is asked again
        await run.moves("worker_records_in_flight")
        await run.moves("replies_waiting")
        assert await run.pay(f"{ORDER}-4", "not a token") == 400
        assert await in_doubt in {201, 202}
        await go_wrong(run)
        await stand_still(run)
        for page in await run.look():
            assert [word for word in (ORIGIN, ORDER, "tok_", "pay_", "op_") if word in page] == []
    assert set(CATALOGUE) - run.moved == set(EMITTED_BY), "a name that nothing emits, or that this run does emit"


READERS = {"rise_of": 0, "value_of": 0, "value_in": 1}
"""What tests read a metric by, and which of its arguments is the name."""


@pytest.mark.parametrize("name", EMITTED_BY)
def test_metric_that_the_run_does_not_emit_has_a_test_of_its_own(name: MetricName) -> None:
    path, _, wanted = EMITTED_BY[name].partition("::")
    functions = (
        node
        for node in ast.walk(ast.parse((ROOT / "tests" / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == wanted
    )
    (named,) = functions
    read = {
        ast.unparse(node.args[READERS[ast.unparse(node.func)]]).strip("'\"")
        for node in ast.walk(named)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in READERS
    }
    assert name in read
