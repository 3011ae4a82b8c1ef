"""The witness stand: what tests, demos and people ask the Mock or tell it, beside the calls of an engine.

`GET /healthz`, `GET /ledger[/summary]`, `GET|POST|DELETE /scenarios`, `POST /operations/{reference}/words`, `POST
/latency`, `POST /listener/close`, `POST /webhooks/target`, `GET|POST /actions/{reference}[/complete]`.

A scenario is a rule about calls to come; a word happens to an operation that is there, now.
"""

import html
import sqlite3
from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import web

from gateway_adapters.mock import actions, latency, lifecycle, postings
from gateway_adapters.mock.accounts import DEFAULT
from gateway_adapters.mock.actions import Action
from gateway_adapters.mock.courses import Manner, Scenario, Word
from gateway_adapters.mock.listener import MAX_CLOSED_MS, Listener
from gateway_adapters.mock.scenarios import Happening, Rule
from gateway_adapters.mock.server import Server, refusal
from gateway_adapters.mock.webhooks import now_ms
from gateway_adapters.mock.wire import (
    MAX_AMOUNT_MINOR,
    ErrorCode,
    Json,
    Operation,
    Status,
    WireError,
    decode_object,
    operation_json,
    optional_text,
    text,
)
from schemas.vocabulary import CallKind

MAX_LEDGER_ROWS: Final = 10_000
MAX_DELAY_MS: Final = 600_000
_FILTERS: Final = ("order_id", "origin_id", "op_id", "gateway_key", "payment_id", "kind", "account")
_LEDGER_COLUMNS: Final = (
    "seq", "operation_id", "payment_id", "kind", "reversed_kind", "amount_minor", "currency",
    "op_id", "order_id", "origin_id", "gateway_key", "at_ms", "account", "at_desk", "case_id",
)  # fmt: skip


class Control:
    """The handlers of the witness stand."""

    def __init__(self, server: Server, listener: Listener) -> None:
        self._server = server
        self._listener = listener

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        router = app.router
        router.add_get("/healthz", self._health)
        router.add_get("/ledger", self._ledger)
        router.add_get("/ledger/summary", self._summary)
        router.add_get("/scenarios", self._scenarios)
        router.add_post("/scenarios", self._add_scenario)
        router.add_delete("/scenarios", self._clear_scenarios)
        router.add_post("/operations/{reference}/words", self._say)
        router.add_post("/latency", self._set_latency)
        router.add_post("/listener/close", self._close_listener)
        router.add_post("/webhooks/target", self._set_target)
        router.add_get("/actions/{reference}", self._action_page)
        router.add_post("/actions/{reference}/complete", self._complete)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "calls": self._server.calls})

    async def _ledger(self, request: web.Request) -> web.Response:
        condition, values = _condition(request.query)
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            return refusal(400, ErrorCode.INVALID, "after must be the seq of a row.")
        rows = await self._server.storage.run(
            lambda db: db.execute(
                f"SELECT {', '.join(_LEDGER_COLUMNS)} FROM ledger WHERE seq > ? AND {condition} ORDER BY seq LIMIT ?",  # noqa: S608 - constants
                (int(after), *values, MAX_LEDGER_ROWS),
            ).fetchall()
        )
        entries = [dict(zip(_LEDGER_COLUMNS, row, strict=True)) for row in rows]
        following = entries[-1]["seq"] if len(entries) == MAX_LEDGER_ROWS else None
        return web.json_response({"entries": entries, "next_after": following}, dumps=_dumps)

    async def _summary(self, request: web.Request) -> web.Response:
        condition, values = _condition(request.query)
        currencies = await self._server.storage.run(lambda db: _summed(db, condition, values))
        return web.json_response({"currencies": currencies}, dumps=_dumps)

    async def _scenarios(self, _: web.Request) -> web.Response:
        return web.json_response({"scenarios": [_rule_json(rule) for rule in self._server.book.rules]}, dumps=_dumps)

    async def _add_scenario(self, request: web.Request) -> web.Response:
        try:
            rule = _rule(decode_object(await request.read()))
            self._server.book.add(rule)
        except ValueError as error:  # WireError is one
            return refusal(400, ErrorCode.INVALID, str(error))
        return web.json_response(_rule_json(rule), status=201, dumps=_dumps)

    async def _clear_scenarios(self, _: web.Request) -> web.Response:
        self._server.book.clear()
        return web.Response(status=204)

    async def _say(self, request: web.Request) -> web.Response:
        """Let something happen to an operation: 200 with the operation as it stands then, 409 when it cannot be."""
        try:
            change = _change(decode_object(await request.read()))
        except ValueError as error:
            return refusal(400, ErrorCode.INVALID, str(error))
        reference = request.match_info["reference"]
        said = await self._server.storage.run(lambda db: _said(db, reference, change))
        if said is None:
            return refusal(404, ErrorCode.NOT_FOUND, "There is no such operation, or no such case of it.")
        happened, operation = said
        self._server.clockwork.wake()
        body = {"happened": happened, "operation": operation_json(operation)}
        return web.json_response(body, status=200 if happened else 409, dumps=_dumps)

    async def _set_latency(self, request: web.Request) -> web.Response:
        try:
            self._server.latency = latency.parse(text(decode_object(await request.read()), "latency"))
        except ValueError as error:
            return refusal(400, ErrorCode.INVALID, str(error))
        return web.Response(status=204)

    async def _close_listener(self, request: web.Request) -> web.Response:
        try:
            duration_ms = _integer(decode_object(await request.read()), "for_ms", default=1000, most=MAX_CLOSED_MS)
        except WireError as error:
            return refusal(400, ErrorCode.INVALID, str(error))
        response = web.Response(status=202)
        response.force_close()
        await response.prepare(request)
        await response.write_eof()  # before the port closes: who asked must know that it was heard
        self._listener.close_for(duration_ms)
        return response

    async def _set_target(self, request: web.Request) -> web.Response:
        try:
            body = decode_object(await request.read())
            url, account = optional_text(body, "url"), optional_text(body, "account") or DEFAULT
        except WireError as error:
            return refusal(400, ErrorCode.INVALID, str(error))
        if account not in self._server.accounts.served:
            return refusal(404, ErrorCode.NOT_FOUND, "There is no such account.")
        self._server.clockwork.aim(account, url)
        return web.Response(status=204)

    async def _action_page(self, request: web.Request) -> web.Response:
        reference = html.escape(request.match_info["reference"])
        page = (
            "<!doctype html><title>Mock bank</title><h1>Mock bank: is it you?</h1>"
            f'<form method="post" action="/actions/{reference}/complete"><button>Yes, pay</button>'
            f'<button formaction="/actions/{reference}/complete?result=failed">No</button></form>'
        )
        return web.Response(text=page, content_type="text/html")

    async def _complete(self, request: web.Request) -> web.Response:
        result = request.query.get("result", "succeeded")
        if result not in (Status.SUCCEEDED, Status.FAILED):
            return refusal(400, ErrorCode.INVALID, "result must be succeeded or failed.")
        reference = request.match_info["reference"]
        answered = await self._server.storage.run(lambda db: _answered(db, reference, Status(result)))
        if answered is None:
            return refusal(404, ErrorCode.NOT_FOUND, "There is no such action.")
        self._server.clockwork.wake()
        waited_for, action = answered
        back = action.returns_to()
        if back is not None and "text/html" in request.headers.get("Accept", ""):  # a payer's browser, and no program
            return web.Response(status=303, headers={"Location": back})
        body = {"reference": reference, "completed": waited_for, "return_parameters": action.return_parameters}
        return web.json_response(body, status=200 if waited_for else 409)


def _answered(db: sqlite3.Connection, reference: str, said: Status) -> tuple[bool, Action] | None:
    operation, action = postings.find_operation(db, reference=reference), actions.find(db, reference)
    if operation is None or action is None:
        return None
    return actions.answer(db, operation, action, said, now_ms=now_ms()), action


def _said(db: sqlite3.Connection, reference: str, change: lifecycle.Change) -> tuple[bool, Operation] | None:
    operation = postings.find_operation(db, reference=reference)
    if operation is None or (change.case is not None and not lifecycle.has_case(db, operation, change.case)):
        return None
    happened = lifecycle.carry_out(db, operation, change, now_ms=now_ms())
    standing = postings.find_operation(db, reference=reference)
    assert standing is not None
    return happened, standing


def _condition(query: Mapping[str, str]) -> tuple[str, list[str]]:
    used = [name for name in _FILTERS if name in query]
    return " AND ".join(["1 = 1", *(f"{name} = ?" for name in used)]), [query[name] for name in used]


def _summed(db: sqlite3.Connection, condition: str, values: list[str]) -> dict[str, Json]:
    """Return by currency the sums, net of reversals, and how many effects there were."""
    rows = db.execute(
        "SELECT currency, kind, reversed_kind, count(*), sum(amount_minor), count(DISTINCT op_id) FROM ledger"  # noqa: S608 - constants
        f" WHERE {condition} GROUP BY currency, kind, reversed_kind",
        values,
    ).fetchall()
    summary: dict[str, dict[str, int]] = {}
    for currency, kind, reversed_kind, count, amount, operations in rows:
        sums = summary.setdefault(
            currency,
            {"authorized_minor": 0, "captured_minor": 0, "refunded_minor": 0, "voided_minor": 0, "effects": 0}
            | {"reversals": 0, "restorals": 0, "expiries": 0, "operations": 0, "doubled": 0},
        )
        sign = -1 if kind == "reversal" else 1
        effect = reversed_kind or kind
        for total, kinds in _TOTALS.items():
            sums[total] += sign * amount if effect in kinds else 0
        if kind in _LATER:
            sums[_LATER[kind]] += count
        else:
            sums["effects"] += count
            sums["operations"] += operations
            sums["doubled"] += count - operations  # one operation that had its effect twice: what must never be
    return {currency: dict(sums) for currency, sums in summary.items()}


_LATER: Final = {"reversal": "reversals", "restoral": "restorals", "expiry": "expiries"}
_TOTALS: Final = {
    "authorized_minor": ("authorize", "sale"),
    "captured_minor": ("sale", "capture"),
    "refunded_minor": ("refund",),
    "voided_minor": ("void",),
}


def _rule(body: Json) -> Rule:
    kind = optional_text(body, "kind")
    probability = body.get("probability", 1)
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise WireError("probability must be 0 to 1")
    return Rule(
        happening=Happening(
            scenario=Scenario(text(body, "scenario")),
            delay_ms=_integer(body, "delay_ms", default=None, most=MAX_DELAY_MS) if "delay_ms" in body else None,
            retry_after_s=_integer(body, "retry_after_s", default=1, most=86_400),
            amount_minor=_amount(body),
            manners=_manners(body),
        ),
        order_id=optional_text(body, "order_id"),
        origin_id=optional_text(body, "origin_id"),
        kind=None if kind is None else CallKind(kind),
        gateway_key=optional_text(body, "gateway_key"),
        account=optional_text(body, "account"),
        times=None if body.get("times", 1) is None else _integer(body, "times", default=1, most=1_000_000),
        probability=probability,
        seed=_integer(body, "seed", default=0, most=2**63),
    )


def _change(body: Json) -> lifecycle.Change:
    return lifecycle.Change(
        word=Word(text(body, "word")),
        amount_minor=_amount(body),
        case=optional_text(body, "case"),
        manners=_manners(body),
    )


def _amount(body: Json) -> int | None:
    if body.get("amount_minor") is None:
        return None
    return _integer(body, "amount_minor", default=None, most=MAX_AMOUNT_MINOR, least=1)


def _manners(body: Json) -> frozenset[Manner]:
    names = body.get("notices", [])
    if not isinstance(names, list) or len(names) > len(Manner):
        raise WireError("notices must be a list of ways in which they come")
    return frozenset(Manner(name) for name in names)


def _rule_json(rule: Rule) -> Json:
    return {
        "scenario": rule.happening.scenario.value,
        "order_id": rule.order_id,
        "origin_id": rule.origin_id,
        "kind": rule.kind,
        "gateway_key": rule.gateway_key,
        "account": rule.account,
        "amount_minor": rule.happening.amount_minor,
        "notices": sorted(rule.happening.manners),
        "times": rule.times,
        "hits": rule.hits,
        "probability": rule.probability,
    }


def _integer(body: Json, field: str, *, default: int | None, most: int, least: int = 0) -> int:
    value = body.get(field, default)
    if type(value) is not int or not least <= value <= most:
        raise WireError(f"{field} must be {least} to {most}")
    return value


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()
