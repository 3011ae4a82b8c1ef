"""What every test may ask for: a real Apache Kafka, and proof at the end that it was really used."""

import contextlib
import os
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from coverage import Coverage
from coverage.exceptions import CoverageWarning

from tests.faults.kinds.brokers import SETTINGS
from tests.kafka_cluster import FoundKafka, KafkaCluster, KafkaUnavailableError, find_kafka
from tests.side_by_side import HALVES

REQUIRE_VARIABLE = "TESTS_REQUIRE_KAFKA"
"""Set to 1 where a suite without Apache Kafka counts for nothing (continuous integration)."""

COVERAGE_VARIABLE = "COVERAGE_PROCESS_CONFIG"
"""Tells the processes that a test starts to count their coverage too (coverage.py, `patch = subprocess`)."""

KAFKA_FIXTURES = frozenset({"kafka", "kafka_cluster_of_three", "proxied_kafka_of_three", "own_kafka", "guarded_kafka"})

os.environ.setdefault("PAYMENT_ENGINE_HEALTH_PORT", "0")  # programs that a test starts take no port unless it says so

_passed_on_kafka: set[str] = set()


def _kafka_is_required() -> bool:
    return os.environ.get(REQUIRE_VARIABLE) == "1"


@contextlib.contextmanager
def or_skip() -> Iterator[None]:
    """Without Apache Kafka a test is skipped with the reason, or fails where it is required."""
    try:
        yield
    except KafkaUnavailableError as missing:
        if _kafka_is_required():
            pytest.fail(f"{REQUIRE_VARIABLE}=1, but: {missing}", pytrace=False)
        pytest.skip(f"no Apache Kafka: {missing}")


@pytest.fixture(scope="session")
def kafka() -> Iterator[FoundKafka]:
    """One node of a real Apache Kafka, shared by the whole session. Topics are not created by themselves."""
    with contextlib.ExitStack() as stack:
        with or_skip():
            found = stack.enter_context(find_kafka())
        yield found


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[KafkaCluster]:
    """One node for the tests of a module alone, which may kill it."""
    with contextlib.ExitStack() as stack:
        with or_skip():
            cluster = stack.enter_context(KafkaCluster(brokers=1))
        yield cluster


@pytest.fixture
def kafka_cluster_of_three() -> Iterator[KafkaCluster]:
    """Three nodes for one test, which may kill, freeze, thaw and start them by `cluster.nodes[n]`."""
    with contextlib.ExitStack() as stack:
        with or_skip():
            cluster = stack.enter_context(KafkaCluster(brokers=3))
        yield cluster


@pytest.fixture
def proxied_kafka_of_three() -> Iterator[KafkaCluster]:
    """Three nodes whose clients come through proxies, which the test runs (`tests.faults`)."""
    with contextlib.ExitStack() as stack:
        with or_skip():
            cluster = stack.enter_context(KafkaCluster(brokers=3, proxied=True, settings=SETTINGS))
        yield cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a Kafka fixture is a `kafka` test, marked by hand or not."""
    for item in items:
        if KAFKA_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """An `untraced` test, and the processes that it starts, count for no coverage: tracing takes most of their time."""
    tracing = Coverage.current() if item.get_closest_marker("untraced") else None
    if tracing is None:
        return (yield)
    os.environ.pop(COVERAGE_VARIABLE, None)  # which the start below sets again
    tracing.stop()
    try:
        return (yield)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoverageWarning)  # that what it traces was imported before
            tracing.start()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what really ran and passed on Apache Kafka."""
    if report.when == "call" and report.passed and "kafka" in report.keywords:
        _passed_on_kafka.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole suite in which no Kafka test passed is no success where Kafka is required."""
    if (
        exitstatus == pytest.ExitCode.OK
        and _kafka_is_required()
        and _whole_suite(session.config)
        and not _passed_on_kafka
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"{REQUIRE_VARIABLE}=1, but no test ran on Apache Kafka", red=True)


def _whole_suite(config: pytest.Config) -> bool:
    """Whether this is all of it, or one of the halves that run side by side."""
    options = config.option
    narrowed = options.keyword or options.markexpr or options.collectonly or getattr(options, "lf", False)
    whole = {Path(config.rootpath, folder).resolve() for folder in config.getini("testpaths")}
    given = {Path(config.invocation_params.dir, argument).resolve() for argument in config.args}
    return not narrowed and given in (whole, *map(set, HALVES.values()))
