"""One gateway call, from the request to what it came to. It never raises for what a gateway does.

Called by `handling`. Calls the gateway port. The rules (DESIGN.md, 'What is promised' and 'Gateway port'):

* A request whose idempotency key the gateway may have forgotten is never sent again: an inquiry answers for it, and
  that it finds nothing proves nothing, since an earlier copy may still be on its way.
* One that may have been answered before, further back than the executor remembers, is not sent either, and that the
  inquiry finds nothing proves nothing: the order may have gone on by that answer (see `past_results`).
* A request that may have been sent before learns nothing from being refused now: NOT_EXECUTED becomes UNKNOWN. The same
  holds when another worker may have sent it while this one waited for the answer. A decline stays one. It is said to be
  the sole answer only where no other copy was made: only then the payment may go on to another gateway.
* One whose command retention has deleted cannot be sent: it was not executed, if no earlier copy may have been.
* A request that lacks what its gateway needs is not sent, and says so: nothing was executed.
* A time-out, and an adapter that raises, is UNKNOWN: an inquiry finds out later.
* One that may not be made now (`gateway_slots`) is answered at once. A first sending was not executed, so that the
  order may go to another gateway; of any other call that proves nothing.
* A request for a gateway, or an account, that this executor does not have is answered, not refused: its order waits.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence

import structlog

from gateway_adapters import errors
from gateway_adapters.contract import CallResult, Gateway, completed, missing_of, weakened_for_resend, window_open
from gateway_adapters.errors import Signal
from schemas.identifiers import gateway_route
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from streams.telemetry import metrics

log = structlog.get_logger(__name__)

Heard = Callable[[CallResult], None]
"""Is told what one exchange with the gateway came to."""


async def perform(
    gateway: Gateway | None,
    request: GatewayCallRequested,
    *,
    maybe_sent_before: bool,
    timeout_s: float,
    clock_ms: Callable[[], int],
    maybe_answered_before: bool = False,
    still_ours: Callable[[], bool] = lambda: True,
    command_gone: bool = False,
    turned_away: OperationError | None = None,
    heard: Heard = lambda _: None,
) -> GatewayCallCompleted:
    """Make the call, or the inquiry that has to stand for it, and return the record of its result.

    Args:
        gateway: the gateway and account that the request names; None: there is none here.
        request: the request as it stands on the log.
        maybe_sent_before: whether an earlier worker, or an earlier life of this one, may have sent it.
        timeout_s: longest wait for the gateway, seconds.
        clock_ms: the time, milliseconds since the epoch.
        maybe_answered_before: whether it may have been answered, too, and nobody remembers.
        still_ours: asked when the answer is there: whether no other worker can have taken the request meanwhile.
        command_gone: whether the log no longer holds the command with what the call needs, so that it cannot be made.
        turned_away: why the gateway is not asked now; None: it is.
        heard: told what each exchange with the gateway came to.
    """
    started_s = time.monotonic()
    missing = missing_of(request)
    sole = False
    if gateway is None:
        result = _unmade(request)
        if maybe_sent_before or not still_ours():  # by an executor that has it
            result = weakened_for_resend(request, result)
    elif turned_away is not None:
        result = _turned_away(request, turned_away, maybe_sent_before=maybe_sent_before or not still_ours())
    elif command_gone:
        metrics.count("executor_calls_without_command", gateway=request.gateway, kind=request.kind)
        log.warning("call_without_command", op_id=request.op_id, gateway=request.gateway, kind=request.kind)
        result = await _told_without_command(
            gateway, request, maybe_sent_before=maybe_sent_before, timeout_s=timeout_s, heard=heard
        )
    elif missing:
        result = _incomplete(request, missing)
        if maybe_sent_before:  # by another version, which may have known a way
            result = weakened_for_resend(request, result)
    elif request.kind is CallKind.INQUIRE:
        result = await _inquired(gateway, request, timeout_s=timeout_s, heard=heard)
    elif maybe_answered_before:
        metrics.count("executor_calls_beyond_memory", gateway=request.gateway, kind=request.kind)
        log.warning("call_beyond_memory", op_id=request.op_id, gateway=request.gateway, kind=request.kind)
        result = await _inquired(gateway, inquiry_for(request), timeout_s=timeout_s, heard=heard)
        result = weakened_for_resend(request, result)
    elif _may_be_sent(gateway, request, maybe_sent_before=maybe_sent_before, now_ms=clock_ms()):
        result = await _called(gateway, request, timeout_s=timeout_s, heard=heard)
        sole = not maybe_sent_before and still_ours()
        if not sole:
            result = weakened_for_resend(request, result)
    else:
        metrics.count("executor_calls_past_key_window", gateway=request.gateway, kind=request.kind)
        log.warning("call_past_key_window", op_id=request.op_id, gateway=request.gateway, kind=request.kind)
        result = await _inquired(gateway, inquiry_for(request), timeout_s=timeout_s, heard=heard)
        if maybe_sent_before:
            result = weakened_for_resend(request, result)
    _alarm(request, result)
    spent_ms = (time.monotonic() - started_s) * 1000
    metrics.count("executor_calls", gateway=request.gateway, kind=request.kind, outcome=result.outcome)
    metrics.observe("executor_call_ms", spent_ms, gateway=request.gateway, kind=request.kind)
    record = completed(request, result, completed_at_ms=clock_ms())
    sole = sole and result.outcome is Outcome.DECLINED and not result.replayed
    return dataclasses.replace(record, sole=True) if sole else record


def _alarm(request: GatewayCallRequested, result: CallResult) -> None:
    """Say loudly what someone must see to, such as credentials that are refused: once a minute for each cause."""
    code = None if result.error is None else result.error.code
    if code == errors.Code.UNKNOWN:
        metrics.count("declines_unknown", gateway=request.gateway)
    if code is None or code not in errors.ALARMS:
        return
    route = gateway_route(request.gateway, request.account)
    metrics.count("executor_alarms", route=route, code=code)
    log.error("gateway_alarm", error=f"{code} at {route}", op_id=request.op_id, kind=request.kind, repeats=True)


def _unmade(request: GatewayCallRequested) -> CallResult:
    log.error("gateway_unknown", op_id=request.op_id, gateway=request.gateway, account=request.account)
    # Of an inquiry it says nothing about the operation.
    outcome = Outcome.UNKNOWN if request.kind is CallKind.INQUIRE else Outcome.NOT_EXECUTED
    return CallResult(outcome=outcome, error=errors.error_for(Signal.NO_SUCH_GATEWAY))


def inquiry_for(request: GatewayCallRequested) -> GatewayCallRequested:
    """Return the inquiry about the operation that this request would have carried out."""
    return dataclasses.replace(
        request, kind=CallKind.INQUIRE, inquired_kind=request.kind, token=None, command_offset=None, details=None
    )


async def _told_without_command(
    gateway: Gateway, request: GatewayCallRequested, *, maybe_sent_before: bool, timeout_s: float, heard: Heard
) -> CallResult:
    """Return what is known of a call that cannot be made: nothing was sent, or an inquiry tells of an earlier copy."""
    if is_first_of_attempt(request) and not maybe_sent_before:
        return CallResult(outcome=Outcome.NOT_EXECUTED, error=errors.error_for(Signal.COMMAND_GONE))
    told = await _inquired(gateway, inquiry_for(request), timeout_s=timeout_s, heard=heard)
    return weakened_for_resend(request, told)


def is_first_of_attempt(request: GatewayCallRequested) -> bool:
    """Return whether the order asks for this attempt for the first time; a copy of its request may be on the log."""
    return request.requested_at_ms == request.first_requested_at_ms and request.kind is not CallKind.INQUIRE


def is_refusal(result: GatewayCallCompleted) -> bool:
    """Return whether the result says that nothing was done, which holds only where no copy was made."""
    return result.sole or (result.outcome is Outcome.NOT_EXECUTED and result.kind is not CallKind.INQUIRE)


def weakened_result(result: GatewayCallCompleted) -> GatewayCallCompleted:
    """Return the result as it counts when another worker may have made the same call: as `weakened_for_resend`."""
    if result.sole:
        return dataclasses.replace(result, sole=False)
    doubtful = is_refusal(result) and not result.replayed
    return dataclasses.replace(result, outcome=Outcome.UNKNOWN) if doubtful else result


def _turned_away(request: GatewayCallRequested, why: OperationError, *, maybe_sent_before: bool) -> CallResult:
    if is_first_of_attempt(request) and not maybe_sent_before:
        return CallResult(outcome=Outcome.NOT_EXECUTED, error=why)
    # What was sent before is in doubt, here and nowhere else: the same call with its key is still good.
    return CallResult(outcome=Outcome.UNKNOWN, error=dataclasses.replace(why, retry=RetryAdvice.SAME_KEY_NOW))


def _may_be_sent(gateway: Gateway, request: GatewayCallRequested, *, maybe_sent_before: bool, now_ms: int) -> bool:
    if request.kind not in gateway.capabilities.key_window_ms:
        return not maybe_sent_before  # the gateway keeps no keys for this: it may be sent only once
    return window_open(gateway.capabilities, request, now_ms=now_ms)


async def _inquired(gateway: Gateway, request: GatewayCallRequested, *, timeout_s: float, heard: Heard) -> CallResult:
    # "Unsupported" of an inquiry says nothing about the operation, and must not look like proof that it never was.
    if not gateway.capabilities.can_be_asked(request.currency, reference_known=request.own_reference is not None):
        return _in_doubt(Signal.INQUIRY_PROVED_NOTHING, "the gateway cannot be asked")
    return await _called(gateway, request, timeout_s=timeout_s, heard=heard)


async def _called(gateway: Gateway, request: GatewayCallRequested, *, timeout_s: float, heard: Heard) -> CallResult:
    result = await _exchanged(gateway, request, timeout_s=timeout_s)
    heard(result)
    return result


async def _exchanged(gateway: Gateway, request: GatewayCallRequested, *, timeout_s: float) -> CallResult:
    try:
        async with asyncio.timeout(timeout_s):
            return await gateway.call(request)
    except TimeoutError:
        return _in_doubt(Signal.READ_TIMEOUT, f"no answer in {timeout_s:g} s")
    except Exception as error:  # the shell: an adapter's defect must not lose a request
        metrics.count("executor_unexpected_errors", gateway=request.gateway, kind=request.kind)
        log.exception(
            "gateway_adapter_raised",
            op_id=request.op_id,
            gateway=request.gateway,
            kind=request.kind,
        )
        return _in_doubt(Signal.UNREADABLE, type(error).__name__)


def _incomplete(request: GatewayCallRequested, missing: Sequence[str]) -> CallResult:
    log.error("call_incomplete", op_id=request.op_id, gateway=request.gateway, kind=request.kind)
    error = errors.error_for(Signal.INCOMPLETE, detail=f"lacks {', '.join(missing)}")
    outcome = Outcome.UNKNOWN if request.kind is CallKind.INQUIRE else Outcome.NOT_EXECUTED
    return CallResult(outcome=outcome, error=error)


def _in_doubt(signal: Signal, detail: str) -> CallResult:
    return CallResult(outcome=Outcome.UNKNOWN, error=errors.error_for(signal, detail=detail))
