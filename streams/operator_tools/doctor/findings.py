"""What the doctor says: a finding, why it matters, what to do. Made by every check, printed by `streams.cli.doctor`."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # works, but not as production should
    FAILURE = "failure"  # payments do not flow, or a guarantee does not hold


class Subject(StrEnum):
    """What a finding is about."""

    SETTINGS = "settings"
    BROKER = "broker"
    TOPICS = "topics"
    PARTITIONER = "partitioner"
    REGISTRY = "registry"
    CLOCK = "clock"
    WORKERS = "workers"
    UPGRADE = "upgrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: Subject
    severity: Severity
    finding: str
    why: str = ""  # why it matters; empty when all is well
    fix: str = ""  # what to do; empty when there is nothing to do


def ok(subject: Subject, finding: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(subject=subject, severity=Severity.OK, finding=finding)


def warning(subject: Subject, finding: str, *, why: str, fix: str) -> Finding:
    """Return a finding that production should not have."""
    return Finding(subject=subject, severity=Severity.WARNING, finding=finding, why=why, fix=fix)


def failure(subject: Subject, finding: str, *, why: str, fix: str) -> Finding:
    """Return a finding that breaks the flow of payments or a guarantee."""
    return Finding(subject=subject, severity=Severity.FAILURE, finding=finding, why=why, fix=fix)
