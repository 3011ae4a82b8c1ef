"""The orders agent and routing policies: what a rule may ask of a command, what is pinned, what a dry run tells."""

from dataclasses import replace

import pytest
import structlog.testing

from gateway_adapters.mock.spec import CAPABILITIES
from schemas import topics
from schemas.event_types import TYPES
from schemas.identifiers import CommandId, GatewayName, GatewayRoute
from schemas.messages import Envelope, MessageCodec
from schemas.records.claims import ClaimRequested, RoutePlan
from schemas.records.commands import Payer, PaymentRequested, PaymentToken
from schemas.records.policies import OriginPolicy, RoutingRule, WeightedRoute
from schemas.schema_ids import SchemaIds
from schemas.vocabulary import DeclineClass, Rejection
from streams.agents.orders import OrdersAgent
from streams.agents.references import Parking
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.step import InputEvent
from streams.topology import ORDERS_TABLE
from tests.support.metric_pages import rise_of
from tests.support.order_desk import ORDER, ORIGIN, sale

CODEC = MessageCodec(SchemaIds.packaged())
NOW_MS = 1_800_000_000_000
A, B = GatewayRoute("a"), GatewayRoute("b")
GERMAN = RoutingRule(
    currencies=(),
    min_amount_minor=None,
    max_amount_minor=None,
    token_kinds=("stored",),
    payer_countries=("DE",),
    routes=(WeightedRoute(gateway=B, weight=1),),
)
POLICY = OriginPolicy(
    origin_id=ORIGIN,
    version=7,
    gateways=(A,),
    fallback=True,
    max_attempts=2,
    limits=(),
    updated_at_ms=0,
    rules=(GERMAN,),
    fallback_classes=(DeclineClass.SOFT,),
)


def paid(country: str | None) -> PaymentRequested:
    command = sale(5_000)
    assert isinstance(command, PaymentRequested)
    tokens = tuple(PaymentToken(gateway=GatewayName(each), kind="stored", value=f"tok_{each}") for each in ("a", "b"))
    return replace(command, token=None, tokens=tokens, payer=None if country is None else Payer(country=country))


def planned(policy: OriginPolicy, command: PaymentRequested) -> tuple[RoutePlan, bytes]:
    """What the claim of this command pins, and its order's row."""
    agent = OrdersAgent(
        CODEC,
        partitions=1,
        policies=lambda: {ORIGIN: policy},
        gateways={},
        capabilities={A: CAPABILITIES, B: CAPABILITIES},
        parking=Parking(),
        rules=DEFAULT_RULES,
    )
    envelope = Envelope(
        id=CommandId("c1"),
        source="test",
        type=TYPES[PaymentRequested],
        time_ms=NOW_MS,
        originid=ORIGIN,
        idempotencykey=command.idempotency_key,
    )
    message = CODEC.encode(command, envelope)
    event = InputEvent(
        topic=topics.COMMANDS,
        partition=0,
        offset=0,
        timestamp_ms=NOW_MS,
        key=ORDER.encode(),
        value=message.value,
        headers=message.headers,
        possible_replay=False,
    )
    step = agent.take(event, lambda _table, _key: None)
    (sent,) = (each for each in step.speak if each.topic == topics.CLAIMS)
    assert sent.value is not None
    _, claim = CODEC.decode(sent.value, sent.headers)
    assert isinstance(claim, ClaimRequested)
    (row,) = (write.value for write in step.rows if write.table == ORDERS_TABLE)
    assert row is not None
    return claim.plan, row


@pytest.mark.parametrize(("country", "route"), [("DE", B), ("AT", A), (None, A)])
def test_rule_about_the_payers_country_and_the_kind_of_token_is_followed(country: str | None, route: str) -> None:
    plan, row = planned(POLICY, paid(country))
    assert (plan.gateways, plan.policy_version) == ((route, route), 7)
    assert b"DE" not in row, "the country stands in the command alone"
    assert b"stored" not in row


def test_claim_pins_the_classes_of_declines_with_the_plan() -> None:
    plan, _ = planned(replace(POLICY, gateways=(A, B)), paid(None))
    assert (plan.gateways, plan.fallback_classes) == ((A, B), (DeclineClass.SOFT,))


def test_dry_run_routes_by_the_gateways_and_tells_where_the_rules_would_have_sent_the_payment() -> None:
    moved = rise_of("routes_shadowed", route="a", would="b")
    with structlog.testing.capture_logs() as logged:
        plan, _ = planned(replace(POLICY, dry_run=True), paid("DE"))
    assert plan.gateways == (A, A)
    assert moved() == 1
    assert logged == [{"event": "route_shadowed", "log_level": "info", "order_id": ORDER, "actual": "a", "wanted": "b"}]


def test_dry_run_tells_that_the_rules_would_have_refused_the_payment() -> None:
    nowhere = replace(GERMAN, routes=(WeightedRoute(gateway=GatewayRoute("z"), weight=1),))
    refused = rise_of("routes_shadowed", route="a", would="none")
    plan, _ = planned(replace(POLICY, rules=(nowhere,), dry_run=True), paid("DE"))
    assert (plan.refusal, refused()) == (None, 1)
    plan, _ = planned(replace(POLICY, rules=(nowhere,)), paid("DE"))
    assert (plan.refusal, refused()) == (Rejection.NO_GATEWAY, 1), "nothing is told of a policy that is in force"
