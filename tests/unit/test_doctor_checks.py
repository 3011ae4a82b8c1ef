"""What the doctor makes of facts: each fault found, with why and how, and nothing said when all is well."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_adapters.mock.spec import SPEC, MockAccount
from gateway_adapters.spec import Accounts
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, GatewayRoute
from schemas.schema_ids import SchemaIds, packaged_schemas
from schemas.topics import (
    CATALOGUE,
    COMMANDS,
    DAY_MS,
    EVENTS,
    HOUR_MS,
    ORDERS_CHANGELOG,
    QUERIES,
    PartitionRule,
    partition_of,
)
from streams.accounts_file import INLINE, FileAccount
from streams.desk_settings import OperatorsSettings
from streams.kafka_clients.backlog import Backlog
from streams.operator_tools.doctor import (
    broker_check,
    clock_check,
    partitioner_check,
    registry_check,
    settings_check,
    topics_check,
    transactions_check,
    workers_check,
)
from streams.operator_tools.doctor.cluster import ClusterState, GroupState, TopicState
from streams.operator_tools.doctor.findings import Finding, Severity
from streams.operator_tools.log import NewRecord
from streams.operator_tools.reachability import Answer
from streams.settings import (
    ExecutorSettings,
    GatewaySettings,
    HealthSettings,
    HttpSettings,
    KafkaSettings,
    RegistrySettings,
    Settings,
    StreamSettings,
    TelemetrySettings,
)
from streams.topology import GROUPS
from tests.support.operator_log import PARTITIONS, memory_log

ROOT = Path(__file__).resolve().parents[2]
HERE = MockAccount(url="http://127.0.0.1:8090")
KAFKA = KafkaSettings(partitions=PARTITIONS, replication_factor=3, min_insync_replicas=2)


INLINED = FileAccount(
    gateway=SPEC.name, account=AccountName("eu"), values={}, sources={"webhook_secret": INLINE, "url": "env URL"}
)


def _settings(
    *,
    kafka: KafkaSettings = KAFKA,
    stream: StreamSettings | None = None,
    executor: ExecutorSettings | None = None,
    gateway: GatewaySettings | None = None,
    http: HttpSettings | None = None,
    operators: OperatorsSettings | None = None,
    accounts: Accounts | None = None,
    in_file: Mapping[GatewayRoute, FileAccount] | None = None,
) -> Settings:
    return Settings(
        kafka=kafka,
        stream=stream or StreamSettings(),
        executor=executor or ExecutorSettings(),
        gateway=gateway or GatewaySettings(default_gateways=""),
        http=http or HttpSettings(dev=True),
        operators=operators or OperatorsSettings(),
        registry=RegistrySettings(),
        health=HealthSettings(),
        telemetry=TelemetrySettings(),
        accounts=accounts or {},
        in_file=in_file or {},
    )


def _topic(**changes: object) -> TopicState:
    state: dict[str, object] = {
        "partitions": PARTITIONS,
        "fewest_copies": 3,
        "fewest_in_sync": 3,
        "without_leader": (),
        "settings": {"min.insync.replicas": "2"},
    }
    return TopicState(**(state | changes))  # type: ignore[arg-type]  # the names above are the fields'


def _cluster(
    *,
    brokers: int = 3,
    controller: bool = True,
    told: Mapping[str, str] | None = None,
    topics: Mapping[str, TopicState | None] | None = None,
) -> ClusterState:
    there = {
        topic.name: _topic(partitions=1) if topic.partition_rule is PartitionRule.SINGLE else _topic()
        for topic in CATALOGUE
    }
    changed = topics or {}
    return ClusterState(
        cluster_id="test",
        brokers=tuple(f"kafka-{number}:9092" for number in range(brokers)),
        controller=controller,
        topics={name: state for name, state in (there | dict(changed)).items() if state is not None},
        broker_settings=told or {},
    )


def _worst(findings: Iterable[Finding]) -> Severity:
    severities = {finding.severity for finding in findings}
    return next(each for each in (Severity.FAILURE, Severity.WARNING, Severity.OK) if each in severities)


def _assert_told(findings: Iterable[Finding], severity: Severity, told: str) -> None:
    found = [finding for finding in findings if told in finding.finding]
    assert [finding.severity for finding in found] == [severity]
    assert found[0].why
    assert found[0].fix


def test_settings_are_well_when_they_fit_together() -> None:
    assert [finding.severity for finding in settings_check.judge(_settings())] == [Severity.OK]


@pytest.mark.parametrize(
    ("settings", "severity", "told"),
    [
        (
            _settings(kafka=KafkaSettings(replication_factor=3, min_insync_replicas=3)),
            Severity.WARNING,
            "equals replication_factor",
        ),
        (
            _settings(
                kafka=KafkaSettings(
                    security_protocol="SASL_PLAINTEXT",
                    sasl_mechanism="PLAIN",
                    sasl_username="u",
                    sasl_password=SecretStr("p"),
                )
            ),
            Severity.WARNING,
            "unencrypted",
        ),
        (_settings(executor=ExecutorSettings(drain_timeout_s=5, call_timeout_s=30)), Severity.WARNING, "drain"),
        (
            _settings(gateway=GatewaySettings(default_gateways="mock")),
            Severity.WARNING,
            "names mock, which is not set up",
        ),
        (
            _settings(http=HttpSettings(), accounts={SPEC.name: {DEFAULT_ACCOUNT: HERE}}),
            Severity.WARNING,
            "PAYMENT_ENGINE_GATEWAY_MOCK_WEBHOOK_SECRET: needed",
        ),
        (
            _settings(http=HttpSettings(), in_file={INLINED.route: INLINED}),
            Severity.WARNING,
            "the accounts file holds webhook_secret of mock/eu itself",
        ),
        (_settings(http=HttpSettings(dev=True, host="0.0.0.0")), Severity.FAILURE, "(0.0.0.0) is not loopback"),
        (_settings(http=HttpSettings(dev=True, keys_file=Path("keys"))), Severity.FAILURE, "HTTP_KEYS_FILE"),
        (_settings(http=HttpSettings(dev=False)), Severity.WARNING, "no API keys"),
        (_settings(operators=OperatorsSettings(dev=True, host="0.0.0.0")), Severity.FAILURE, "OPERATORS_DEV: is on"),
        (_settings(operators=OperatorsSettings(dev=True, keys_file=Path("keys"))), Severity.FAILURE, "beside"),
    ],
)
def test_settings_fault_is_told_when_two_settings_contradict(settings: Settings, severity: Severity, told: str) -> None:
    _assert_told(settings_check.judge(settings), severity, told)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_dev_mode_is_well_when_it_listens_on_loopback(host: str) -> None:
    assert _worst(settings_check.judge(_settings(http=HttpSettings(dev=True, host=host)))) is Severity.OK


def test_dev_mode_is_well_on_any_address_when_that_is_said() -> None:
    http = HttpSettings(dev=True, host="0.0.0.0", dev_off_loopback=True)
    assert _worst(settings_check.judge(_settings(http=http))) is Severity.OK


SPEAKS = dict.fromkeys(broker_check.NEEDED_APIS, (0, 99))


def test_broker_is_well_when_it_speaks_all_that_is_needed() -> None:
    answers = [Answer(address="a:1", apis=SPEAKS, fault=None)]
    assert _worst(broker_check.judge_answers(answers)) is Severity.OK


@pytest.mark.parametrize(
    ("answers", "severity", "told"),
    [
        ([Answer(address="a:1", apis={}, fault="connection refused")], Severity.FAILURE, "connection refused"),
        (
            [Answer(address="a:1", apis={}, fault="refused"), Answer(address="b:1", apis=SPEAKS, fault=None)],
            Severity.WARNING,
            "a:1: refused",
        ),
        ([Answer(address="a:1", apis={**SPEAKS, 0: (0, 2)}, fault=None)], Severity.FAILURE, "Produce version 3"),
        (
            [Answer(address="a:1", apis={key: SPEAKS[key] for key in SPEAKS if key != 22}, fault=None)],
            Severity.FAILURE,
            "InitProducerId",
        ),
    ],
)
def test_broker_fault_is_told_when_an_address_does_not_serve(
    answers: list[Answer], severity: Severity, told: str
) -> None:
    _assert_told(broker_check.judge_answers(answers), severity, told)


def test_cluster_is_well_when_it_is_as_production_should_be() -> None:
    assert _worst(broker_check.judge_cluster(_cluster(), KAFKA)) is Severity.OK


@pytest.mark.parametrize(
    ("cluster", "severity", "told"),
    [
        (_cluster(controller=False), Severity.FAILURE, "no controller"),
        (_cluster(brokers=2), Severity.FAILURE, "2 brokers, but replication_factor is 3"),
        (_cluster(brokers=1), Severity.WARNING, "for development only"),
        (_cluster(told={"auto.create.topics.enable": "true"}), Severity.WARNING, "auto.create"),
        (_cluster(told={"unclean.leader.election.enable": "true"}), Severity.FAILURE, "unclean"),
        (_cluster(told={"message.max.bytes": "1000"}), Severity.FAILURE, "message.max.bytes"),
    ],
)
def test_cluster_fault_is_told_when_it_is_not_safe(cluster: ClusterState, severity: Severity, told: str) -> None:
    _assert_told(broker_check.judge_cluster(cluster, KAFKA), severity, told)


def test_topics_are_well_when_they_are_as_the_catalogue_has_them() -> None:
    assert [finding.severity for finding in topics_check.judge(_cluster(), KAFKA)] == [Severity.OK]


@pytest.mark.parametrize(
    ("name", "state", "severity", "told"),
    [
        (COMMANDS, None, Severity.FAILURE, f"missing: {COMMANDS}"),
        (COMMANDS, _topic(partitions=3), Severity.FAILURE, "has 3 partitions, not 4"),
        (COMMANDS, _topic(without_leader=(2,)), Severity.FAILURE, "without a leader: 2"),
        (COMMANDS, _topic(fewest_in_sync=1), Severity.FAILURE, "1 copies in sync, 2 are needed"),
        (COMMANDS, _topic(fewest_in_sync=2), Severity.WARNING, "2 of 3 copies in sync"),
        (COMMANDS, _topic(fewest_copies=1, fewest_in_sync=1), Severity.WARNING, "has 1 copies, not 3"),
        (COMMANDS, _topic(settings={"min.insync.replicas": "1"}), Severity.WARNING, "min.insync.replicas is 1"),
        (COMMANDS, _topic(settings={"cleanup.policy": "compact"}), Severity.FAILURE, "not delete"),
        (ORDERS_CHANGELOG, _topic(settings={"cleanup.policy": "compact,delete"}), Severity.FAILURE, "not compact"),
        (COMMANDS, _topic(settings={"message.timestamp.type": "CreateTime"}), Severity.FAILURE, "not LogAppendTime"),
        (EVENTS, _topic(settings={"retention.ms": "3600000"}), Severity.WARNING, "keeps 1 h"),
        (EVENTS, _topic(settings={"retention.bytes": "1000"}), Severity.WARNING, "keeps 1000 bytes"),
    ],
)
def test_topic_fault_is_told_when_it_differs_from_the_catalogue(
    name: str, state: TopicState | None, severity: Severity, told: str
) -> None:
    _assert_told(topics_check.judge(_cluster(topics={name: state}), KAFKA), severity, told)


def test_topic_is_well_when_it_keeps_records_longer_or_for_ever() -> None:
    for kept in ("-1", "99999999999"):
        cluster = _cluster(topics={EVENTS: _topic(settings={"retention.ms": kept})})
        assert _worst(topics_check.judge(cluster, KAFKA)) is Severity.OK


def test_partitioners_agree_when_the_installed_clients_are_asked() -> None:
    installed = partitioner_check.installed_partitioners()
    assert set(installed) == {"engine", "librdkafka", "aiokafka"}
    assert _worst(partitioner_check.judge_computed(installed)) is Severity.OK


def test_partitioner_fault_is_told_when_one_hashes_otherwise() -> None:
    def librdkafkas_default(key: bytes, partitions: int) -> int:
        import zlib

        return zlib.crc32(key) % partitions

    partitioners: dict[str, Callable[[bytes, int], int]] = {"engine": partition_of, "foreign": librdkafkas_default}
    _assert_told(partitioner_check.judge_computed(partitioners), Severity.FAILURE, "gives: foreign")


def test_log_is_well_when_commands_stand_where_their_keys_belong() -> None:
    log = memory_log()
    for number in range(50):
        log.append([NewRecord(topic=COMMANDS, key=b"order-%d" % number, value=b"", headers=())])
    (finding,) = partitioner_check.judge_log(log)
    assert (finding.severity, "newest 50 commands" in finding.finding) == (Severity.OK, True)


def test_log_fault_names_the_producer_when_commands_stand_elsewhere() -> None:
    log = memory_log()
    wrong = (partition_of(b"order-1", PARTITIONS) + 1) % PARTITIONS
    headers = (("ce_source", b"shop/checkout"),)
    log.append([NewRecord(topic=COMMANDS, key=b"order-1", value=b"", headers=headers, partition=wrong)] * 2)
    log.append([NewRecord(topic=COMMANDS, key=None, value=b"", headers=(), partition=0)])
    findings = list(partitioner_check.judge_log(log))
    _assert_told(findings, Severity.FAILURE, "shop/checkout (2), unknown source (1)")
    for word in ("murmur2_random", "NewMurmur2Partitioner", "DefaultPartitioner"):
        assert word in findings[0].fix
        assert word in (ROOT / "docs/producing.md").read_text()


@pytest.mark.parametrize(
    ("behind_ms", "severity"),
    [(None, Severity.OK), (500, Severity.OK), (5_000, Severity.WARNING), (60_000, Severity.FAILURE)],
)
def test_clock_is_judged_by_the_newest_record_when_nothing_may_be_written(
    behind_ms: int | None, severity: Severity
) -> None:
    log = memory_log(lambda: 1_700_000_000_000)
    if behind_ms is not None:
        log.append([NewRecord(topic=EVENTS, key=b"k", value=b"", headers=())])
    findings = list(clock_check.judge_log(log, now_ms=1_700_000_000_000 - (behind_ms or 0)))
    assert [finding.severity for finding in findings] == [severity]


@pytest.mark.parametrize(
    ("stamped_ms", "severity", "told"),
    [
        (1_005, Severity.OK, "agree"),
        (9_000, Severity.WARNING, "8.0 s behind the broker's"),
        (-9_000, Severity.WARNING, "10.0 s ahead of the broker's"),
        (99_000, Severity.FAILURE, "behind"),
    ],
)
def test_clock_is_judged_by_the_brokers_stamp_when_it_was_probed(
    stamped_ms: int, severity: Severity, told: str
) -> None:
    finding = clock_check.judge_probe(sent_ms=1_000, stamped_ms=stamped_ms, acknowledged_ms=1_010)
    assert finding.severity is severity
    assert told in finding.finding


NOW_MS = 1_800_000_000_000
KEPT_MS = {COMMANDS: 7 * DAY_MS, QUERIES: HOUR_MS}


def _group(
    members: int = 1,
    lag: int = 0,
    state: str = "STABLE",
    age_ms: Mapping[str, int] | None = None,
    lost: tuple[Backlog, ...] = (),
) -> GroupState:
    return GroupState(
        state=state,
        members=members,
        lag={COMMANDS: lag},
        behind_by={COMMANDS: lag},
        oldest_ms={topic: NOW_MS - age for topic, age in (age_ms or {}).items()},
        lost=lost,
    )


def _lost(committed: int | None) -> Backlog:
    return Backlog(topic=COMMANDS, partition=3, committed=committed, begin=9, end=9)


@pytest.mark.parametrize(
    ("orders", "severity", "told"),
    [
        (None, Severity.WARNING, "does not tell about this group"),
        (_group(members=0), Severity.WARNING, "no orders worker runs"),
        (_group(lag=50_000), Severity.WARNING, "orders: 50000 records behind"),
        (_group(state="PREPARING_REBALANCING"), Severity.FAILURE, "orders: the group is in state"),
        (
            _group(members=0, lost=(_lost(4),)),
            Severity.FAILURE,
            f"up to 5 records were deleted before orders had read them: {COMMANDS} partition 3: 5 (committed 4, ",
        ),
        (_group(lost=(_lost(None),)), Severity.FAILURE, "partition 3: 9 (committed nothing, begins at 9)"),
        (_group(members=0, age_ms={COMMANDS: 4 * DAY_MS}), Severity.WARNING, "is 4.0 d old, and the topic keeps 7.0 d"),
        (_group(age_ms={COMMANDS: 6 * DAY_MS}), Severity.FAILURE, "is 6.0 d old, and the topic keeps 7.0 d"),
    ],
)
def test_worker_fault_is_told_when_a_group_is_absent_or_behind(
    orders: GroupState | None, severity: Severity, told: str
) -> None:
    groups = {"claims": _group(), "executor": _group()} | ({} if orders is None else {"orders": orders})
    _assert_told(workers_check.judge(groups, kept_ms=KEPT_MS, now_ms=NOW_MS), severity, told)


def test_age_of_the_oldest_unread_record_is_told_when_all_is_well() -> None:
    groups = {"orders": _group(lag=3, age_ms={COMMANDS: 2_500})}
    told = [finding.finding for finding in workers_check.judge(groups, kept_ms=KEPT_MS, now_ms=NOW_MS)]
    assert told[0] == "orders: 1 worker(s), 3 records behind, the oldest 2.5 s old"


def test_workers_are_well_when_they_keep_up() -> None:
    groups = dict.fromkeys(GROUPS, _group(age_ms={COMMANDS: 3 * DAY_MS, QUERIES: HOUR_MS}))  # who asked has gone
    assert _worst(workers_check.judge(groups, kept_ms=KEPT_MS, now_ms=NOW_MS)) is Severity.OK


def test_open_transaction_is_told_with_the_place_where_it_waits() -> None:
    waits = tuple(transactions_check.Wait(place=(COMMANDS, number), first=7, end=20) for number in range(12))
    (found,) = transactions_check.judge(waits)
    assert found.severity is Severity.WARNING
    assert f"{COMMANDS} partition 0 from offset 7 on (up to 13 records)" in found.finding
    assert found.finding.endswith("; and 2 more")
    assert "transaction.max.timeout.ms" in found.fix
    (well,) = transactions_check.judge(())
    assert well.severity is Severity.OK


def test_registry_is_well_when_none_is_configured() -> None:
    assert _worst(registry_check.examine(RegistrySettings())) is Severity.OK


def test_registry_fault_is_told_when_none_answers() -> None:
    unanswered = RegistrySettings(url="http://127.0.0.1:1", timeout_s=1)
    _assert_told(registry_check.examine(unanswered), Severity.FAILURE, "the schema registry")


def test_registry_fault_is_told_when_its_ids_mean_other_records_in_the_lock_file() -> None:
    packaged = packaged_schemas()
    own = SchemaIds.packaged()
    assert _worst(registry_check.judge_ids(own, packaged)) is Severity.OK
    first, second = packaged[0], packaged[1]
    writers = {first.schema_id: own.writer(second.schema_id), second.schema_id: own.writer(second.schema_id)}
    swapped = SchemaIds(own_ids={}, writers={number: each for number, each in writers.items() if each is not None})
    _assert_told(registry_check.judge_ids(swapped, packaged), Severity.WARNING, f"({first.record})")
