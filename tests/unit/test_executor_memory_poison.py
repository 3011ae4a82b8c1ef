"""The executor's memory is made of a topic that others can write to: nothing on it may end the worker."""

import pytest

from schemas.messages import EncodedMessage
from streams.executor.past_results import Answers, PastResult, PastResults


@pytest.mark.parametrize(
    "headers",
    [(), (("ce_id", b"\xc5"),), (("ce_id", b""),), (("ce_id", b"\xff" * 300), ("ce_id", b"x"))],
    ids=["no id", "not text", "empty", "twice"],
)
def test_memory_is_made_when_a_stranger_wrote_to_the_results(headers: tuple[tuple[str, bytes], ...]) -> None:
    stranger = PastResult(timestamp_ms=1, message=EncodedMessage(value=b"\x00noise", headers=headers))
    assert len(Answers(PastResults(since_ms=0, results=[stranger]))) <= 1
