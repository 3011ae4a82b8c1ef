"""The desk over HTTP: who may decide, what is refused before it is appended, and what four eyes need."""

from collections.abc import Mapping

import pytest

from http_ingress.access.api_keys import KeyRing, MemoryKeyStore, create_key, create_operator_key
from http_ingress.command_log import LogUnavailableError
from http_ingress.operators import endpoints, proposals
from schemas.identifiers import OperatorName, OriginId
from schemas.records.decisions import DecisionMade, DecisionTried
from schemas.records.payments import PaymentQueried
from schemas.vocabulary import DecisionRefusal, Verdict
from tests.support.desk_under_test import NOW_MS, OP, ORDER, ORIGIN, PAYMENT, FakeOrder, RunningDesk, running_desk
from tests.support.ingress_under_test import running_ingress

PEPPER = b"a pepper of more than sixteen bytes"
BODY: Mapping[str, object] = {
    "originId": ORIGIN,
    "paymentId": PAYMENT,
    "operation": OP,
    "outcome": "succeeded",
    "amount": 900,
    "why": "seen in the settlement report of 30 November",
}


async def test_decision_is_appended_and_its_outcome_told_when_the_order_takes_it() -> None:
    async with running_desk() as desk:
        status, told = await desk.post("/decisions", "anna", BODY)
        ((made, envelope),) = [each for each in desk.order.records if isinstance(each[0], DecisionMade)]
    assert (status, told["state"]) == (200, "decided")
    assert told["after"]["operation"]["state"] == "succeeded"  # type: ignore[index]  # JSON
    assert isinstance(made, DecisionMade)
    assert (made.origin_id, made.order_id, made.payment_id, made.op_id) == (ORIGIN, ORDER, PAYMENT, OP)
    assert (made.verdict, made.amount_minor, made.decided_by, made.approved_by) == (
        Verdict.SUCCEEDED,
        900,
        "anna",
        None,
    )
    assert (envelope.replypartition, envelope.partitionkey, envelope.originid) == (3, ORDER, ORIGIN)


async def test_decision_is_tried_before_it_is_appended_and_not_appended_when_the_order_would_refuse_it() -> None:
    async with running_desk() as desk:
        desk.order.refusal = DecisionRefusal.NOT_OPEN
        status, problem = await desk.post("/decisions", "anna", BODY)
    assert (status, problem["code"]) == (409, "decision_refused")
    assert "not_open" in str(problem["detail"])
    assert [type(record) for record, _ in desk.order.records] == [DecisionTried]


@pytest.mark.parametrize("refusal", DecisionRefusal)
async def test_refusal_of_the_order_is_a_problem_in_words_when_it_refuses_at_last(refusal: DecisionRefusal) -> None:
    """The trial went well, and the order has moved on before the decision came."""
    async with running_desk() as desk:
        desk.order.refusal, desk.order.refuses_trials = refusal, False
        status, problem = await desk.post("/decisions", "anna", BODY)
    unknown = {DecisionRefusal.PAYMENT_UNKNOWN, DecisionRefusal.OPERATION_UNKNOWN}
    assert status == (404 if refusal in unknown else 409)
    assert problem["title"]
    assert len(desk.order.made()) == 1


async def test_dry_run_says_what_would_change_and_appends_no_decision() -> None:
    async with running_desk(four_eyes=True) as desk:
        status, told = await desk.post("/decisions", "anna", {**BODY, "dryRun": True})
    assert (status, told["state"]) == (200, "tried")
    assert told["before"]["operation"]["state"] == "manual_review"  # type: ignore[index]  # JSON
    assert told["after"]["operation"]["state"] == "succeeded"  # type: ignore[index]  # JSON
    assert [type(record) for record, _ in desk.order.records] == [PaymentQueried, DecisionTried]


async def test_decision_is_one_when_it_is_asked_for_again_under_its_key() -> None:
    async with running_desk() as desk:
        for key in ("k1", "k1", "k2"):
            await desk.post("/decisions", "anna", BODY, Idempotency_Key=key)
        await desk.post("/decisions", "bert", BODY, Idempotency_Key="k1")
        first, again, other, of_bert = (made.decision_id for made in desk.order.made())
    assert first == again
    assert len({first, other, of_bert}) == 3


async def test_decision_is_accepted_when_no_answer_comes_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "QUERY_TIMEOUT_S", 0.2)
    async with running_desk() as desk:
        desk.order.silent_about = DecisionMade
        status, told = await desk.post("/decisions", "anna", BODY)
        assert (status, told["state"], len(desk.order.made())) == (202, "accepted", 1)
        desk.order.silent_about = DecisionTried
        status, problem = await desk.post("/decisions", "anna", BODY)
        assert (status, problem["code"], len(desk.order.made())) == (503, "no_answer", 1)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"outcome": "declined"}, "#/outcome"),
        ({"amount": 0}, "#/amount"),
        ({"amount": "900"}, "#/amount"),
        ({"outcome": "note"}, "#/amount"),
        ({"why": ""}, "#/why"),
        ({"why": "  "}, "#/why"),
        ({"why": "x" * 501}, "#/why"),
        ({"why": "a\nb"}, "#/why"),
        ({"operation": "a b"}, "#/operation"),
        ({"originId": "a|b"}, "#/originId"),
        ({"decidedBy": "bert"}, "#/decidedBy"),
        ({"paymentId": "re_1"}, "#/paymentId"),
    ],
)
async def test_decision_is_refused_at_its_field_when_a_value_is_wrong(changes: dict[str, object], pointer: str) -> None:
    async with running_desk() as desk:
        status, problem = await desk.post("/decisions", "anna", {**BODY, **changes})
    assert (status, problem["code"]) == (400, "invalid_body")
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]  # type: ignore[attr-defined]  # JSON
    assert desk.order.records == []


@pytest.mark.parametrize(
    "changes",
    [{"why": "the payer's card is 4242424242424242"}, {"why": "pan%3D4242424242424242"}, {"cvv": "123"}],
)
async def test_decision_is_refused_without_an_echo_when_it_holds_card_data(changes: dict[str, object]) -> None:
    async with running_desk() as desk:
        status, problem = await desk.post("/decisions", "anna", {**BODY, **changes})
    assert (status, problem["code"]) == (422, "card_number")
    assert "4242" not in str(problem)
    assert desk.order.records == []


@pytest.mark.parametrize("payment", ["pay_bm9uc2Vuc2U", f"pay_{'A' * 200}"])
async def test_decision_is_refused_when_no_such_payment_id_was_ever_given(payment: str) -> None:
    async with running_desk() as desk:
        status, problem = await desk.post("/decisions", "anna", {**BODY, "paymentId": payment})
    assert (status, problem["code"]) == (404, "payment_not_found")


async def test_log_that_cannot_be_written_is_a_503_that_says_whether_the_decision_may_stand() -> None:
    async with running_desk() as desk:
        desk.order.fault = LogUnavailableError("gone", may_be_written=False)
        status, problem = await desk.post("/decisions", "anna", BODY)
    assert (status, problem["code"]) == (503, "log_unavailable")
    assert "Nothing was written" in str(problem["detail"])


# Four eyes.


async def proposed(desk: RunningDesk, by: str = "anna", key: str = "k1", **changes: object) -> str:
    status, told = await desk.post("/decisions", by, {**BODY, **changes}, Idempotency_Key=key)
    assert (status, told["state"]) == (202, "proposed")
    identity: str = told["decision"]["id"]  # type: ignore[index]  # JSON
    return identity


async def test_proposal_holds_when_another_operator_approves_it_and_names_both() -> None:
    async with running_desk(four_eyes=True) as desk:
        identity = await proposed(desk)
        assert desk.order.made() == []
        assert [each["id"] for each in await desk.pending("bert")] == [identity]
        status, told = await desk.post(f"/proposals/{identity}/approval", "bert")
        (made,) = desk.order.made()
        assert await desk.pending() == []
    assert (status, told["state"]) == (200, "decided")
    assert (made.decided_by, made.approved_by, made.decision_id) == ("anna", "bert", identity)


async def test_proposal_stays_one_when_its_own_maker_approves_it() -> None:
    async with running_desk(four_eyes=True) as desk:
        identity = await proposed(desk)
        status, problem = await desk.post(f"/proposals/{identity}/approval", "anna")
        assert (status, problem["code"]) == (403, "same_person")
        assert len(await desk.pending()) == 1
    assert desk.order.made() == []


async def test_proposal_survives_a_restart_since_it_stands_on_the_log() -> None:
    order = FakeOrder()
    async with running_desk(order, four_eyes=True) as desk:
        identity = await proposed(desk)
    async with running_desk(order, four_eyes=True) as desk:
        assert [each["id"] for each in await desk.pending()] == [identity]
        status, _ = await desk.post(f"/proposals/{identity}/approval", "bert")
    assert (status, len(order.made())) == (200, 1)


async def test_proposal_is_void_when_its_time_is_over() -> None:
    async with running_desk(four_eyes=True) as desk:
        identity = await proposed(desk)
        desk.clock[0] = NOW_MS + 3_600_000
        assert await desk.pending() == []
        status, problem = await desk.post(f"/proposals/{identity}/approval", "bert")
    assert (status, problem["code"]) == (404, "proposal_not_found")
    assert desk.order.made() == []


async def test_approval_says_the_same_again_when_it_is_asked_for_twice() -> None:
    async with running_desk(four_eyes=True) as desk:
        identity = await proposed(desk)
        answers = [await desk.post(f"/proposals/{identity}/approval", "bert") for _ in range(2)]
        again = await desk.post("/decisions", "anna", BODY, Idempotency_Key="k1")
    assert [status for status, _ in (*answers, again)] == [200, 200, 200]
    assert [told["state"] for _, told in (*answers, again)] == ["decided"] * 3
    assert len(desk.order.made()) == 1


async def test_proposal_is_one_when_it_is_made_again_and_refused_when_its_key_says_something_else() -> None:
    async with running_desk(four_eyes=True) as desk:
        assert await proposed(desk) == await proposed(desk)
        status, problem = await desk.post("/decisions", "anna", {**BODY, "amount": 901}, Idempotency_Key="k1")
    assert (status, problem["code"]) == (409, "decision_refused")
    assert "id_reused" in str(problem["detail"])
    assert len(desk.order.proposed()) == 1


async def test_proposal_that_the_order_would_refuse_is_not_made() -> None:
    async with running_desk(four_eyes=True) as desk:
        desk.order.refusal = DecisionRefusal.AMOUNT_OUT_OF_RANGE
        status, _ = await desk.post("/decisions", "anna", BODY)
    assert status == 409
    assert desk.order.proposed() == []


async def test_proposals_are_refused_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MAX_PENDING", 2)
    async with running_desk(four_eyes=True) as desk:
        for key in ("k1", "k2"):
            await proposed(desk, key=key)
        status, problem = await desk.post("/decisions", "anna", BODY, Idempotency_Key="k3")
    assert (status, problem["code"]) == (409, "too_many_proposals")
    assert proposals.MAX_PENDING == 200


async def test_note_needs_one_person_when_decisions_need_two() -> None:
    async with running_desk(four_eyes=True) as desk:
        note = {**BODY, "outcome": "note", "amount": None}
        status, told = await desk.post("/decisions", "anna", note)
    assert (status, told["state"]) == (200, "decided")
    assert [made.verdict for made in desk.order.made()] == [Verdict.NOTE]


async def test_approval_finds_nothing_when_nothing_was_proposed() -> None:
    async with running_desk(four_eyes=True) as desk:
        for identity in ("dec_unknown", "x" * 65):
            status, problem = await desk.post(f"/proposals/{identity}/approval", "bert")
            assert (status, problem["code"]) == (404, "proposal_not_found")


# Who.


async def test_keys_open_their_own_port_alone() -> None:
    merchants, merchant = create_key(OriginId("originA"), pepper=PEPPER, now_ms=1)
    operators, operator = create_operator_key(OperatorName("anna"), pepper=PEPPER, now_ms=1)
    ring = KeyRing(MemoryKeyStore([merchant, operator]), pepper=PEPPER)
    async with running_desk(keys=ring) as desk, running_ingress(keys=ring) as ingress:
        for key, at_desk, at_merchants in ((operators, 200, 401), (merchants, 401, 404)):
            headers = {"X-Api-Key": key}
            async with desk.http.post("/decisions", json=BODY, headers=headers) as response:
                assert response.status == at_desk
            async with ingress.http.get(f"/payments/{PAYMENT}", headers=headers) as response:
                assert response.status == at_merchants
        assert [made.decided_by for made in desk.order.made()] == ["anna"]


async def test_operator_is_the_keys_owner_whatever_the_request_says() -> None:
    key, record = create_operator_key(OperatorName("anna"), pepper=PEPPER, now_ms=1)
    async with running_desk(keys=KeyRing(MemoryKeyStore([record]), pepper=PEPPER)) as desk:
        headers = {"Authorization": f"Bearer {key}", "X-Operator": "bert"}
        async with desk.http.post("/decisions", json=BODY, headers=headers) as response:
            assert response.status == 200
    assert [made.decided_by for made in desk.order.made()] == ["anna"]


@pytest.mark.parametrize(
    "headers", [{}, {"X-Operator": ""}, {"X-Operator": "an na"}, {"X-Operator": "4242424242424242"}]
)
async def test_nobody_decides_when_development_mode_is_not_told_who(headers: dict[str, str]) -> None:
    async with running_desk() as desk, desk.http.post("/decisions", json=BODY, headers=headers) as response:
        assert response.status in {400, 401, 422}
        assert "4242" not in await response.text()
    assert desk.order.records == []


async def test_desk_says_that_it_lives_and_is_ready_without_a_key() -> None:
    async with running_desk() as desk:
        for path in ("/healthz", "/readyz"):
            async with desk.http.get(path) as response:
                assert response.status == 200
        async with desk.http.get("/payments/x") as response:
            assert response.status == 404


def test_words_name_every_refusal_that_the_order_may_answer_with() -> None:
    told = set(endpoints._IN_WORDS)  # the table behind the problems' details
    assert told | {DecisionRefusal.PAYMENT_UNKNOWN, DecisionRefusal.OPERATION_UNKNOWN} == set(DecisionRefusal)
