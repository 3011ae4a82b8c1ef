"""The simulator of PayPal as a process: what it is told it keeps, and what it tells it repeats until somebody takes it.

`python -m tests.simulators paypal`. Beside what `paypal` does it is as PayPal's pages say: a webhook is repeated under
its first time and signature, its certificate is fetched from PayPal ('Integrate webhooks'), and comes late, twice and
in any order. The certificate stands here, under PayPal's own path, for an ingress whose way to PayPal's hosts leads
here (`tests/faults/ingress.py`).
"""

import base64
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from gateway_adapters.mock import faults
from tests.peers import PAYPAL_DOCUMENT
from tests.simulators.paypal import PayPalSimulator, _Stored
from tests.simulators.paypal_bank import PayPalBank
from tests.simulators.paypal_events import PayPalEvents
from tests.simulators.paypal_objects import Json, Made, Order, RefusedError, made_json, order_json, time_text
from tests.simulators.process import Desk, Postman, control_routes
from tests.support.gateway_under_test import Situation
from tests.support.openapi_judge import RequestJudge, judge_of
from tests.support.webhook_certificates import SigningCertificate

WEBHOOK_ID: Final = "8PT597110X687430LKGECATA"
CERTIFICATE_PATH: Final = "/v1/notifications/certs/CERT-1"
CERTIFICATE_URL: Final = f"https://api.paypal.com{CERTIFICATE_PATH}"

CALLS: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.TIMEOUT_AFTER,
        Situation.RESET_BEFORE,
        Situation.RESET_AFTER,
        Situation.HTML_502_BEFORE,
        Situation.HTML_502_AFTER,
        Situation.SERVER_ERROR_AFTER,
        Situation.CUT_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.SLOW,
    }
)
LOOKS: Final = frozenset(
    {
        Situation.TIMEOUT_BEFORE,
        Situation.RESET_BEFORE,
        Situation.HTML_502_BEFORE,
        Situation.CUT_AFTER,
        Situation.RATE_LIMITED,
        Situation.UNAUTHORIZED,
        Situation.NOT_FOUND_YET,
    }
)
SALES: Final = CALLS | {
    Situation.PENDING_THEN_SUCCEEDED,
    Situation.PENDING_THEN_FAILED,
    Situation.OUT_OF_ORDER_WEBHOOKS,
}
REFUNDS: Final = CALLS | {Situation.LATE_FAILURE}
"""A refund that was completed may fail (PAYMENT.REFUND.FAILED): the money comes back to the merchant."""

ON_THE_WAY: Final = CALLS | LOOKS
"""What happens to a call on its way, and not to what it asks for."""


def able(method: str, path: str, said: Json) -> frozenset[Situation]:
    """Return what can happen to this call."""
    if method == "GET":
        return LOOKS
    if path.endswith("/refund"):
        return REFUNDS
    return SALES if path == "/v2/checkout/orders" and said.get("intent") == "CAPTURE" else CALLS


class KeptEvents(PayPalEvents):
    """Webhooks that the book keeps until they are taken; a second for each thing within a call."""

    def __init__(self, desk: Desk, certificate: SigningCertificate) -> None:
        super().__init__(certificate=certificate, webhook_id=WEBHOOK_ID, certificate_url=CERTIFICATE_URL)
        self._desk = desk

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{self._desk.book.next_number():015d}"

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._desk.clock.tick(), UTC)

    def post(self, body: bytes) -> None:
        transmission, at = self.new_id("T"), time_text(datetime.now(UTC))
        text = f"{transmission}|{at}|{self.webhook_id}|{zlib.crc32(body)}".encode()
        headers = {
            "PAYPAL-TRANSMISSION-ID": transmission,
            "PAYPAL-TRANSMISSION-TIME": at,
            "PAYPAL-TRANSMISSION-SIG": base64.b64encode(self.certificate.sign(text)).decode(),
            "PAYPAL-CERT-URL": self.certificate_url,
            "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        }
        self._desk.tell(body, headers)

    async def told(self) -> None:
        """Wait for nothing: what is told is on its way."""


class KeptBank(PayPalBank):
    """A bank that the book keeps, and whose effects it writes down."""

    def __init__(self, desk: Desk, events: KeptEvents) -> None:
        super().__init__(events)
        self.desk = desk
        self.tells_all = True
        self._of_order: defaultdict[str, list[Made]] = defaultdict(list)
        self._soon: list[Callable[[], object]] = []
        self._noted: dict[str, int] = {}  # order id -> how many of its effects the book has
        for name, (order, made) in desk.book.kept().items():
            self.orders[name] = order
            self.made |= {each.id: each for each in made}
            self._of_order[name] = made
            self._noted[name] = len(order.effects)

    def carried_out(self, path: str, said: Json, situation: Situation | None) -> Callable[[], Json]:
        render = super().carried_out(path, said, None if situation in ON_THE_WAY else situation)
        if situation is Situation.LATE_FAILURE:
            refund = str(render()["id"])
            self._later_do(lambda: self.fail_refund(refund))
        return render

    def follow(self) -> None:
        """Let happen what comes after the answer."""
        soon, self._soon = self._soon, []
        for happen in soon:
            happen()

    def keep(self, order: Order, key: str) -> None:
        """Write down what was done to the order, and have the book keep it."""
        opening = (order.reference or "").rpartition(":")[2]
        done = ""
        for kind, minor in order.effects[self._noted.get(order.id, 0) :]:
            opens = kind in {"authorize", "sale"}
            done = done if kind == "reversal" else kind
            self.desk.book.effect(
                kind,
                minor,
                reversed_kind=done if kind == "reversal" else None,
                currency=order.currency,
                op_id=opening if opens else key.rpartition("-")[0],
                opening_op_id=opening,
                gateway_key=key,
                token=order.token or "",
            )
        self._noted[order.id] = len(order.effects)
        self.desk.book.keep(order.id, (order, self._of_order[order.id]))

    def order_with(self, name: str) -> Order:
        """Return the order of this id, or that what has it was made for."""
        return self.orders[name] if name in self.orders else self.made[name].order

    def rendered(self, name: str) -> Json:
        """Return the object as it is now."""
        return order_json(self.orders[name]) if name in self.orders else made_json(self.made[name])

    def _later_do(self, happen: Callable[[], object]) -> None:
        self._soon.append(happen)

    def _make(
        self, order: Order, minor: int, reference: str | None, custom: str | None, *, parent: Made | None = None
    ) -> Made:
        made = super()._make(order, minor, reference, custom, parent=parent)
        self._of_order[order.id].append(made)
        return made


class PayPalProcess(PayPalSimulator):
    """The server."""

    def __init__(self, desk: Desk, *, port: int, certificate: SigningCertificate) -> None:
        super().__init__(
            judge=_judge().refusals, certificate=certificate, webhook_id=WEBHOOK_ID, certificate_url=CERTIFICATE_URL
        )
        self.desk = desk
        self.port = port
        self.events = events = KeptEvents(desk, certificate)
        self.bank = self.kept_bank = KeptBank(desk, events)
        for key, (fingerprint, name, refusal) in desk.book.keys().items():
            stored = self.stored[key] = _Stored(fingerprint=fingerprint)
            if refusal is None:
                stored.render = _renders(self.kept_bank, name)
            else:
                stored.refusal = _refused(*refusal)

    def control(self) -> Sequence[web.RouteDef]:
        async def certificate(_: web.Request) -> web.Response:
            return web.Response(body=self.events.certificate.pem, content_type="application/x-pem-file")

        return [web.get(CERTIFICATE_PATH, certificate), *control_routes(self.desk, self.payer_acts)]

    def postman(self, url: str) -> Postman:
        """Return who delivers its webhooks there."""
        return Postman(self.desk.book, url)

    def drawn(self, method: str, path: str, said: Json) -> Situation | None:
        return self.desk.weather.met_by_call(able(method, path, said))

    def refuses(self, method: str, path: str, against: list[str]) -> None:
        for each in against:
            self.desk.book.complain(f"{method} {path}: {each}")
        self.desk.book.commit()

    def begins(self, key: str) -> None:
        self.desk.begin()

    def carried_out(self, key: str, stored: _Stored, answer: Json | None) -> None:
        """Let what follows happen now, to be told later; keep all of it."""
        self.kept_bank.follow()
        name = "" if answer is None else str(answer["id"])
        if answer is not None:
            self.kept_bank.keep(self.kept_bank.order_with(name), key)
            stored.render = _renders(self.kept_bank, name)
        refusal = None if stored.refusal is None else (stored.refusal.status, stored.refusal.body)
        self.desk.book.keep_key(key, (stored.fingerprint, name, refusal))
        self.desk.book.commit()

    async def _met(self, request: web.Request, situation: Situation) -> web.StreamResponse:
        if situation in {Situation.TIMEOUT_BEFORE, Situation.TIMEOUT_AFTER}:
            return await faults.silence(request, self._held)  # a caller that went away is not waited for
        return await super()._met(request, situation)

    def payer_acts(self, reference: str, *, agreed: bool) -> Mapping[str, str]:
        """Act as the payer of an order, who agrees, or agrees with a method that will be declined. Raises: KeyError."""
        order = self.kept_bank.orders[reference]
        if order.status == "PAYER_ACTION_REQUIRED":
            self.kept_bank.approve(reference, declined=not agreed)
            self.kept_bank.keep(order, "")
        return {"token": reference, "PayerID": "QYR5Z8XDVJNXQ"}


def _renders(bank: KeptBank, name: str) -> Callable[[], Json]:
    return lambda: bank.rendered(name)


def _refused(status: int, body: Json) -> RefusedError:
    issue = body["details"][0]["issue"] if "details" in body else None
    return RefusedError(status, body["name"], issue)


def _judge() -> RequestJudge:
    """Return the judge by PayPal's document, with all compiled that is judged here: the first time takes a while."""
    judge = judge_of(PAYPAL_DOCUMENT)
    for path in (
        "/v1/oauth2/token",
        "/v2/checkout/orders",
        *(f"/v2/checkout/orders/ORDER/{step}" for step in ("authorize", "capture")),
        *(f"/v2/payments/authorizations/AUTH/{step}" for step in ("capture", "void")),
        "/v2/payments/captures/CAP/refund",
    ):
        form = "application/x-www-form-urlencoded" if "oauth2" in path else "application/json"
        headers = {"content-type": form, "prefer": "return=minimal", "paypal-request-id": "1"}
        judge.refusals("POST", path, headers, b"{}")
    return judge


def write_certificate(certificate: SigningCertificate, path: Path) -> None:
    """Write the certificate, its chain and its key to one file, for a process to sign with."""
    key = certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.pem + key)


def read_certificate(path: Path) -> SigningCertificate:
    """Return what `write_certificate` wrote."""
    pem = path.read_bytes()
    key = load_pem_private_key(pem[pem.index(b"-----BEGIN PRIVATE KEY") :], password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return SigningCertificate(chain=tuple(x509.load_pem_x509_certificates(pem)), key=key)
