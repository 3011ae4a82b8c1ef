"""The releases of the engine, as far as the log knows them: a number that rises with each that writes otherwise.

Called by the Avro codec (what is written now), by the shell of the programs and by `payment-engine upgrade`. Pure.

A release writes as the one before it did until an operator says that the upgrade is finished. Until then the workers of
both read all that stands on the log, so that the upgrade can be taken back. From then on a worker of an earlier
release stops, and says that it is older than what it reads.
"""

from typing import Final

RELEASE: Final = 1
"""Of this program. It rises with the first new version of a schema after a release, and with the rules' next."""

FIRST_RELEASE: Final = 1
"""The one that froze the first versions."""

UNRECOGNISED: Final = "unrecognised"
"""The first symbol of every enumeration, and its default: what a reader is given that does not know the writer's.

Nobody writes it. It is no member of any of our enumerations, so that no code can take it for a state or an outcome.
"""

UPGRADE_IT: Final = "this program is older than what it reads: upgrade it"


class OutdatedError(Exception):
    """A later release wrote what a program reads. It ends, having guessed nothing, and says what is to be done.

    Started again it ends again, until it is upgraded: nothing was lost, and nothing is skipped.
    """

    def __init__(self, place: str, detail: str) -> None:
        """Take where it was met, for a person, and the detail of the `OtherReleaseError`."""
        super().__init__(f"{place}: {detail}")


def place_of(topic: str, partition: int, offset: int) -> str:
    """Return how a record's place is told to a person."""
    return f"{topic}, partition {partition}, offset {offset}"


DRAFT_IDS: Final = range(0x50454C00, 0x50454D00)
"""Ids that the packaged schemas had before the first release froze them. What was written so means something else."""

PACKAGED_IDS: Final = range(0x50454D00, 0x50456000)
"""Ids of the packaged lock, of this release and of later ones: where no registry ever counts to ("PEL" and on, in
ASCII), so that a log that began without a registry stays readable after one was configured."""


def release_to_write(finished: int | None, *, this: int = RELEASE) -> int:
    """Return as which release a program writes, when the upgrade to `finished` was the last that was finished.

    None: none was, on this log. The release before the program's own is what a rollback goes to.
    """
    before = max(FIRST_RELEASE, this - 1)
    return before if finished is None else min(this, max(before, finished))
