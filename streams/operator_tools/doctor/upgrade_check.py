"""Is an upgrade under way, or is this program older than the log? Called by `examination`; asks the log."""

from collections.abc import Iterator

from schemas.decode_errors import OtherReleaseError
from schemas.messages import MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.releases import OutdatedError
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.operator_tools.log import Log
from streams.operator_tools.upgrades import upgrade_of


def judge_log(log: Log, codec: MessageCodec) -> Iterator[Finding]:
    """Yield how far the upgrade to this release is."""
    try:
        upgrade = upgrade_of(log, codec)
    except (OutdatedError, OtherReleaseError, MisconfiguredError) as error:
        yield failure(
            Subject.UPGRADE,
            str(error),
            why="No program of this release starts on this log.",
            fix="Install the release that the log is written as; docs/operations.md, 'Upgrades'.",
        )
        return
    if upgrade.is_open:
        yield warning(
            Subject.UPGRADE,
            f"this is release {upgrade.own_release}, and the log is written as release {upgrade.written}",
            why="What this release adds is not used yet, so that the upgrade can be taken back.",
            fix="Once no program of the release before runs: `payment-engine upgrade finish`.",
        )
    else:
        yield ok(Subject.UPGRADE, f"the log is written as this release, {upgrade.own_release}")
