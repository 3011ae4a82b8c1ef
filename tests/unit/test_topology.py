"""The page of components against everything it can be held to without a broker: catalogue, settings, Compose, Faust."""

from pathlib import Path

import yaml

from schemas import topics
from schemas.topics import CATALOGUE, Cleanup
from streams.cli import programs
from streams.cli.topology import RIGHTS_END, RIGHTS_START
from streams.kafka.worker import build_worker
from streams.operator_tools.rights import OPERATOR, PRODUCER, all_rights, as_markdown
from streams.settings import Settings, variables
from streams.topology import COMPONENTS, GROUPS, ORDERS, SOURCE_TOPICS
from tests.support.command_line import json_of, run_command

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OPERATIONS = ROOT / "docs" / "operations.md"


def test_every_topic_of_the_catalogue_is_written_and_read_by_somebody_when_the_page_is_read() -> None:
    written = {name for each in COMPONENTS.values() for name in (*each.writes, *each.changelogs)}
    read = {name for each in COMPONENTS.values() for name in each.reads}
    named = {each.name for each in CATALOGUE}
    assert written | {topics.POLICIES, topics.UPGRADES} == named
    assert (
        read | {topics.DLQ, topics.EVENTS, topics.WAITING} == named
    )  # for merchants the events, for operators the rest


def test_changelogs_are_the_compacted_topics_beside_policies_and_what_waits_when_the_page_is_read() -> None:
    compacted = {each.name for each in CATALOGUE if each.cleanup is Cleanup.COMPACT}
    changelogs = {name for each in COMPONENTS.values() for name in each.changelogs}
    assert changelogs | {topics.POLICIES, topics.UPGRADES, topics.WAITING, topics.REFERENCES} == compacted


def test_each_source_topic_has_one_group_when_the_page_is_read() -> None:
    assert len(SOURCE_TOPICS) == sum(len(names) for names in GROUPS.values())
    assert set(GROUPS) == {"orders", "claims", "executor"}


def test_ports_are_all_different_when_the_page_is_read() -> None:
    ports = [port for each in COMPONENTS.values() for port in (each.health_port, each.http_port) if port is not None]
    assert len(set(ports)) == len(ports)


def test_settings_groups_exist_and_each_is_somebodys_when_the_page_is_read() -> None:
    named = [set(each.settings_groups) for each in COMPONENTS.values()]
    assert set.union(*named) == set(Settings.GROUPS)
    http_port = dict(variables())["PAYMENT_ENGINE_HTTP_PORT"].default
    assert http_port == COMPONENTS["ingress"].http_port


def test_programs_that_speak_to_the_log_are_the_components_when_the_command_line_names_them() -> None:
    assert list(programs.COMPONENTS) == list(COMPONENTS)
    assert {name for name, each in COMPONENTS.items() if each.group is None} == programs.WITHOUT_GROUP


def test_compose_has_a_service_for_each_component_and_opens_its_port_when_it_is_read() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, component in COMPONENTS.items():
        assert services[name]["command"][0] == name
        opened = {int(port.rpartition(":")[2]) for port in services[name].get("ports", ())}
        assert opened <= {component.http_port, component.health_port}
        assert component.http_port is None or component.http_port in opened


async def test_faust_names_the_changelogs_as_the_page_does_when_a_worker_is_built() -> None:
    worker = build_worker(
        app_id=ORDERS.name,
        bootstrap_servers="localhost:1",
        source_topics=ORDERS.source_topics,
        tables=ORDERS.tables,
        partitions=1,
        handler=lambda _event, _read: None,  # type: ignore[arg-type,return-value]  # never called
    )
    assert {table.changelog_topic_name for table in worker.app.tables.values()} == set(ORDERS.changelogs)
    assert worker.app.conf.id == ORDERS.group


def test_operations_holds_the_generated_table_of_rights() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    assert RIGHTS_START in text
    table = text.partition(RIGHTS_START)[2].partition(RIGHTS_END)[0].strip()
    assert table == as_markdown(all_rights()), (
        "run `payment-engine topology -o markdown` and put it between the markers of docs/operations.md"
    )


def test_only_those_who_may_can_write_to_each_topic_when_the_rights_are_read() -> None:
    writers: dict[str, set[str]] = {}
    for right in all_rights():
        if right.resource == "topic" and "Write" in right.operations and not right.prefixed:
            for name in right.names:
                writers.setdefault(name, set()).add(right.principal)
    assert set(writers) == {each.name for each in CATALOGUE}
    assert writers[topics.COMMANDS] == {"User:payment-engine-ingress", PRODUCER, OPERATOR}
    assert writers[topics.DECISIONS] <= {"User:payment-engine-operators", OPERATOR}  # evidence: no merchant's
    for each in COMPONENTS.values():
        for changelog in each.changelogs:
            assert writers[changelog] == {each.principal}


def test_commands_of_kafka_acls_name_every_right_when_they_are_printed() -> None:
    lines = run_command("topology", "-o", "acls").stdout.splitlines()
    assert len(lines) == len(all_rights())
    wanted = f"--allow-principal {PRODUCER} --operation Write --topic {topics.COMMANDS}"
    assert [line for line in lines if line.endswith(wanted)]
    assert all(line.startswith('kafka-acls.sh --bootstrap-server "$BOOTSTRAP_SERVERS" --add ') for line in lines)


def test_topology_names_every_component_when_it_is_printed() -> None:
    printed = json_of(run_command("topology", "-o", "json"))
    assert [each["component"] for each in printed] == list(COMPONENTS)
    assert [each["reads"] for each in printed] == [list(each.source_topics) for each in COMPONENTS.values()]
    text = run_command("topology").stdout
    assert all(name in text for each in COMPONENTS.values() for name in (*each.reads, *each.writes, each.principal))
