"""The words of the timeline: an answer and a record on the log, each in half a line. Pure.

Called by `stage`. What a record may show was decided before (`operations.facts`); here it is only made short.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from schemas import money
from streams.development.demo.scenes import Answer
from streams.operator_tools.timelines import Entry

# Of each kind of record, what a reader of the tour wants to know, in this order.
_FACTS: Mapping[str, tuple[str, ...]] = {
    "command": ("asks", "amount_minor", "final"),
    "claim": ("idempotency_key", "gateways"),
    "verdict": ("granted", "holder_order_id"),
    "gateway request": ("call", "gateway", "amount_minor"),
    "gateway result": ("outcome", "gateway_reference", "gateway_code"),
    "event": ("state", "status", "rejection", "authorized_minor", "captured_minor", "refunded_minor"),
    "webhook": ("gateway", "gateway_reference"),
    "timer": ("timer",),
    "dead letter": ("reason", "original", "detail"),
    "dead letter handled": ("action", "operator", "note"),
}


def entry_title(entry: Entry) -> str:
    """Return what the record is."""
    name = entry.event_type.removeprefix("payments.").removesuffix(".v1") if entry.kind == "event" else entry.kind
    return f"{name} (again)" if entry.repeat else name


def entry_words(entry: Entry) -> str:
    """Return what the record says."""
    facts = dict(entry.facts)
    currency = str(facts.get("currency", "USD"))
    words = []
    for name in _FACTS.get(entry.kind, ()):
        value = facts.get(name)
        if value is None or (name.endswith("_minor") and value == 0):
            continue
        words.append(_words(name, value, currency))
    return " ".join(words)


def _words(name: str, value: str | int | bool, currency: str) -> str:
    if isinstance(value, bool):
        return f"{name}={str(value).lower()}"
    if isinstance(value, int):
        return f"{name.removesuffix('_minor').replace('amount', '').strip()} {money.display(value, currency)}".strip()
    if name == "gateways":
        return _plan_words(value.split(","))
    return value if name in {"asks", "call", "outcome", "state", "status", "action"} else f"{name}={value}"


def _plan_words(gateways: Sequence[str]) -> str:
    """Return a route plan, one gateway for each attempt, as a person would say it."""
    if not any(gateways):
        return "no gateway"
    runs = [(name, len(list(same))) for name, same in groupby(gateways)]
    return "tries " + ", then ".join(name if times == 1 else f"{name} up to {times} times" for name, times in runs)


def answer_words(answer: Answer) -> str:
    """Return what the engine answered."""
    if answer.status >= 400:  # noqa: PLR2004 -- HTTP's own boundary between success and refusal
        detail = answer.said("operation.error.code") or answer.said("operation.rejection")
        return f"{answer.said('code')}: {answer.said('title')}" + (f" ({detail})" if detail else "")
    payment = answer.said("payment") if isinstance(answer.said("payment"), Mapping) else answer.body
    assert isinstance(payment, Mapping)
    words = [str(answer.said("state") or payment.get("status"))]
    currency = str(payment.get("currency"))
    for name in ("authorizedAmount", "capturedAmount", "refundedAmount"):
        amount = payment.get(name)
        if isinstance(amount, int) and amount > 0:
            words.append(f"{name.removesuffix('Amount')} {money.display(amount, currency)}")
    if answer.replayed:
        words.append("(Idempotent-Replayed: true)")
    return " ".join(words)
