"""What PayPal's issues mean, sorted: the list is `issues.json`, which names its source. Pure; called by `translate`.

An issue is PayPal's word for why it refused a request. Sorted are all that its document lists for the calls made here,
and a test holds the file to that list. What they are called in the engine's words `declines.json` says.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib import resources
from types import MappingProxyType
from typing import Final

import orjson

FILE: Final = "issues.json"


class Sort(StrEnum):
    """What follows from an issue. The closest to money that may have moved comes first: of several it counts."""

    IN_DOUBT = "in_doubt"  # something was asked for, or paid, under this key or this reference, and it was not this
    UNDER_WAY = "under_way"  # PayPal is still at it
    DONE = "done"  # what a completion asks for is there already, or can come no more: a look at the order tells
    WAITS = "waits"  # the payer has not agreed yet
    DECLINED = "declined"  # the payer, the method, or somebody's rule about them
    NOT_DONE = "not_done"  # the hold or the capture does not allow it: perhaps since a copy of the call was carried out
    ACCOUNT = "account"  # our account may not, or is closed: someone must look, and another gateway may help
    OURS = "ours"  # a request that ought not to have been made so: someone must look


def _read() -> Mapping[str, Sort]:
    said = orjson.loads(resources.files(__package__).joinpath(FILE).read_bytes())
    sorts = {issue: Sort(sort) for sort, issues in said["sorts"].items() for issue in issues}
    if len(sorts) != sum(len(issues) for issues in said["sorts"].values()):
        raise ValueError(f"{FILE}: an issue is of one sort alone")
    # No issue, but the name of an error, which the document does not list: a request id that was used for another call.
    return MappingProxyType({**sorts, "DUPLICATE_REQUEST_ID": Sort.IN_DOUBT})


ISSUES: Final = _read()


def sorted_issue(issues: Sequence[str]) -> tuple[Sort, str]:
    """Return what follows from these issues of one answer, at least one, and the one that it follows from.

    One that nobody knows of is ours: until someone has looked at it, it means nothing else.
    """
    known = [issue for issue in issues if issue in ISSUES]
    for sort in Sort:
        for issue in known:
            if ISSUES[issue] is sort:
                return sort, issue
    return Sort.OURS, issues[0]
