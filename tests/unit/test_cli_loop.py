"""What every program does when it begins to serve."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from streams.cli.collector import CONTAINERS
from streams.cli.loop import announce


class _Half:
    half: "_Half"


@pytest.fixture
def own_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("own_collector")
def test_program_that_serves_has_the_collector_pass_over_what_its_start_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made_at_the_start = [["kept"]]

    announce("orders", 0)

    assert capsys.readouterr().out == "READY orders\n"
    assert gc.is_tracked(made_at_the_start)
    assert not any(each is made_at_the_start for each in gc.get_objects()), "it is walked by each full run"
    assert gc.get_threshold()[0] == CONTAINERS


@pytest.mark.usefixtures("own_collector")
def test_collector_still_frees_cycles_that_are_made_while_the_program_serves() -> None:
    announce("orders", 0)
    one, other = _Half(), _Half()
    one.half, other.half = other, one
    freed = weakref.ref(one)
    del one, other

    gc.collect()

    assert freed() is None
