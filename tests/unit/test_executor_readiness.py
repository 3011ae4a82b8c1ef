"""What an executor says of its readiness, from before it joins its group to its end."""

from tests.support.executor_scene import FIRST, Scene, started
from tests.support.gateway_calls import TellableGateway

SESSION_LONG_PAST_S = 600.0


async def test_executor_is_ready_once_its_group_knows_it_and_not_while_that_is_silent() -> None:
    scene = Scene(TellableGateway())
    assert scene.executor.faults() == ("not a member of its group yet",)
    async with started(scene):
        await scene.consumer.rebalance([FIRST])
        assert scene.executor.faults() == ()
        scene.skipped_s += SESSION_LONG_PAST_S  # nothing was heard of the group meanwhile
        assert scene.executor.faults() == ("its group does not answer",)
        await scene.consumer.rebalance([FIRST])
        assert scene.executor.faults() == ()
        scene.executor.request_stop()
        assert scene.executor.faults() == ("stopping",)


async def test_executor_that_its_group_leaves_without_a_partition_is_ready() -> None:
    async with started(Scene(TellableGateway())) as scene:
        await scene.consumer.rebalance([])
        assert scene.executor.faults() == ()
