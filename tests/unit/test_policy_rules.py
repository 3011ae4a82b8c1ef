"""Routing rules as a person writes them: what is read, what is shown again, and how faults are told."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import GatewayRoute
from schemas.records.policies import RoutingRule, WeightedRoute
from streams.operator_tools.errors import RefusedError
from streams.operator_tools.policy_rules import in_words, rules_in, shown

AS_TOML = """
[[rules]]
currencies = ["EUR"]
min_amount_minor = 1
max_amount_minor = 100000
token_kinds = ["stored"]
payer_countries = ["DE", "AT"]
routes = [{ gateway = "mock/eu", weight = 70 }, { gateway = "mock", weight = 30 }]

[[rules]]
routes = ["mock", "mock/eu"]
"""
AS_RECORDS = (
    RoutingRule(
        currencies=("EUR",),
        min_amount_minor=1,
        max_amount_minor=100_000,
        token_kinds=("stored",),
        payer_countries=("DE", "AT"),
        routes=(
            WeightedRoute(gateway=GatewayRoute("mock/eu"), weight=70),
            WeightedRoute(gateway=GatewayRoute("mock"), weight=30),
        ),
    ),
    RoutingRule(
        currencies=(),
        min_amount_minor=None,
        max_amount_minor=None,
        token_kinds=(),
        payer_countries=(),
        routes=(
            WeightedRoute(gateway=GatewayRoute("mock"), weight=1),
            WeightedRoute(gateway=GatewayRoute("mock/eu"), weight=0),
        ),
    ),
)
TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
AMOUNTS = st.none() | st.integers(-(2**63), 2**63 - 1)
RULES = st.builds(
    RoutingRule,
    currencies=TEXTS,
    min_amount_minor=AMOUNTS,
    max_amount_minor=AMOUNTS,
    token_kinds=TEXTS,
    payer_countries=TEXTS,
    routes=st.lists(
        st.builds(WeightedRoute, gateway=st.text(max_size=5).map(GatewayRoute), weight=st.integers(-5, 5)),
        min_size=1,
        max_size=3,
    ).map(tuple),
)


def test_rules_are_read_from_toml_and_from_json_alike() -> None:
    assert rules_in(AS_TOML) == AS_RECORDS
    assert rules_in(json.dumps(shown(AS_RECORDS))) == AS_RECORDS
    assert rules_in(json.dumps({"rules": shown(AS_RECORDS)})) == AS_RECORDS
    assert rules_in("[]") == ()


@given(rules=st.lists(RULES, max_size=3).map(tuple))
def test_rules_that_are_shown_can_be_given_again(rules: tuple[RoutingRule, ...]) -> None:
    assert rules_in(json.dumps(shown(rules))) == rules


def test_rule_is_told_in_one_line() -> None:
    lines = [in_words(each) for each in AS_RECORDS]
    assert lines == [
        "EUR; 1..100000 minor units; tokens stored; payers in DE, AT: mock/eu 70, mock 30",
        "every payment: mock 1, mock/eu 0",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- routes: [mock]", "neither JSON"),
        ("7", "must hold a list"),
        ("{}", "must hold a list"),
        ('{"rules": [], "gateways": []}', "the file has gateways; known: rules"),
        ("[7]", "rule 1 must be an object with currencies"),
        ('[{"routes": ["mock"]}, {"route": ["mock"]}]', "rule 2 has route; known: currencies"),
        ('[{"routes": []}]', "rule 1: routes must be a list, such as"),
        ("[{}]", "rule 1: routes must be a list"),
        ('[{"routes": "mock"}]', "rule 1: routes must be a list"),
        ('[{"routes": ["mock", {"gateway": "mock", "weight": 1}]}]', "or all must be names alone"),
        ('[{"routes": [{"gateway": "mock"}]}]', "rule 1: routes: each must have gateway and weight"),
        ('[{"routes": [{"gateway": "mock", "weight": "1"}]}]', "its weight a whole number"),
        ('[{"routes": [{"gateway": "mock", "weight": true}]}]', "its weight a whole number"),
        ('[{"routes": [{"gateway": 1, "weight": 1}]}]', "a gateway must be text"),
        ('[{"routes": ["mock"], "currencies": "EUR"}]', "rule 1: currencies must be a list of texts"),
        ('[{"routes": ["mock"], "payer_countries": [1]}]', "rule 1: payer_countries must be a list of texts"),
        ('[{"routes": ["mock"], "min_amount_minor": 1.5}]', "rule 1: min_amount_minor must be a whole number"),
        ('[{"routes": ["mock"], "max_amount_minor": true}]', "rule 1: max_amount_minor must be a whole number"),
        (f'[{{"routes": ["mock"], "max_amount_minor": {2**63}}}]', "rule 1: max_amount_minor must be a whole number"),
        ("[" * 100_000, "neither JSON"),
        ("1" * 5_000, "neither JSON"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_rules_that_cannot_be_read_are_refused_with_their_place(text: str, told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        rules_in(text)


@given(
    text=st.text(max_size=30) | st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists).map(json.dumps)
)
def test_rules_are_refused_and_nothing_else_happens_whatever_the_text_is(text: str) -> None:
    with contextlib.suppress(RefusedError):
        rules_in(text)
