"""What every test may ask for: a real Apache Kafka. The end proves that it was really used, and that peers judged."""

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
from tests.peers import REQUIRE_VARIABLE as REQUIRE_PEERS_VARIABLE
from tests.peers import peers_are_required
from tests.side_by_side import HALVES
from tests.support import peers

REQUIRE_VARIABLE = "TESTS_REQUIRE_KAFKA"
"""Set to 1 where a suite without Apache Kafka counts for nothing (continuous integration)."""

COVERAGE_VARIABLE = "COVERAGE_PROCESS_CONFIG"
"""Tells the processes that a test starts to count their coverage too (coverage.py, `patch = subprocess`)."""

KAFKA_FIXTURES = frozenset({"kafka", "kafka_cluster_of_three", "proxied_kafka_of_three", "own_kafka", "guarded_kafka"})

os.environ.setdefault("PAYMENT_ENGINE_HEALTH_PORT", "0")  # programs that a test starts take no port unless it says so

CANARIES = Path(__file__).with_name("contract")
"""The folder in which every peer must refuse something."""

_passed_on_kafka: set[str] = set()
_refused_by: set[str] = set()


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
    """Count what really ran and passed on Apache Kafka, and which peers refused what they must."""
    if report.when == "call" and report.passed:
        if "kafka" in report.keywords:
            _passed_on_kafka.add(report.nodeid)
        _refused_by.update(str(value) for name, value in report.user_properties if name == peers.CANARY)


def pytest_unconfigure() -> None:
    """End the peers that this session has shared."""
    peers.stop_all()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole suite is no success when no Kafka test passed, or a peer refused nothing, where these are required."""
    if exitstatus != pytest.ExitCode.OK or not _whole_suite(session.config):
        return
    for complaint in _complaints(_given(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(complaint, red=True)


def _complaints(folders: set[Path]) -> Iterator[str]:
    if _kafka_is_required() and not _passed_on_kafka:
        yield f"{REQUIRE_VARIABLE}=1, but no test ran on Apache Kafka"
    silent = sorted(set(peers.NAMES) - _refused_by)
    if peers_are_required() and folders & {CANARIES, CANARIES.parent} and silent:
        yield f"{REQUIRE_PEERS_VARIABLE}=1, but these peers refused nothing: {', '.join(silent)}"


def _whole_suite(config: pytest.Config) -> bool:
    """Whether this is all of it, or one of the halves that run side by side."""
    options = config.option
    narrowed = options.keyword or options.markexpr or options.collectonly or getattr(options, "lf", False)
    whole = {Path(config.rootpath, folder).resolve() for folder in config.getini("testpaths")}
    return not narrowed and _given(config) in (whole, *map(set, HALVES.values()))


def _given(config: pytest.Config) -> set[Path]:
    return {Path(config.invocation_params.dir, argument).resolve() for argument in config.args}
