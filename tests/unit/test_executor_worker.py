"""The worker with a fake log: intake and limits, joins, results, dead letters."""

from dataclasses import replace
from typing import Any

import pytest

from gateway_adapters.contract import CallResult
from gateway_adapters.errors import Code
from schemas import topics
from schemas.identifiers import AccountName, GatewayName, GatewayRoute
from schemas.messages import EncodedMessage, MessageCodec
from schemas.records.gateway import GatewayCallRequested
from schemas.releases import PACKAGED_IDS, UPGRADE_IT, OutdatedError
from schemas.schema_ids import SchemaIds, Wait, newest_schemas, packaged_schemas, packaged_writers
from schemas.vocabulary import CallKind, DeadLetterReason, Outcome
from streams.kafka_clients import dead_letters
from streams.kafka_clients.errors import RejectedError, RetryableError
from streams.log_worker import options
from tests.support.executor_scene import (
    FIRST,
    SECOND,
    Gate,
    Scene,
    started,
    until,
)
from tests.support.gateway_calls import (
    TellableGateway,
    message_of,
    request_of,
    succeeds,
)
from tests.support.metric_pages import rise_of


async def test_worker_writes_a_result_and_commits_when_a_call_is_done() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 5, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        await scene.consumer.wait_for_commit(FIRST, 6)
    assert scene.executor.ready.is_set()
    topic, key, _, headers = scene.writer.appended[0]
    assert (topic, key) == (topics.GATEWAY_RESULTS, b"order-1")
    assert dict(headers)["ce_partitionkey"] == b"order-1"
    assert scene.consumer.was_stopped
    assert scene.writer.was_stopped


async def test_worker_gives_the_same_result_id_when_a_request_comes_again() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        scene.put(FIRST, 1, message_of(request_of(1)))
        await scene.writer.wait_for(2)
    ids = {dict(headers)["ce_id"] for _, _, _, headers in scene.writer.appended}
    assert len(ids) == 1


@pytest.mark.parametrize(("is_known", "letters"), [(True, 0), (False, 1)])
async def test_worker_waits_for_the_schema_of_a_request_that_a_newer_program_wrote(
    is_known: bool, letters: int
) -> None:
    packaged = SchemaIds.packaged()
    late_id = 7
    own_ids = {record: packaged.own_id(record) for record in newest_schemas()} | {"gateway_call_requested": late_id}
    writers = packaged_writers(packaged_schemas())
    late = writers[packaged.own_id("gateway_call_requested")]
    asked: list[int] = []

    def ask(schema_id: int) -> Wait | None:
        async def wait() -> None:
            if is_known:
                writers[late_id] = late

        asked.append(schema_id)
        return wait if len(asked) == 1 else None

    ids = SchemaIds(own_ids=own_ids, writers=writers, ask=ask)
    async with started(Scene(TellableGateway(), codec=MessageCodec(ids))) as scene:
        message = message_of(request_of(1))
        scene.put(FIRST, 5, replace(message, value=b"\x00" + late_id.to_bytes(4, "big") + message.value[5:]))
        await scene.consumer.wait_for_commit(FIRST, 6)
    assert set(asked) == {late_id}
    assert [topic for topic, *_ in scene.writer.appended].count(topics.DLQ) == letters


async def test_worker_ends_and_loses_nothing_when_a_later_release_wrote_a_request() -> None:
    scene = Scene(TellableGateway())
    message = message_of(request_of(1))
    later = replace(message, value=b"\x00" + (PACKAGED_IDS.stop - 1).to_bytes(4, "big") + message.value[5:])

    async def run() -> None:
        async with started(scene):
            scene.put(FIRST, 5, later)
            await scene.executor.run()

    with pytest.raises(OutdatedError, match=rf"{topics.GATEWAY_REQUESTS}, partition 0, offset 5: .*{UPGRADE_IT}"):
        await run()
    assert scene.writer.appended == []
    assert FIRST not in scene.consumer.committed


async def test_worker_does_not_commit_past_a_call_when_it_is_still_under_way() -> None:
    gate = Gate()

    async def first_waits(request: GatewayCallRequested) -> CallResult:
        return await (gate(request) if request.order_id == "order-0" else succeeds(request))

    async with started(Scene(TellableGateway(first_waits))) as scene:
        for number in range(10):
            scene.put(FIRST, number, message_of(request_of(number)))
        await scene.writer.wait_for(9)
        assert FIRST not in scene.consumer.committed
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 10)


async def test_worker_takes_no_more_than_its_room_and_calls_no_more_than_its_slots_when_calls_are_slow() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate), max_calls_in_flight=3, max_requests_in_flight=5)) as scene:
        for number in range(10):
            scene.put(FIRST, number, message_of(request_of(number)))
        await gate.wait_for(3)
        await until(lambda: scene.executor.in_flight == 5)
        assert max(asked or 0 for asked in scene.consumer.asked_for) <= 5
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 10)
    assert scene.gateway.most_at_once <= 3


async def test_worker_makes_one_call_and_one_result_when_duplicates_come_while_it_runs() -> None:
    gate = Gate()
    async with started(Scene(TellableGateway(gate))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        scene.put(FIRST, 1, message_of(request_of(1)))
        scene.put(SECOND, 0, message_of(request_of(1)))
        await gate.wait_for(1)
        gate.open.set()
        await scene.consumer.wait_for_commit(FIRST, 2)
        await scene.consumer.wait_for_commit(SECOND, 1)
    assert scene.gateway.calls.total() == 1
    assert len(scene.results()) == 1


async def test_worker_keeps_the_raw_bytes_as_a_dead_letter_when_it_cannot_read_them() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, b"\x00garbage")
        scene.put(FIRST, 1, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 2)
    (letter,) = scene.letters()
    assert (letter.value, letter.key, letter.offset, letter.component) == (b"\x00garbage", b"order", 0, "executor")
    assert len(scene.results()) == 1  # its neighbour flowed on


async def test_worker_calls_the_account_that_the_request_names() -> None:
    default, eu = TellableGateway(), TellableGateway()
    async with started(Scene(default, others={GatewayRoute("mock/eu"): eu})) as scene:
        scene.put(FIRST, 0, message_of(replace(request_of(1), account=AccountName("eu"))))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert (default.calls.total(), eu.calls.total()) == (0, 1)
    assert [result.account for result in scene.results()] == ["eu"]


@pytest.mark.parametrize(
    ("change", "lay_there", "outcome"),
    [
        ({}, False, Outcome.NOT_EXECUTED),
        ({"account": AccountName("eu")}, False, Outcome.NOT_EXECUTED),
        ({"repeated": True}, False, Outcome.UNKNOWN),
        ({}, True, Outcome.UNKNOWN),
        ({"kind": CallKind.INQUIRE, "inquired_kind": CallKind.SALE, "token": None}, False, Outcome.UNKNOWN),
    ],
)
async def test_worker_answers_for_a_gateway_that_it_does_not_have_and_is_sure_only_when_no_copy_can_have_been_sent(
    change: dict[str, Any], lay_there: bool, outcome: Outcome
) -> None:
    """A dead letter alone would leave the order waiting for ever."""
    known: dict[str, Any] = {} if "account" in change else {"gateway": GatewayName("nobody")}
    scene = Scene(TellableGateway())
    scene.consumer.ends[FIRST] = int(lay_there)
    async with started(scene):
        scene.put(FIRST, 0, message_of(replace(request_of(1), **known, **change)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert not scene.gateway.calls
    assert scene.letters() == []
    (result,) = scene.results()
    assert (result.outcome, result.error and result.error.code) == (outcome, Code.ACCOUNT_UNKNOWN)


async def test_worker_makes_a_dead_letter_when_the_record_is_no_request() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(SECOND, 0, message_of(request_of(1)))
        await scene.writer.wait_for(1)
        _, _, value, headers = scene.writer.appended[0]
        assert value is not None
        scene.put(FIRST, 0, EncodedMessage(value=value, headers=tuple(headers)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [letter.reason for letter in scene.letters()] == [DeadLetterReason.INVALID]


async def test_worker_tries_again_when_a_result_cannot_be_appended_at_once() -> None:
    scene = Scene(TellableGateway())
    scene.writer.failures = [RetryableError("away", retry_after_s=0.001), RetryableError("away", retry_after_s=0.001)]
    retried = rise_of("worker_appends_retried")
    async with started(scene):
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert scene.gateway.calls.total() == 1  # the call was not repeated for it
    assert retried() == 2


async def test_worker_stops_and_commits_nothing_when_a_result_cannot_be_appended_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(options, "APPEND_LIMIT_S", 0.0)
    scene = Scene(TellableGateway())
    scene.writer.failures = [RetryableError("away")]
    scene.put(FIRST, 0, message_of(request_of(1)))
    with pytest.raises(RetryableError, match="away"):
        await scene.executor.run()
    assert FIRST not in scene.consumer.committed
    assert scene.consumer.was_stopped


async def test_worker_stops_and_commits_nothing_when_a_dead_letter_is_refused() -> None:
    scene = Scene(TellableGateway())
    scene.writer.failures = [RejectedError("too large")]
    scene.put(FIRST, 0, b"garbage")
    with pytest.raises(RejectedError):
        await scene.executor.run()
    assert FIRST not in scene.consumer.committed


async def test_worker_writes_unknown_when_the_adapter_raises() -> None:
    async def broken(_: GatewayCallRequested) -> CallResult:
        raise ZeroDivisionError

    async with started(Scene(TellableGateway(broken))) as scene:
        scene.put(FIRST, 0, message_of(request_of(1)))
        await scene.consumer.wait_for_commit(FIRST, 1)
    assert [result.outcome for result in scene.results()] == [Outcome.UNKNOWN]


async def test_worker_withholds_the_bytes_when_they_hold_what_looks_like_a_card_number() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, b'{"token": "4242 4242 4242 4242"}')
        await scene.consumer.wait_for_commit(FIRST, 1)
    (letter,) = scene.letters()
    assert (letter.reason, letter.withheld) == (DeadLetterReason.CARD_NUMBER, True)
    assert (letter.key, letter.value, letter.headers) == (None, None, ())


async def test_worker_leaves_the_value_out_when_it_is_too_large_for_a_letter() -> None:
    async with started(Scene(TellableGateway())) as scene:
        scene.put(FIRST, 0, b"x" * (dead_letters.MAX_RAW_BYTES + 1))
        await scene.consumer.wait_for_commit(FIRST, 1)
    (letter,) = scene.letters()
    assert (letter.key, letter.value, letter.withheld) == (b"order", None, True)
