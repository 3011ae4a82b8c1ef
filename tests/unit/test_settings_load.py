"""Settings: read once, every fault named, no value shown."""

from pathlib import Path

import pytest
from aiokafka.conn import collect_hosts

from schemas import topics
from schemas.misconfigured import MisconfiguredError
from streams.addresses import addresses_of
from streams.bootstrap import DAY_MS, rules_of
from streams.kafka.faust_fences.worker_app import BROKER_REQUEST_TIMEOUT_S
from streams.settings import DEAD_LETTER_LIFE_DAYS, MAX_SESSION_S, load, variables


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


@pytest.mark.parametrize("variable", ["PAYMENT_ENGINE_HTTP_HOST", "PAYMENT_ENGINE_HEALTH_HOST"])
def test_load_refuses_an_empty_address_when_it_would_listen_on_every_one(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "")
    with pytest.raises(MisconfiguredError, match=variable):
        load()


@pytest.mark.parametrize("token", ["hunter2\n", "hunter2 ", "hunter\n2", "hunter2é", ""])
def test_load_refuses_a_token_without_showing_it_when_no_header_can_carry_it(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_REGISTRY_TOKEN", token)
    with pytest.raises(MisconfiguredError, match="PAYMENT_ENGINE_REGISTRY_TOKEN") as caught:
        load()
    assert "hunter" not in str(caught.value)


def test_settings_show_no_secret_when_they_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_SASL_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load())


def test_rules_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", "3")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", "40")
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_LATE_CALL_S", "60")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_DRIVE_AGAIN_S", "90")
    rules = rules_of(load(), {})
    assert (rules.claim_life_ms, rules.order_life_ms, rules.late_call_ms) == (3 * DAY_MS, 40 * DAY_MS, 60_000)
    assert rules.drive_again_ms == 90_000


@pytest.mark.parametrize(("claim", "order"), [("31", "30"), ("31", "62"), ("149", None)])
def test_load_refuses_orders_that_are_forgotten_before_their_keys(
    monkeypatch: pytest.MonkeyPatch, claim: str, order: str | None
) -> None:
    """The claim would grant the repeated command, and nobody would know that it is done."""
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", claim)
    if order is not None:
        monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", order)
    with pytest.raises(MisconfiguredError, match=r"PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS: .*pay twice"):
        load()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"STREAM_SESSION_TIMEOUT_S": "6", "STREAM_HEARTBEAT_INTERVAL_S": "2.5"}, "STREAM_HEARTBEAT_INTERVAL_S: "),
        ({"EXECUTOR_MAX_CALLS_IN_FLIGHT": "5000"}, "EXECUTOR_MAX_REQUESTS_IN_FLIGHT: "),  # by its default
        ({"STREAM_SESSION_TIMEOUT_S": "2"}, "STREAM_HEARTBEAT_INTERVAL_S: "),  # by the default of the other
        ({"STREAM_SESSION_TIMEOUT_S": "90"}, "STREAM_SESSION_TIMEOUT_S: "),
        ({"KAFKA_MIN_INSYNC_REPLICAS": "2"}, "KAFKA_MIN_INSYNC_REPLICAS: "),
        ({"KAFKA_REPLICATION_FACTOR": "3", "KAFKA_MIN_INSYNC_REPLICAS": "4"}, "KAFKA_MIN_INSYNC_REPLICAS: "),
    ],
)
def test_load_refuses_two_settings_that_contradict(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], told: str
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(f"PAYMENT_ENGINE_{name}", value)
    with pytest.raises(MisconfiguredError, match=f"PAYMENT_ENGINE_{told}"):
        load()


def test_load_takes_a_heartbeat_of_a_third_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_SESSION_TIMEOUT_S", "6")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_HEARTBEAT_INTERVAL_S", "2")
    assert load().stream.heartbeat_interval_s == 2


def test_longest_session_is_below_the_longest_wait_for_an_answer() -> None:
    assert MAX_SESSION_S < BROKER_REQUEST_TIMEOUT_S


def test_load_takes_orders_that_are_kept_as_long_as_their_keys_and_the_letters_of_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", "200")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", "232")
    assert load().stream.order_life_days == 232


def test_load_refuses_a_time_in_which_a_held_call_may_still_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absence would pass for proof while the call is on its way: the payer would be told no, and pay."""
    monkeypatch.setenv("PAYMENT_ENGINE_GATEWAY_LATE_CALL_S", "59.9")
    with pytest.raises(MisconfiguredError, match="PAYMENT_ENGINE_GATEWAY_LATE_CALL_S"):
        load()


def test_orders_outlive_every_dead_letter_of_a_key_that_was_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is redriven when its order is forgotten would be carried out again."""
    letters = topics.topic(topics.DLQ)
    assert letters.retention_ms is not None
    # A broker deletes a segment once its last record is past the retention; it looks every few minutes.
    assert letters.retention_ms + letters.segment_ms + topics.HOUR_MS < DEAD_LETTER_LIFE_DAYS * DAY_MS
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_CLAIM_LIFE_DAYS", "1")
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", str(DEAD_LETTER_LIFE_DAYS))
    with pytest.raises(MisconfiguredError, match=f"ORDER_LIFE_DAYS: .*set {DEAD_LETTER_LIFE_DAYS + 1} at least"):
        load()
    monkeypatch.setenv("PAYMENT_ENGINE_STREAM_ORDER_LIFE_DAYS", str(DEAD_LETTER_LIFE_DAYS + 1))
    assert load().stream.order_life_days == DEAD_LETTER_LIFE_DAYS + 1


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a:1, b:2", (("a", 1), ("b", 2))),
        ("a:1,", (("a", 1),)),
        ("SASL_SSL://a:1", (("a", 1),)),
        ("a", (("a", 9092),)),
        ("[::1]:9092", (("::1", 9092),)),
        ("[::1]", (("::1", 9092),)),
    ],
)
def test_brokers_are_read_and_written_anew_when_the_list_is_well_formed(
    monkeypatch: pytest.MonkeyPatch, text: str, addresses: tuple[tuple[str, int], ...]
) -> None:
    assert addresses_of(text) == addresses
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS", text)
    clients_read = tuple((host, port) for host, port, _ in collect_hosts(load().kafka.bootstrap_servers, False))
    assert clients_read == addresses  # aiokafka would look for a host `SASL_SSL://a`, and for one without a name


@pytest.mark.parametrize("missing", ["USERNAME", "PASSWORD"])
@pytest.mark.parametrize("is_empty", [True, False])
def test_load_refuses_a_sasl_protocol_without_credentials(
    monkeypatch: pytest.MonkeyPatch, missing: str, is_empty: bool
) -> None:
    monkeypatch.setenv("PAYMENT_ENGINE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"PAYMENT_ENGINE_KAFKA_SASL_{name}", "x")
    if is_empty:
        monkeypatch.setenv(f"PAYMENT_ENGINE_KAFKA_SASL_{missing}", "")
    else:
        monkeypatch.delenv(f"PAYMENT_ENGINE_KAFKA_SASL_{missing}")
    with pytest.raises(MisconfiguredError, match=rf"^PAYMENT_ENGINE_KAFKA_SASL_{missing}: .*needed with"):
        load()
