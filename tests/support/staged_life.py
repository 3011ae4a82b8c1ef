"""One life of an order with every ending, lived on a staged run: what the checker's own tests spoil."""

import copy
import functools
from collections import defaultdict

from gateway_adapters.mock import wire
from schemas import identifiers
from schemas.identifiers import OrderId
from schemas.records.commands import op_id_of
from tests.support.order_desk import DECLINE, ORDER, ORIGIN, PENDING, UNKNOWN, authorize, capture, refund
from tests.support.staged_run import StagedRun

PAYMENT = identifiers.payment_id(ORDER, op_id_of(authorize()))
KEY = identifiers.row_key(ORIGIN, ORDER)
# By their keys: what became of each operation of the valid run.
AUTHORIZED, CAPTURED, REFUSED, DECLINED, CONFLICTED, PENDED, DOUBTED = (
    "auth",
    "cap",
    "big",
    "no",
    "other",
    "late",
    "dark",
)


def valid_run() -> StagedRun:
    """A life with every ending: done, refused by the order, declined, conflicting, pending first, in doubt first."""
    run = StagedRun()
    run.send(authorize())
    run.send(capture(PAYMENT, 4_000))
    run.send(refund(PAYMENT, 9_000, key=REFUSED))
    run.send(refund(PAYMENT, 3_000, key=DECLINED), DECLINE)
    run.send(authorize(order=OrderId("order-2"), key="cap"))
    pended = run.send(refund(PAYMENT, 1_000, key=PENDED), PENDING)
    run.notice(pended, wire.Status.SUCCEEDED)
    run.send(refund(PAYMENT, 1_000, key=PENDED))
    doubted = run.send(capture(PAYMENT, 1_000, key=DOUBTED), UNKNOWN)
    run.fire(doubted)
    run.send(capture(PAYMENT, 1_000, key=DOUBTED))
    run.history.requests = [each for each in run.history.requests if each.last.status != 202]
    return run


@functools.cache
def _lived() -> StagedRun:
    return valid_run()


def valid_log() -> StagedRun:
    """Return the valid run, lived once for all tests, with a log and a changelog of its own to spoil by hand."""
    run = copy.copy(_lived())
    run.log = defaultdict(list, {topic: list(records) for topic, records in run.log.items()})
    run.changelog = list(run.changelog)
    return run
