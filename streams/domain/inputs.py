"""What can happen to an order: the inputs of `order.decide`, made by the orders agent from records of its topics.

`now_ms` is the Kafka timestamp of the record, so that a replay sees the time that the first run saw. `possible_replay`
says that the record's offset lay below the log end when the partition was assigned: it may have been handled before,
and what that made may be lost (the re-drive rule of DESIGN.md).
"""

from dataclasses import dataclass

from gateway_adapters.contract import GatewayNotice
from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, CommandId
from schemas.quick_init import quick_init
from schemas.records.claims import ClaimDecided
from schemas.records.commands import Command
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted
from schemas.records.payments import ReplyTo
from schemas.records.timers import TimerFired


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReceived:
    """A valid command. `reply_to` is None when nobody waits; its request id is the command id.

    `offset`: where it stands, in the order's partition of the commands. What only its gateway may know is read there.
    """

    command: Command
    command_id: CommandId
    offset: int
    reply_to: ReplyTo | None
    traceparent: str | None
    now_ms: int
    possible_replay: bool


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReceived:
    """The claims agent has decided."""

    verdict: ClaimDecided
    now_ms: int
    possible_replay: bool


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReceived:
    """The executor has made a call."""

    result: GatewayCallCompleted
    now_ms: int
    possible_replay: bool


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeReceived:
    """A gateway's webhook, translated."""

    notice: GatewayNotice
    now_ms: int
    possible_replay: bool
    account: AccountName = DEFAULT_ACCOUNT  # at the gateway: the one whose secret it was signed with


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class TimerReceived:
    """A time has come: one that the order asked for, or the end of its life, by the sweep of the orders table."""

    timer: TimerFired
    now_ms: int
    possible_replay: bool


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionReceived:
    """A person has decided. `reply_to` is None when nobody waits."""

    decision: DecisionMade
    reply_to: ReplyTo | None
    now_ms: int
    possible_replay: bool


OrderInput = CommandReceived | VerdictReceived | ResultReceived | NoticeReceived | TimerReceived | DecisionReceived
