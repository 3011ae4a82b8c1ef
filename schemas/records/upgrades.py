"""Which release the log is written as, on the compacted topic `upgrades.v1` (one key, `UPGRADE_KEY`)."""

from dataclasses import dataclass
from typing import Final

from schemas.quick_init import quick_init

UPGRADE_KEY: Final = b"release"


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeFinished:
    """No worker of an earlier release runs, and none will: from now on all write as this one."""

    release: int  # `schemas.releases.RELEASE` of the program that was told so
    finished_at_ms: int
