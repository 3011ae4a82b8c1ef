"""The operator's commands against brokers of their own, from the command line to the log and back.

A log that the tests before have filled is read to its end by each command: that took a minute. Dead letters here say
that they died on the events topic, which no component reads, and every test has an origin of its own.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from schemas import identifiers
from schemas.event_types import Transition, event_type
from schemas.records.commands import op_id_of
from schemas.records.payments import OperationView, PaymentEvent
from schemas.topics import COMMANDS, EVENTS
from schemas.vocabulary import Initiator, OperationKind, OperationState
from streams.cli.exits import ExitCode
from streams.operator_tools.errors import NotFoundError
from streams.operator_tools.kafka_log import KafkaLog, open_log
from streams.operator_tools.log import LogRecord, NewRecord
from streams.settings import KafkaSettings
from tests.support.command_line import json_of, run_command
from tests.support.embedded_process import embedded_broker_process
from tests.support.operator_log import bury, dead_letter, payment_requested, put

WAIT_S = 30.0
POLL_S = 0.05
LETTERS_WITHIN_MS = 1_000_000_000
"""How long ago records may have died: eleven days, far less than an order's life."""


@pytest.fixture(scope="module", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Iterator[Mapping[str, str]]:
    """The environment of a broker that has the engine's topics."""
    with contextlib.ExitStack() as stack:
        if request.param == "kafka":
            address = str(request.getfixturevalue("own_kafka").bootstrap_servers)
        else:
            address = stack.enter_context(embedded_broker_process())
        environment = {
            "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": address,
            "PAYMENT_ENGINE_KAFKA_PARTITIONS": "4",
        }
        applied = run_command("topics", "apply", "--yes", environment=environment)
        assert applied.exit_code == ExitCode.OK, applied.output
        yield environment


@pytest.fixture
def log(broker: Mapping[str, str]) -> Iterator[KafkaLog]:
    with open_log(KafkaSettings(bootstrap_servers=broker["PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS"])) as opened:
        yield opened


@pytest.fixture
def origin() -> str:
    return f"m-{uuid.uuid4().hex[:12]}"


def _bury(log: KafkaLog, origin: str, count: int) -> list[bytes]:
    values = [f"\x00{origin}-{number}".encode() for number in range(count)]
    key = f"{origin}-o".encode()
    # A letter is known by the position and time of what died: another test's must not look like a copy of it.
    at_ms = time.time_ns() // 1_000_000 - int(origin.removeprefix("m-"), 16) % LETTERS_WITHIN_MS
    for number, value in enumerate(values):
        letter = dead_letter(offset=number, topic=EVENTS, origin=origin, value=value, key=key, timestamp_ms=at_ms)
        bury(log, letter)
    return values


def _redriven(log: KafkaLog, origin: str) -> list[LogRecord]:
    return [record for record in log.read(EVENTS) if record.key == f"{origin}-o".encode()]


def test_topics_plan_finds_nothing_to_do_when_topics_were_applied(broker: Mapping[str, str]) -> None:
    rows = json_of(run_command("topics", "plan", "-o", "json", environment=broker))
    assert {row["action"] for row in rows} == {"none"}
    assert "0 differences" in run_command("topics", "plan", environment=broker).stdout


def test_topics_plan_fails_and_apply_refuses_when_the_partition_count_differs(broker: Mapping[str, str]) -> None:
    environment = {**broker, "PAYMENT_ENGINE_KAFKA_PARTITIONS": "3"}
    assert run_command("topics", "plan", environment=environment).exit_code == ExitCode.FAILED
    applied = run_command("topics", "apply", environment=environment, typed="y\n")
    assert applied.exit_code == ExitCode.REFUSED
    assert f"{COMMANDS} (partitions)" in applied.stderr


def test_dlq_tells_redrives_and_audits_letters_when_an_operator_works_through_them(
    broker: Mapping[str, str], log: KafkaLog, origin: str
) -> None:
    (value,) = _bury(log, origin, 1)
    chosen = ["--origin", origin]
    (listed,) = json_of(run_command("dlq", "list", *chosen, "-o", "json", environment=broker))
    assert (listed["state"], listed["topic"], listed["original"]) == ("open", EVENTS, "1:0")
    assert listed["position"] in run_command("dlq", "list", *chosen, environment=broker).stdout

    dry = json_of(run_command("dlq", "redrive", *chosen, "--dry-run", "-o", "json", environment=broker))
    assert (dry["chosen"], dry["done"]) == ([listed["position"]], [])
    assert _redriven(log, origin) == []

    done = run_command(
        "dlq", "redrive", *chosen, "--note", "fixed", "--operator", "ann", environment=broker, typed="y\n"
    )
    assert "1 redriven" in done.stdout
    (record,) = _redriven(log, origin)
    assert record.value == value
    assert dict(record.headers)["ce_originid"] == origin.encode()

    again = json_of(run_command("dlq", "redrive", *chosen, "--yes", "-o", "json", environment=broker))
    assert again["left"] == [{"position": listed["position"], "why": "already_handled"}]
    assert len(_redriven(log, origin)) == 1

    shown = json_of(run_command("dlq", "show", listed["position"], "--raw", "-o", "json", environment=broker))
    assert shown["handled"][0]["operator"] == "ann"
    assert shown["value_text"] == value.decode()
    assert "value_base64" not in run_command("dlq", "show", listed["position"], environment=broker).stdout


def test_dlq_discard_marks_letters_when_a_note_says_why(broker: Mapping[str, str], log: KafkaLog, origin: str) -> None:
    _bury(log, origin, 3)
    report = json_of(
        run_command("dlq", "discard", "--origin", origin, "--note", "spam", "--yes", "-o", "json", environment=broker)
    )
    assert len(report["done"]) == 3
    assert json_of(run_command("dlq", "list", "--origin", origin, "-o", "json", environment=broker)) == []
    discarded = run_command("dlq", "list", "--origin", origin, "--state", "discarded", "-o", "json", environment=broker)
    assert len(json_of(discarded)) == 3


def test_dlq_redrive_does_nothing_when_the_operator_says_no(
    broker: Mapping[str, str], log: KafkaLog, origin: str
) -> None:
    _bury(log, origin, 1)
    refused = run_command("dlq", "redrive", "--origin", origin, environment=broker, typed="n\n")
    assert refused.exit_code == ExitCode.FAILED
    assert _redriven(log, origin) == []


def test_dlq_show_says_not_found_when_nothing_stands_there(broker: Mapping[str, str]) -> None:
    assert run_command("dlq", "show", "0:999999", environment=broker).exit_code == ExitCode.NOT_FOUND


def test_dlq_redrive_loses_nothing_when_it_is_killed_half_way(
    broker: Mapping[str, str], log: KafkaLog, origin: str
) -> None:
    values = _bury(log, origin, 300)  # half a minute of work: however slow this machine is, it is killed half-way
    command = ["dlq", "redrive", "--origin", origin, "--yes", "--rate", "10"]
    with _running(command, broker) as redrive:
        _wait_until(lambda: len(_redriven(log, origin)) >= 10)
        redrive.send_signal(signal.SIGKILL)
        redrive.wait(WAIT_S)
    assert len(_redriven(log, origin)) < len(values)
    rest = run_command("dlq", "redrive", "--origin", origin, "--yes", "--rate", "1000", environment=broker)
    assert rest.exit_code == ExitCode.OK
    redriven = [record.value for record in _redriven(log, origin)]
    assert set(redriven) == set(values)
    assert len(redriven) <= len(values) + 10  # at most the batch that was under way
    assert json_of(run_command("dlq", "list", "--origin", origin, "-o", "json", environment=broker)) == []


@contextlib.contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT_S)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, "not within the time"
        time.sleep(POLL_S)


def test_payments_show_tells_the_life_when_asked_by_any_of_its_ids(
    broker: Mapping[str, str], log: KafkaLog, origin: str
) -> None:
    sale = payment_requested(f"order-{origin}", origin=origin)
    op = op_id_of(sale)
    payment_id = identifiers.payment_id(sale.order_id, op)
    view = OperationView(
        op_id=op,
        kind=OperationKind.SALE,
        initiator=Initiator.MERCHANT,
        state=OperationState.DECLINED,
        idempotency_key=sale.idempotency_key,
        amount_minor=1999,
        counted_minor=0,
        currency="USD",
        refund_id=None,
        gateway=identifiers.GatewayName("mock"),
        gateway_reference=None,
        attempts=1,
        error=None,
        rejection=None,
        action_url=None,
        requested_at_ms=1,
        updated_at_ms=1,
    )
    event = PaymentEvent(
        origin_id=sale.origin_id,
        order_id=sale.order_id,
        payment_id=payment_id,
        command_id="c-1",
        sequence=1,
        operation=view,
        payment=None,
        occurred_at_ms=1,
    )
    name = event_type(OperationKind.SALE, Transition.DECLINED)
    put(log, EVENTS, event, key=sale.order_id.encode(), event_type=name)
    life = json_of(run_command("payments", "show", payment_id, "-o", "json", environment=broker))
    assert [(entry["type"], entry["facts"]["state"]) for entry in life["entries"]] == [(name, "declined")]
    by_order = run_command("payments", "show", sale.order_id, "--origin", origin, environment=broker)
    assert "sale.declined" in by_order.stdout
    unknown = run_command("payments", "show", "order-nobody-has", "--origin", origin, environment=broker)
    assert unknown.exit_code == ExitCode.NOT_FOUND


def test_policy_versions_rise_when_a_policy_is_set_again(broker: Mapping[str, str], origin: str) -> None:
    for version, limit in ((1, "USD=1000"), (2, "USD=2000")):
        words = ["policy", "set", origin, "--gateways", "mock", "--no-fallback", "--limit", limit, "-o", "json"]
        written = json_of(run_command(*words, environment=broker))
        assert (written["version"], written["fallback"]) == (version, False)
    (shown,) = json_of(run_command("policy", "show", origin, "-o", "json", environment=broker))
    assert shown["limits"] == {"USD": 2000}
    assert "USD 2000" in run_command("policy", "show", origin, environment=broker).stdout
    missing = run_command("policy", "show", f"{origin}-other", environment=broker)
    assert missing.exit_code == ExitCode.NOT_FOUND


def test_policy_is_shown_no_more_when_it_is_deleted(broker: Mapping[str, str], origin: str) -> None:
    assert run_command("policy", "set", origin, "--gateways", "mock", environment=broker).exit_code == ExitCode.OK
    deleted = run_command("policy", "delete", origin, "--yes", environment=broker)
    assert (deleted.exit_code, "is deleted; " in deleted.stdout) == (ExitCode.OK, True)
    shown = run_command("policy", "show", origin, environment=broker)
    assert (shown.exit_code, "has no policy of its own" in shown.stderr) == (ExitCode.NOT_FOUND, True)
    assert run_command("policy", "delete", origin, "--yes", environment=broker).exit_code == ExitCode.NOT_FOUND


def test_doctor_finds_broker_and_topics_well_when_they_were_applied(broker: Mapping[str, str]) -> None:
    result = run_command("doctor", "--probe", "-o", "json", environment=broker)
    findings = json.loads(result.stdout)
    well = {finding["subject"] for finding in findings if finding["severity"] == "ok"}
    assert well >= {"broker", "topics", "partitioner", "registry", "clock"}
    assert [each for each in findings if each["severity"] == "failure" and each["subject"] != "partitioner"] == []
    assert {finding["subject"] for finding in findings} >= {"workers"}


def test_doctor_fails_and_says_how_to_mend_it_when_the_topics_differ(broker: Mapping[str, str]) -> None:
    result = run_command("doctor", environment={**broker, "PAYMENT_ENGINE_KAFKA_PARTITIONS": "3"})
    assert result.exit_code == ExitCode.FAILED
    assert "FAILURE  topics" in result.stdout
    assert "fix: " in result.stdout


def test_log_reads_from_where_it_is_told_when_it_is_told(log: KafkaLog, origin: str) -> None:
    key = origin.encode()
    for number in range(5):
        (first, *_) = log.append([NewRecord(topic=EVENTS, key=key, value=b"%d" % number, headers=(("n", b"v"),))])
    records = [record for record in log.read(EVENTS, partition=first.partition) if record.key == key]
    assert [record.value for record in records] == [b"0", b"1", b"2", b"3", b"4"]
    assert records[0].headers == (("n", b"v"),)
    at = records[2].offset
    later = [r.value for r in log.read(EVENTS, partition=first.partition, first_offset=at, max_records=2)]
    assert later == [b"2", b"3"]
    assert [record.value for record in log.read(EVENTS, tail=1) if record.partition == first.partition] == [b"4"]
    since = log.read(EVENTS, partition=first.partition, since_ms=records[3].timestamp_ms)
    assert b"3" in {record.value for record in since}
    assert list(log.read(EVENTS, since_ms=time.time_ns() // 1_000_000 + 3_600_000)) == []


def test_log_says_not_found_when_a_topic_does_not_exist(log: KafkaLog) -> None:
    with pytest.raises(NotFoundError, match="topics apply"):
        list(log.read("nobody.made.this"))


@pytest.mark.parametrize("component", ["orders", "claims", "executor"])
def test_worker_refuses_to_start_and_says_what_to_do_when_there_are_no_topics(component: str) -> None:
    with embedded_broker_process() as address:
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", component],
            env={
                **os.environ,
                "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": address,
                "PAYMENT_ENGINE_GATEWAY_MOCK_URL": "http://127.0.0.1:8090",
            },
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode in {ExitCode.MISCONFIGURED, ExitCode.UNREACHABLE}
    told = done.stderr.splitlines()[-1]
    assert told.startswith("error: ")
    assert "`payment-engine " in told


def test_upgrade_is_told_and_has_no_end_when_there_is_no_release_before(broker: Mapping[str, str]) -> None:
    told = {"release": 1, "written": 1, "finished": None, "finishedAt": None}
    for words in (("status",), ("finish", "--yes")):
        assert json_of(run_command("upgrade", *words, "-o", "json", environment=broker)) == told
    said = run_command("upgrade", "finish", "--yes", environment=broker)
    assert said.exit_code == ExitCode.OK
    assert "there is no upgrade to finish" in said.output
