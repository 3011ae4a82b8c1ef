"""The checker's fault-free replay: it says what was published, and each lie on the events topic is named."""

from dataclasses import replace

import pytest

from schemas import topics
from tests.support.checker import violations
from tests.support.order_desk import ORDER, authorize, capture, refund
from tests.support.staged_life import PAYMENT, valid_log, valid_run
from tests.support.staged_run import StagedRun


def test_replay_takes_every_input_and_refuses_poison_as_production_does() -> None:
    run = valid_run()
    key = ORDER.encode()
    avro = [("content-type", b"application/avro")]
    for topic in (topics.COMMANDS, topics.VERDICTS, topics.GATEWAY_RESULTS, topics.WEBHOOKS, topics.TIMERS):
        run.append(topic, key, b"\x00\x7f\xff\xff\xffnonsense", avro)
        run.append(topic, key, b"nonsense")
        run.append(topic, key, None)
    first = run.log[topics.COMMANDS][0]
    run.append(topics.COMMANDS, b"another-key", first.value, first.headers)
    run.settle()
    evidence = run.evidence_of_log()
    assert evidence.replay_faults == []
    assert evidence.refused_inputs == 16


def test_replay_agrees_when_records_came_twice() -> None:
    run = valid_run()
    for topic in (topics.COMMANDS, topics.VERDICTS, topics.GATEWAY_RESULTS, topics.WEBHOOKS, topics.TIMERS):
        for record in list(run.log[topic]):
            run.append(topic, record.key, record.value, record.headers)
    run.settle()
    assert run.evidence_of_log().replay_faults == []


@pytest.mark.parametrize("number", range(14))
def test_replay_names_an_event_that_is_missing(number: int) -> None:
    run = valid_log()
    gone = run.log[topics.EVENTS].pop(number)
    (fault,) = run.evidence_of_log().replay_faults
    assert dict(gone.headers)["ce_id"].decode() in fault
    assert "was never published" in fault


def test_replay_names_an_event_that_nobody_should_have_published() -> None:
    run = valid_run()
    record = run.log[topics.EVENTS][-1]
    headers = [(name, b"e-extra" if name == "ce_id" else text) for name, text in record.headers]
    run.append(topics.EVENTS, record.key, record.value, headers)
    (fault,) = run.evidence_of_log().replay_faults
    assert "e-extra" in fault
    assert "does not say it" in fault


@pytest.mark.parametrize("number", [1, 3, 9, 13])
def test_replay_names_an_event_that_was_altered(number: int) -> None:
    run = valid_log()
    record = run.log[topics.EVENTS][number]
    envelope, event = run.events()[number]
    altered = replace(event, operation=replace(event.operation, amount_minor=event.operation.amount_minor + 1))
    run.log[topics.EVENTS][number] = replace(record, value=run.codec.encode(altered, envelope).value)
    evidence = run.evidence_of_log()
    (fault,) = evidence.replay_faults
    assert envelope.id in fault
    assert "operation.amount_minor" in fault
    (found,) = violations(replace(valid_log().evidence(), replay_faults=[fault]))
    assert found.startswith("events_equal_replay: ")


def test_replay_names_an_event_of_another_type_under_the_same_id() -> None:
    run = valid_log()
    record = run.log[topics.EVENTS][1]
    headers = [
        (name, b"payments.authorization.declined.v1" if name == "ce_type" else text) for name, text in record.headers
    ]
    run.log[topics.EVENTS][1] = replace(record, headers=tuple(headers))
    (fault,) = run.evidence_of_log().replay_faults
    assert "type (payments.authorization.declined.v1" in fault


def test_replay_names_both_when_one_id_stands_for_two_contents() -> None:
    run = valid_run()
    record = run.log[topics.EVENTS][0]
    envelope, event = run.events()[0]
    run.append(topics.EVENTS, record.key, run.codec.encode(replace(event, sequence=9), envelope).value, record.headers)
    (fault,) = run.evidence_of_log().replay_faults
    assert "sequence (9, not 1)" in fault


def late_taken_run() -> StagedRun:
    """A worker that was behind takes a later command before an earlier result: another order than that of the times."""
    run = StagedRun()
    run.send(authorize())
    run.append_command(capture(PAYMENT, 4_000))
    for topic in (topics.COMMANDS, topics.CLAIMS, topics.VERDICTS, topics.GATEWAY_REQUESTS):
        run.take(run.waiting(topic))
    result = run.waiting(topics.GATEWAY_RESULTS)
    run.append_command(refund(PAYMENT, 1, key="auth"))  # the key of the authorization: refused in the row, at once
    run.take(run.waiting(topics.COMMANDS), result)
    run.settle()
    return run


def test_replay_allows_for_the_order_of_a_worker_that_was_behind_and_counts_it() -> None:
    run = late_taken_run()
    evidence = run.evidence()
    assert violations(evidence) == []
    assert evidence.reordered == 1


@pytest.mark.parametrize("number", range(5))
def test_replay_excuses_no_missing_event_by_another_order(number: int) -> None:
    run = late_taken_run()
    del run.log[topics.EVENTS][number]
    assert run.evidence_of_log().replay_faults != []
