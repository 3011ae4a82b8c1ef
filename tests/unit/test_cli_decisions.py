"""`payments list|decide|approve|proposals`: through a desk over a socket, and off a log in memory."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Never

import pytest
import structlog
from typer.testing import Result

from http_ingress.access.api_keys import KeyRing, MemoryKeyStore, create_operator_key
from schemas import identifiers
from schemas.identifiers import OperatorName
from schemas.records.decisions import DecisionMade, PaymentWaiting
from schemas.topics import WAITING
from schemas.vocabulary import DecisionRefusal, OperationKind, Verdict, WaitingFor
from streams.cli.decisions import Verdicts
from streams.cli.exits import ExitCode
from streams.operator_tools.log import Log, NewRecord
from streams.operator_tools.waiting import list_waiting
from tests.support.command_line import json_of, run_command
from tests.support.desk_under_test import OP, ORDER, ORIGIN, PAYMENT, FakeOrder, RunningDesk, running_desk
from tests.support.operator_log import CODEC, memory_log, put

PEPPER = b"a pepper of more than sixteen bytes"
WHY = "seen in the settlement report"
DECIDE = ("payments", "decide", PAYMENT, "--operation", OP, "--outcome", "succeeded", "--why", WHY, "--origin", ORIGIN)


def _dropped(*_: object) -> Never:
    raise structlog.DropEvent


@pytest.fixture(autouse=True)
def desk_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in this process, whose standard output is the command's."""
    monkeypatch.setattr("http_ingress.app._log", structlog.wrap_logger(None, processors=[_dropped]))


async def run(desk: RunningDesk, *words: str, key: str | None = None, name: str = "anna") -> Result:
    environment = {"PAYMENT_ENGINE_OPERATORS_URL": desk.url}
    if key is not None:
        environment["PAYMENT_ENGINE_OPERATORS_KEY"] = key
    named = () if key is not None else ("--as", name)
    return await asyncio.to_thread(partial(run_command, *words, *named, environment=environment))


async def test_decide_says_that_the_decision_holds_and_how_things_stand() -> None:
    async with running_desk() as desk:
        result = await run(desk, *DECIDE, "--amount", "900")
        (made,) = desk.order.made()
    assert result.exit_code == ExitCode.OK, result.output
    assert "holds" in result.stdout
    assert "payment captured" in result.stdout
    assert (made.verdict, made.amount_minor, made.why, made.decided_by) == (Verdict.SUCCEEDED, 900, WHY, "anna")


async def test_decide_prints_json_when_asked() -> None:
    async with running_desk() as desk:
        told = json_of(await run(desk, *DECIDE, "-o", "json"))
    assert (told["state"], told["decision"]["decidedBy"]) == ("decided", "anna")


async def test_decide_changes_nothing_when_it_is_a_dry_run() -> None:
    async with running_desk() as desk:
        result = await run(desk, *DECIDE, "--dry-run")
    assert result.exit_code == ExitCode.OK
    assert "before operation manual_review" in result.stdout
    assert "after  operation succeeded" in result.stdout
    assert "nothing was changed" in result.stdout
    assert desk.order.made() == []


async def test_decide_and_approve_take_two_people_when_four_eyes_are_asked_for() -> None:
    async with running_desk(four_eyes=True) as desk:
        proposed = json_of(await run(desk, *DECIDE, "-o", "json"))
        identity = proposed["decision"]["id"]
        assert identity in (await run(desk, "payments", "proposals")).stdout
        alone = await run(desk, "payments", "approve", identity)
        assert (alone.exit_code, desk.order.made()) == (ExitCode.REFUSED, [])
        done = await run(desk, "payments", "approve", identity, name="bert")
        assert done.exit_code == ExitCode.OK, done.output
        assert "approved by bert" in done.stdout
        assert "nothing waits" in (await run(desk, "payments", "proposals")).stderr
    assert len(desk.order.made()) == 1


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(DecisionRefusal.NOT_OPEN, ExitCode.REFUSED), (DecisionRefusal.OPERATION_UNKNOWN, ExitCode.NOT_FOUND)],
)
async def test_decide_ends_with_one_line_and_a_code_when_the_order_refuses(
    refusal: DecisionRefusal, code: ExitCode
) -> None:
    async with running_desk() as desk:
        desk.order.refusal = refusal
        result = await run(desk, *DECIDE)
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--why", "two\nlines"), "#/why"),
        (("--outcome", "note", "--amount", "1"), "#/amount"),
        (("--why", "card 4242 4242 4242 4242"), "Card data is not taken"),
        (("--operation", "a b"), "#/operation"),
    ],
)
async def test_decide_names_the_field_when_a_value_is_wrong(words: tuple[str, ...], told: str) -> None:
    async with running_desk() as desk:
        result = await run(desk, *DECIDE, *words)
    assert result.exit_code == ExitCode.REFUSED
    assert told in result.stderr
    assert "4242" not in result.output
    assert desk.order.made() == []


async def test_decide_uses_the_key_of_a_file_or_of_the_environment(tmp_path: Path) -> None:
    key, record = create_operator_key(OperatorName("anna"), pepper=PEPPER, now_ms=1)
    ring = KeyRing(MemoryKeyStore([record]), pepper=PEPPER)
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    async with running_desk(keys=ring) as desk:
        by_environment = await run(desk, *DECIDE, key=key)
        by_file = await run(desk, *DECIDE, "--key-file", str(file), key="pok_wrong")
        wrong = await run(desk, *DECIDE, key="pok_wrong")
        none = await run(desk, *DECIDE)
        missing = await run(desk, *DECIDE, "--key-file", str(tmp_path / "none"))
    assert [by_environment.exit_code, by_file.exit_code] == [ExitCode.OK, ExitCode.OK]
    assert [wrong.exit_code, none.exit_code, missing.exit_code] == [ExitCode.MISCONFIGURED] * 3
    assert "PAYMENT_ENGINE_OPERATORS_KEY" in wrong.stderr
    assert "pok_wrong" not in wrong.output
    assert [made.decided_by for made in desk.order.made()] == ["anna", "anna"]


def test_decide_says_that_nothing_was_sent_when_no_desk_listens() -> None:
    result = run_command(*DECIDE, "--url", "http://127.0.0.1:1")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "nothing was sent" in result.stderr
    assert "--idempotency-key" in result.stderr
    assert len(result.stderr.splitlines()) == 1


async def test_decide_says_how_to_ask_again_when_the_order_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("http_ingress.operators.endpoints.QUERY_TIMEOUT_S", 0.2)
    async with running_desk() as desk:
        desk.order.silent_about = DecisionMade
        result = await run(desk, *DECIDE, "--idempotency-key", "k1")
        assert result.exit_code == ExitCode.UNREACHABLE
        assert "--idempotency-key k1" in result.stderr
        desk.order.silent_about = None
        again = await run(desk, *DECIDE, "--idempotency-key", "k1")
        first, second = (made.decision_id for made in desk.order.made())
    assert again.exit_code == ExitCode.OK
    assert first == second


async def test_decide_refuses_to_believe_a_server_that_is_no_desk() -> None:
    async with running_desk(FakeOrder()) as desk:
        result = await run(desk, *DECIDE, "--url", f"{desk.url}/healthz")
    assert result.exit_code in {ExitCode.MISCONFIGURED, ExitCode.NOT_FOUND}
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("payments", "decide", PAYMENT, "--operation", OP, "--outcome", "declined", "--why", WHY),
        ("payments", "decide", PAYMENT, "--operation", OP, "--outcome", "succeeded"),
        (*DECIDE, "--amount", "0"),
        (*DECIDE, "--url", "nowhere"),
        (*DECIDE, "--as", "an na"),
        ("payments", "approve"),
    ],
)
def test_command_explains_its_use_when_the_command_line_is_wrong(words: tuple[str, ...]) -> None:
    assert run_command(*words).exit_code == ExitCode.USAGE


def test_verdicts_of_the_command_line_are_the_published_ones() -> None:
    assert [each.value for each in Verdicts] == [each.value for each in Verdict]


# What waits.


def waiting(op: str, *reasons: WaitingFor, origin: str = ORIGIN, since_ms: int = 1) -> PaymentWaiting:
    return PaymentWaiting(
        origin_id=identifiers.origin_id(origin),
        order_id=ORDER,
        payment_id=PAYMENT,
        op_id=identifiers.OpId(op),
        kind=OperationKind.SALE,
        waits_for=reasons,
        amount_minor=1_000,
        currency="USD",
        gateway=identifiers.GatewayName("mock"),
        gateway_reference="mock_1",
        since_ms=since_ms,
    )


def stand(log: Log, *entries: PaymentWaiting) -> None:
    for each in entries:
        put(log, WAITING, each, key=f"{each.origin_id}|{each.order_id}|{each.op_id}".encode())


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """A log that the command line reads instead of a broker's."""
    made = memory_log()

    @contextmanager
    def opened() -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(log=made, codec=CODEC)

    monkeypatch.setattr("streams.cli.tools.opened", opened)
    return made


def test_list_shows_what_waits_now_longest_first_and_by_what_it_waits_for(log: Log) -> None:
    stand(
        log,
        waiting("op_new", WaitingFor.IN_DOUBT, since_ms=3),
        waiting("op_old", WaitingFor.REVIEW, since_ms=2),
        waiting("op_gone", WaitingFor.PENDING),
        waiting("op_both", WaitingFor.PENDING, WaitingFor.REVIEW, origin="originB", since_ms=4),
    )
    log.append([NewRecord(topic=WAITING, key=f"{ORIGIN}|{ORDER}|op_gone".encode(), value=None, headers=())])

    def listed(*words: str) -> list[str]:
        return [each["op_id"] for each in json_of(run_command("payments", "list", *words, "-o", "json"))]

    assert listed() == ["op_old", "op_new", "op_both"]
    assert listed("--in-doubt") == ["op_new"]
    assert listed("--review") == ["op_old", "op_both"]
    assert listed("--pending", "--in-doubt") == ["op_new", "op_both"]
    assert listed("--review", "--origin", "originB") == ["op_both"]
    assert listed("--origin", "nobody") == []


def test_list_draws_a_table_and_says_when_nothing_waits(log: Log) -> None:
    empty = run_command("payments", "list")
    assert (empty.exit_code, empty.stdout) == (ExitCode.OK, "")
    assert "nothing waits" in empty.stderr
    stand(log, waiting("op_1", WaitingFor.REVIEW))
    drawn = run_command("payments", "list", "--review").stdout
    assert all(word in drawn for word in ("op_1", PAYMENT, ORIGIN, "review", "1000 USD", "mock mock_1"))


def test_list_passes_over_what_it_cannot_read(log: Log) -> None:
    stand(log, waiting("op_1", WaitingFor.REVIEW))
    log.append([NewRecord(topic=WAITING, key=b"x", value=b"nonsense", headers=())])
    assert [each.op_id for each in list_waiting(log, CODEC)] == ["op_1"]


async def test_decide_finds_whose_payment_it_is_among_what_waits(log: Log) -> None:
    stand(log, waiting(OP, WaitingFor.REVIEW, origin="originB"))
    words = DECIDE[:-2]
    async with running_desk() as desk:
        result = await run(desk, *words)
        (made,) = desk.order.made()
    assert result.exit_code == ExitCode.OK, result.output
    assert made.origin_id == "originB"


def test_decide_asks_for_the_origin_when_the_log_tells_nothing_of_the_payment(log: Log) -> None:
    assert list_waiting(log, CODEC) == ()
    result = run_command(*DECIDE[:-2])
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "--origin" in result.stderr
