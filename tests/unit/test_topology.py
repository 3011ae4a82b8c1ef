"""The page of components against everything it can be held to without a broker: catalogue, settings, Compose, Faust."""

from pathlib import Path

import yaml

from schemas import topics
from schemas.topics import CATALOGUE, Cleanup
from streams import bootstrap
from streams.kafka.worker import build_worker
from streams.settings import Settings, variables
from streams.topology import COMPONENTS, GROUPS, ORDERS, SOURCE_TOPICS

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def test_every_topic_of_the_catalogue_is_written_and_read_by_somebody_when_the_page_is_read() -> None:
    written = {name for each in COMPONENTS.values() for name in (*each.writes, *each.changelogs)}
    read = {name for each in COMPONENTS.values() for name in each.reads}
    named = {each.name for each in CATALOGUE}
    assert written | {topics.POLICIES} == named
    assert read | {topics.DLQ, topics.EVENTS} == named  # events are for merchants


def test_changelogs_are_the_compacted_topics_beside_the_policies_when_the_page_is_read() -> None:
    compacted = {each.name for each in CATALOGUE if each.cleanup is Cleanup.COMPACT}
    assert {name for each in COMPONENTS.values() for name in each.changelogs} | {topics.POLICIES} == compacted


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


def test_programs_are_the_components_when_they_are_composed() -> None:
    assert set(bootstrap.COMPONENTS) | {"ingress"} == set(COMPONENTS)


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
