"""The orders agent: every input of an order, in log order, through the pure state machine.

Reads the commands, verdicts, results, webhooks, timers and queries of its partitions; keeps the orders table and the
table of open timers; speaks to claims, executor, events and replies. It also keeps the references index: what that is
asked and told stands in the reference's partition, which is another than its order's as a rule.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from gateway_adapters.contract import Capabilities
from gateway_adapters.errors import Code
from gateway_adapters.policy import policy_for
from gateway_adapters.routing import Routed, plan_for, routed
from gateway_adapters.spec import GatewaySpec
from schemas import identifiers, topics
from schemas.card_disguises import hides_card_number, without_card_number
from schemas.commands_validation import CardDataError, InvalidCommandError, validate
from schemas.identifiers import GatewayName, GatewayRoute, InvalidIdentifierError, OpId, OrderId, OriginId
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimDecided, RoutePlan
from schemas.records.commands import (
    CaptureRequested,
    Command,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried
from schemas.records.gateway import GatewayCallCompleted, WebhookReceived
from schemas.records.orders import ApartRow, OperationRow, OrderRow
from schemas.records.payments import PaymentQueried, ReplyTo
from schemas.records.policies import OriginPolicy
from schemas.records.references import ReferenceDropped, ReferenceKept
from schemas.records.timers import OpenTimer, OrderExpiryRequested, TimerFired
from schemas.vocabulary import DeadLetterReason, Outcome, TimerKind
from streams.agents import decisions
from streams.agents.dues import due_of_order, due_of_timer, end_of_order
from streams.agents.intake import Intake, RefusedError, Taken
from streams.agents.references import Parking, References
from streams.agents.speech import Speech
from streams.agents.timers import timer_key, timer_message
from streams.agents.waiting import say_waiting
from streams.agents.webhooks import Webhooks
from streams.domain.apart import Load, with_loaded
from streams.domain.inputs import (
    CommandReceived,
    DecisionReceived,
    NoticeReceived,
    OrderInput,
    ResultReceived,
    TimerReceived,
    VerdictReceived,
)
from streams.domain.limits import Rules
from streams.domain.order import decide
from streams.domain.outputs import ClearTimer, KeepApart, Output, Reply, SayTimer, SetTimer
from streams.domain.views import answer_query
from streams.kafka.step import Due, InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.telemetry import metrics
from streams.topology import OPERATIONS_TABLE, ORDERS_TABLE, TIMERS_TABLE

Policies = Callable[[], Mapping[str, OriginPolicy]]

NOWHERE: Final = "none"
"""Of a payment that is refused, or would be."""

log = structlog.get_logger(__name__)


class OrdersAgent:
    """Turns an order's inputs into decisions."""

    def __init__(
        self,
        codec: MessageCodec,
        *,
        partitions: int,
        policies: Policies,
        gateways: Mapping[GatewayName, GatewaySpec],
        capabilities: Mapping[GatewayRoute, Capabilities],
        parking: Parking,
        rules: Rules,
    ) -> None:
        """Build the agent.

        Args:
            codec: The published language.
            partitions: Of every topic; a record in another partition than its key's is refused.
            policies: The policies as they are now; read before a claim is made, which pins them.
            gateways: Those whose webhooks can be translated.
            capabilities: Of each account that a plan may name.
            parking: How much waits for references in this worker's partitions, kept in step with its table.
            rules: What the deployment sets of the domain's rules.
        """
        self._codec = codec
        self._intake = Intake(codec, partitions=partitions)
        self._speech = Speech(codec)
        self._references = References(codec, self._intake, gateways, capabilities, parking)
        self._webhooks = Webhooks(codec, self._intake, gateways, self._references)
        self._policies = policies
        self._gateways = gateways
        self._capabilities = capabilities
        self._rules = rules

    def take(self, event: InputEvent, read: RowReader) -> Step:
        """Return the rows to keep and the messages to send for one record; `accepted` follows if it is to hold.

        Raises: RefusedError.
        """
        self._references.forget_changes()
        if event.value is None and event.topic == topics.REFERENCES:
            return Step(rows=(), speak=())  # a tombstone, for the topic's compaction
        taken = self._intake.decode(event)
        match taken.record:
            case PaymentQueried() | DecisionTried():
                step = self._answer(event, taken.record, read)
            case DecisionProposed():
                step = Step(rows=(), speak=())  # nothing follows from it before another person approves it
            case WebhookReceived():
                step = self._noticed(event, taken, taken.record, read)
            case ReferenceKept() | ReferenceDropped():
                step = self._references.take(event, taken.record, read)
            case OrderExpiryRequested():
                step = self._expired(event, taken.record, read)
            case _:
                origin, order, each = self._input(event, taken)
                self._intake.require_key(event, order.encode())
                key = identifiers.row_key(origin, order)
                if isinstance(each, DecisionReceived):
                    decisions.require_known(self._row(read(ORDERS_TABLE, key)), each, self._load(key, read))
                step = self._decided(event, key, (each,), read)
        return step

    def _noticed(self, event: InputEvent, taken: Taken, webhook: WebhookReceived, read: RowReader) -> Step:
        came = self._webhooks.take(event, taken, webhook, read)
        if isinstance(came, Step):
            return came
        key = identifiers.row_key(came.origin_id, came.order_id)
        if read(ORDERS_TABLE, key) is None:
            # Its origin is another system's, or it ended long ago. Nothing of ours is settled by it.
            metrics.count("webhooks_ignored", len(came.notices), gateway=webhook.gateway, reason="order_unknown")
            return Step(rows=(), speak=())
        unknown = sum(each.error is not None and each.error.code == Code.UNKNOWN for each in came.notices)
        if unknown:
            metrics.count("declines_unknown", unknown, gateway=webhook.gateway)
        now_ms, replay = event.timestamp_ms, event.possible_replay
        inputs = [
            NoticeReceived(notice=each, now_ms=now_ms, possible_replay=replay, account=webhook.account)
            for each in came.notices
        ]
        return self._decided(event, key, inputs, read)

    def _decided(self, event: InputEvent, key: bytes, inputs: Sequence[OrderInput], read: RowReader) -> Step:
        stored = read(ORDERS_TABLE, key)
        before = self._row(stored)
        row = before
        outputs: list[Output] = []
        loaded: dict[OpId, OperationRow] = {}
        load = self._load(key, read)
        for each in inputs:
            decision = decide(row, each, self._plan, self._rules, load)
            row = decision.row
            outputs += decision.outputs
            loaded.update((operation.op_id, operation) for operation in decision.loaded)
        # What is said is said of all that this is about, wherever it stands; what is kept is the row alone.
        was, now = before, row
        if loaded:
            was, now = with_loaded(before, loaded.values()), with_loaded(row, loaded.values())
        # A decision that was heard before is answered once the row that holds it is durable, and not by itself sooner.
        kept = event.possible_replay or any(isinstance(each, DecisionReceived) for each in inputs)
        rows = [] if row == before and not (kept and row is not None) else [self._written(key, row, replaced=stored)]
        step = self._step(event, rows, was, now, outputs, load)
        # A command alone sends nothing to a gateway, and learns no reference: its replay has none to say again.
        again = event.possible_replay and event.topic != topics.COMMANDS
        about = self._references.said_by(was, now, again=again, now_ms=event.timestamp_ms)
        for each in inputs:
            if isinstance(each, TimerReceived) and each.timer.references:
                about = [*about, *self._references.left_by(each.timer, row, now_ms=event.timestamp_ms)]
        return Step(rows=step.rows, speak=[*step.speak, *about]) if about else step

    def _expired(self, event: InputEvent, request: OrderExpiryRequested, read: RowReader) -> Step:
        """Let each order go whose life is over. A row that says another time is written again, with its time.

        It is not the one that was meant: with it, other references may leave than those that are named.
        """
        rows: list[RowWrite] = []
        speak: list[Outgoing] = []
        for timer in request.orders:
            self._intake.require_here(event, timer.order_id.encode())
            key = identifiers.row_key(timer.origin_id, timer.order_id)
            row = self._row(read(ORDERS_TABLE, key))
            if row is not None and end_of_order(row, self._rules) != timer.due_at_ms:
                rows.append(self._written(key, row, replaced=None))
                continue
            asked = TimerReceived(timer=timer, now_ms=event.timestamp_ms, possible_replay=event.possible_replay)
            step = self._decided(event, key, (asked,), read)
            rows += step.rows
            speak += step.speak
        return Step(rows=rows, speak=speak)

    def _due(self, row: OrderRow) -> Due:
        return due_of_order(row, self._rules, self._references.indexed)

    def _written(self, key: bytes, row: OrderRow | None, *, replaced: bytes | None) -> RowWrite:
        if row is None:
            return RowWrite(table=ORDERS_TABLE, key=key, value=None)
        value = self._codec.encode_row(row, replaced=replaced)
        return RowWrite(table=ORDERS_TABLE, key=key, value=value, due=self._due(row))

    def _row(self, stored: bytes | None) -> OrderRow | None:
        return None if stored is None else self._codec.decode_row(OrderRow, stored)

    def _load(self, key: bytes, read: RowReader) -> Load:
        """Return what reads the rows beside an order's."""

        def load(name: str) -> ApartRow | None:
            stored = read(OPERATIONS_TABLE, key + b"|" + name.encode())
            return None if stored is None else self._codec.decode_row(ApartRow, stored)

        return load

    def _try(self, event: InputEvent, trial: DecisionTried, read: RowReader) -> Step:
        """Answer what would become of the decision; nothing of it is kept, and nothing else is said."""
        received = decisions.decision_tried(event, trial)
        key = identifiers.row_key(trial.origin_id, trial.order_id)
        row = self._row(read(ORDERS_TABLE, key))
        outputs = decide(row, received, self._plan, self._rules, self._load(key, read)).outputs
        replies = [each for each in outputs if isinstance(each, Reply) and each.to == received.reply_to]
        now_ms = event.timestamp_ms
        said = [self._speech.reply(each.reply, to_partition=each.to.partition, now_ms=now_ms) for each in replies]
        return Step(rows=(), speak=said)

    def accepted(self) -> None:
        """The step last returned is carried out: count what is parked as it has it. Not before: it may be dropped."""
        self._references.accepted()

    def _input(self, event: InputEvent, taken: Taken) -> tuple[OriginId, OrderId, OrderInput]:
        record = taken.record
        now_ms, replay = event.timestamp_ms, event.possible_replay
        each: OrderInput
        match record:
            case PaymentRequested() | CaptureRequested() | VoidRequested() | RefundRequested() | CompletionRequested():
                each = self._command(event, taken.envelope, record)
            case ClaimDecided():
                each = VerdictReceived(verdict=record, now_ms=now_ms, possible_replay=replay)
            case GatewayCallCompleted():
                in_time = _in_time(record, taken.envelope, event.timestamp_ms)
                each = ResultReceived(result=in_time, now_ms=now_ms, possible_replay=replay)
            case DecisionMade():
                each = decisions.decision_received(event, taken.envelope, record, self._intake)
            case TimerFired():
                each = TimerReceived(timer=record, now_ms=now_ms, possible_replay=replay)
            case _:
                detail = f"{taken.envelope.type} does not belong on this topic"
                raise RefusedError(DeadLetterReason.UNKNOWN_TYPE, detail)
        return record.origin_id, record.order_id, each

    def _command(self, event: InputEvent, envelope: Envelope, command: Command) -> CommandReceived:
        try:
            validate(command)
            command_id = identifiers.command_id(envelope.id)
        except CardDataError as error:
            raise RefusedError(DeadLetterReason.CARD_NUMBER, str(error)) from error
        except (InvalidCommandError, InvalidIdentifierError) as error:
            raise RefusedError(DeadLetterReason.INVALID, str(error)) from error
        if hides_card_number(command_id):
            raise RefusedError(DeadLetterReason.CARD_NUMBER, "ce_id looks like a card number")
        waits_on = envelope.replypartition
        self._intake.require_reply_partition(waits_on)
        return CommandReceived(
            command=command,
            command_id=command_id,
            offset=event.offset,
            reply_to=None
            if waits_on is None
            else ReplyTo(request_id=envelope.id, partition=waits_on, final_only=envelope.replyfinal == 1),
            traceparent=without_card_number(envelope.traceparent),
            now_ms=event.timestamp_ms,
            possible_replay=event.possible_replay,
        )

    def _plan(self, command: Command) -> RoutePlan:
        policies = self._policies()
        if not isinstance(command, PaymentRequested):
            return plan_for(policies, command, self._capabilities)
        found = routed(policy_for(policies, command.origin_id), command, self._capabilities)
        _tell_shadow(command, found)
        return found.plan

    def _answer(self, event: InputEvent, query: PaymentQueried | DecisionTried, read: RowReader) -> Step:
        self._intake.require_key(event, query.order_id.encode())
        self._intake.require_reply_partition(query.reply_partition)
        if isinstance(query, DecisionTried):
            return self._try(event, query, read)
        key = identifiers.row_key(query.origin_id, query.order_id)
        row = self._row(read(ORDERS_TABLE, key))
        reply = answer_query(row, query, event.timestamp_ms, self._load(key, read))
        message = self._speech.reply(reply, to_partition=query.reply_partition, now_ms=event.timestamp_ms)
        return Step(rows=(), speak=(message,))

    def _step(
        self,
        event: InputEvent,
        rows: list[RowWrite],
        before: OrderRow | None,
        row: OrderRow | None,
        outputs: Iterable[Output],
        load: Load,
    ) -> Step:
        speak: list[Outgoing] = []
        for output in outputs:
            match output:
                case SetTimer():
                    rows.append(self._opened(output.timer))
                case ClearTimer():
                    rows.append(RowWrite(table=TIMERS_TABLE, key=output.key, value=None))
                case KeepApart():
                    value = None if output.row is None else self._codec.encode_row(output.row)
                    rows.append(RowWrite(table=OPERATIONS_TABLE, key=output.key, value=value))
                case SayTimer() if output.fired.kind is TimerKind.FORGET_APART:
                    speak.append(timer_message(self._codec, self._references.named_in(output.fired, load)))
                case Reply() if not self._intake.has_partition(output.to.partition):
                    continue  # a waiter that an earlier version let into the row: nobody can be there
                case _:
                    speak.append(
                        self._speech.message(output, row=row, partition=event.partition, now_ms=event.timestamp_ms)
                    )
        speak += say_waiting(self._codec, before, row, possible_replay=event.possible_replay)
        return Step(rows=rows, speak=speak)

    def _opened(self, timer: OpenTimer) -> RowWrite:
        value = self._codec.encode_row(timer)
        return RowWrite(table=TIMERS_TABLE, key=timer_key(timer), value=value, due=due_of_timer(timer))


def _tell_shadow(payment: PaymentRequested, found: Routed) -> None:
    """Count and say, in a dry run, where the rules would have sent the payment first. After a crash perhaps twice."""
    if found.shadow is None:
        return
    route, would = (next(iter(each.plan.gateways), NOWHERE) for each in (found.course, found.shadow))
    metrics.count("routes_shadowed", route=route, would=would)
    log.info("route_shadowed", order_id=payment.order_id, actual=route, wanted=would)


def _in_time(result: GatewayCallCompleted, envelope: Envelope, logged_ms: int) -> GatewayCallCompleted:
    """Return the result as it counts: refused by a worker that may have been replaced, the call is in doubt.

    Its successor may have made the same call by then, and a success may follow on the log. So a decline is not its sole
    answer either.
    """
    if envelope.expiry_ms is None or logged_ms <= envelope.expiry_ms:
        return result
    late = replace(result, sole=False)
    return replace(late, outcome=Outcome.UNKNOWN) if result.outcome is Outcome.NOT_EXECUTED else late
