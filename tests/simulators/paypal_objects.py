"""What the simulator of PayPal keeps, and how it shows it: orders, what was made for them, refusals, amounts, times."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tests.support.gateway_under_test import Situation

Json = dict[str, Any]

WHOLE_UNITS: Final = {"JPY": 1, "HUF": 100, "TWD": 100}
"""Minor units of one unit, of currencies that have no decimals at PayPal."""


class RefusedError(Exception):
    """PayPal refuses."""

    def __init__(self, status: int, name: str, issue: str | None = None) -> None:
        super().__init__(issue or name)
        self.status = status
        self.body: Json = {"name": name, "message": "said by a test", "debug_id": "b1d1f06c7246c"}
        if issue is not None:
            self.body["details"] = [{"issue": issue, "description": "said by a test"}]


def unprocessable(issue: str) -> RefusedError:
    return RefusedError(422, "UNPROCESSABLE_ENTITY", issue)


@dataclass
class Made:
    """An authorization, a capture or a refund."""

    id: str
    status: str
    amount_minor: int
    currency: str
    order: "Order"
    reference: str | None  # in invoice_id
    custom: str | None
    created: datetime
    updated: datetime
    parent: "Made | None" = None  # of a capture its authorization, of a refund its capture
    taken_minor: int = 0  # captured of an authorization, given back of a capture
    gone_minor: int = 0  # of a capture: taken back without our asking
    final: bool = False
    voided: bool = False
    response_code: str | None = None
    expires: datetime | None = None


@dataclass
class Order:
    """An order, and all that was made for it."""

    id: str
    intent: str
    status: str
    amount_minor: int
    currency: str
    reference: str
    token: str | None
    authorizations: list[Made] = field(default_factory=list)
    captures: list[Made] = field(default_factory=list)
    effects: list[tuple[str, int]] = field(default_factory=list)
    situation: Situation | None = None  # what the call that opened it met


def order_json(order: Order) -> Json:
    unit: Json = {
        "reference_id": "default",
        "amount": money(order.amount_minor, order.currency),
        "custom_id": order.reference,
        "invoice_id": order.reference,
    }
    payments = {
        "authorizations": [made_json(each) for each in order.authorizations],
        "captures": [made_json(each) for each in order.captures],
    }
    if any(payments.values()):
        unit["payments"] = {name: made for name, made in payments.items() if made}
    links = [link("self", f"/v2/checkout/orders/{order.id}")]
    if order.status == "PAYER_ACTION_REQUIRED":
        links.append({"rel": "payer-action", "href": f"https://www.paypal.com/checkoutnow?token={order.id}"})
    return {
        "id": order.id,
        "intent": order.intent,
        "status": order.status,
        "payer": {"email_address": "payer@example.com", "name": {"given_name": "A", "surname": "Payer"}},
        "purchase_units": [unit],
        "links": links,
    }


def made_json(made: Made) -> Json:
    up = made.parent
    refund = up is not None and up in up.order.captures
    path = f"/v2/checkout/orders/{made.order.id}"
    related = {"order_id": made.order.id}
    if up is not None:
        path = f"/v2/payments/{'captures' if refund else 'authorizations'}/{up.id}"
        related["authorization_id"] = up.id
    shown: Json = {
        "id": made.id,
        "status": made.status,
        "amount": money(made.amount_minor, made.currency),
        "custom_id": made.custom,
        "invoice_id": made.reference,
        "create_time": time_text(made.created),
        "update_time": time_text(made.updated),
        "links": [link("up", path)],
    }
    if not refund:
        shown["supplementary_data"] = {"related_ids": related}
    if made.expires is not None:
        shown["expiration_time"] = time_text(made.expires)
    if made.response_code is not None:
        shown["processor_response"] = {"response_code": made.response_code, "payment_advice_code": "02"}
    return {name: value for name, value in shown.items() if value is not None}


def link(rel: str, path: str) -> Json:
    return {"rel": rel, "href": f"https://api.sandbox.paypal.com{path}", "method": "GET"}


def time_text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def minor_of(money: Json) -> tuple[int, str]:
    currency, value = money["currency_code"], money["value"]
    if currency in WHOLE_UNITS:
        if "." in value:
            raise unprocessable("DECIMALS_NOT_SUPPORTED")
        return int(value) * WHOLE_UNITS[currency], currency
    whole, _, decimals = value.partition(".")
    if len(decimals) != 2:
        raise unprocessable("DECIMAL_PRECISION")
    return int(whole) * 100 + int(decimals), currency


def money(minor: int, currency: str) -> Json:
    if currency in WHOLE_UNITS:
        return {"currency_code": currency, "value": str(minor // WHOLE_UNITS[currency])}
    return {"currency_code": currency, "value": f"{minor // 100}.{minor % 100:02d}"}
