"""Settings: read once, every fault named, no value shown."""

from pathlib import Path

import pytest

from schemas import topics
from schemas.misconfigured import MisconfiguredError
from streams.bootstrap import DAY_MS, rules_of
from streams.settings import DEAD_LETTER_LIFE_DAYS, load, variables


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _ in variables():
        monkeypatch.delenv(name, raising=False)


def test_load_returns_the_defaults_when_nothing_is_set() -> None:
    settings = load()
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert settings.registry.url is None


def test_load_returns_what_is_set_when_it_is_well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_PARTITIONS", "12")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_STATE_DIR", "/var/lib/engine")
    settings = load()
    assert settings.kafka.partitions == 12
    assert settings.stream.state_dir == Path("/var/lib/engine")


def test_load_names_every_fault_and_no_value_when_several_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_PARTITIONS", "many-secret")
    monkeypatch.setenv("PAYMENT_ENGINE_HTTP_PORT", "99999")
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_PARTITION", "4")
    with pytest.raises(MisconfiguredError) as caught:
        load()
    told = str(caught.value)
    assert "PAYMENT_ENGINE_KAFKA_PARTITIONS:" in told
    assert "PAYMENT_ENGINE_HTTP_PORT:" in told
    assert "PAYMENT_ENGINE_KAFKA_PARTITION: no such setting" in told
    assert "many-secret" not in told


def test_settings_show_no_secret_when_they_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_SASL_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load())


def test_rules_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", "3")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", "40")
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_LATE_CALL_S", "60")
    rules = rules_of(load(), {})
    assert (rules.claim_life_ms, rules.order_life_ms, rules.late_call_ms) == (3 * DAY_MS, 40 * DAY_MS, 60_000)


@pytest.mark.parametrize(("claim", "order"), [("31", "30"), ("181", None)])
def test_load_refuses_orders_that_are_forgotten_before_their_keys(
    monkeypatch: pytest.MonkeyPatch, claim: str, order: str | None
) -> None:
    """The claim would grant the repeated command, and nobody would know that it is done."""
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", claim)
    if order is not None:
        monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", order)
    with pytest.raises(MisconfiguredError, match=r"PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS: .*pay twice"):
        load()


def test_load_takes_orders_that_are_kept_as_long_as_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", "200")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", "200")
    assert load().stream.order_life_days == 200


def test_load_refuses_a_time_in_which_a_held_call_may_still_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absence would pass for proof while the call is on its way: the payer would be told no, and pay."""
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_LATE_CALL_S", "59.9")
    with pytest.raises(MisconfiguredError, match="PAYMENT_ENGINE_GATEWAY_LATE_CALL_S"):
        load()


def test_orders_outlive_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is redriven when its order is forgotten would be carried out again."""
    assert topics.topic(topics.DLQ).retention_ms == DEAD_LETTER_LIFE_DAYS * DAY_MS
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", "1")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", str(DEAD_LETTER_LIFE_DAYS - 1))
    with pytest.raises(MisconfiguredError, match="PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS"):
        load()
