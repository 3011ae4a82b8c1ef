"""`payment-engine policy` against a broker: what is set is shown, can be given again, and is explained."""

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway_adapters.routing import first_by_weight
from schemas.identifiers import GatewayRoute, OrderId, OriginId
from schemas.records.policies import WeightedRoute
from streams.cli.exits import ExitCode
from tests.support.command_line import json_of, run_command
from tests.support.embedded_process import embedded_broker_process

HERE = "http://127.0.0.1:1"
RULES = [
    {"currencies": ["USD"], "routes": [{"gateway": "mock", "weight": 1}]},
    {
        "currencies": ["EUR"],
        "min_amount_minor": 1,
        "max_amount_minor": 100_000,
        "token_kinds": ["stored"],
        "payer_countries": ["DE"],
        "routes": [{"gateway": "mock/eu", "weight": 70}, {"gateway": "mock", "weight": 30}],
    },
]
PAYMENT = ("--amount", "1999", "--currency", "EUR", "--token-kind", "stored", "--country", "DE")


@pytest.fixture(scope="module")
def broker() -> Iterator[Mapping[str, str]]:
    """The environment of a broker with the engine's topics, and of two accounts at the Mock."""
    with embedded_broker_process() as address:
        environment = {
            "PAYMENT_ENGINE_KAFKA_BOOTSTRAP_SERVERS": address,
            "PAYMENT_ENGINE_KAFKA_PARTITIONS": "1",
            "PAYMENT_ENGINE_GATEWAY_MOCK_URL": HERE,
            "PAYMENT_ENGINE_GATEWAY_MOCK__EU__URL": HERE,
        }
        applied = run_command("topics", "apply", "--yes", environment=environment)
        assert applied.exit_code == ExitCode.OK, applied.output
        yield environment


@pytest.fixture
def origin() -> str:
    return f"m-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(RULES))
    return str(file)


def explained(broker: Mapping[str, str], origin: str, *words: str) -> str:
    result = run_command("policy", "explain", "--origin", origin, *words, environment=broker)
    assert result.exit_code == ExitCode.OK, result.output
    return result.stdout


def test_rules_that_are_set_are_shown_and_can_be_given_again(
    broker: Mapping[str, str], origin: str, rules: str, tmp_path: Path
) -> None:
    words = ("policy", "set", origin, "--gateways", "mock", "--rules", rules, "--fallback-class", "soft")
    written = json_of(run_command(*words, "--rules-dry-run", "-o", "json", environment=broker))
    assert (written["rules"], written["fallback_classes"], written["dry_run"]) == (RULES, ["soft"], True)
    (shown,) = json_of(run_command("policy", "show", origin, "-o", "json", environment=broker))
    again = tmp_path / "again.json"
    again.write_text(json.dumps({"rules": shown["rules"]}))
    words = ("policy", "set", origin, "--gateways", "mock", "--rules", str(again), "-o", "json")
    assert json_of(run_command(*words, environment=broker))["rules"] == RULES
    text = run_command("policy", "show", origin, environment=broker).stdout
    assert f"{origin}: rule 2: EUR; 1..100000 minor units; tokens stored; payers in DE: mock/eu 70, mock 30" in text


def test_policy_says_so_when_it_loses_its_rules_and_when_a_route_is_not_set_up(
    broker: Mapping[str, str], origin: str, rules: str
) -> None:
    words = ("policy", "set", origin, "--gateways", "mock")
    elsewhere = {name: value for name, value in broker.items() if "__EU__" not in name}
    told = run_command(*words, "--rules", rules, environment=elsewhere)
    assert "mock/eu is not set up in this environment" in told.stderr
    lost = run_command(*words, environment=broker)
    assert "the 2 rules of version" in lost.stderr
    assert "no --rules were given" in lost.stderr


def test_payment_is_explained_by_the_rule_that_fits_and_its_order(
    broker: Mapping[str, str], origin: str, rules: str
) -> None:
    words = ("policy", "set", origin, "--gateways", "mock", "--rules", rules, "--fallback-class", "soft")
    assert run_command(*words, environment=broker).exit_code == ExitCode.OK
    text = explained(broker, origin, *PAYMENT, "--order", "order-7")
    assert f"by policy `{origin}`, version 1\n" in text
    assert "rule 1 does not fit: currency" in text
    assert "rule 2 fits" in text
    assert "mock/eu 70.0%, mock 30.0%; order 'order-7' begins at" in text
    assert "also after a decline that is soft" in text
    told = json.loads(explained(broker, origin, *PAYMENT, "--order", "order-7", "-o", "json"))
    assert (told["rule"], told["misfits"], told["shares"]) == (2, ["currency"], {"mock/eu": 70, "mock": 30})
    assert set(told["attempts"]) == {"mock", "mock/eu"}
    weighted = [WeightedRoute(gateway=GatewayRoute(name), weight=weight) for name, weight in told["shares"].items()]
    first = first_by_weight(weighted, origin_id=OriginId(origin), order_id=OrderId("order-7"))
    assert told["routes"][0] == first


def test_payment_is_explained_by_the_gateways_when_no_rule_fits_and_each_reason_is_told(
    broker: Mapping[str, str], origin: str, rules: str
) -> None:
    words = ("policy", "set", origin, "--gateways", "mock/us,mock", "--rules", rules, "--limit", "EUR=5000")
    assert run_command(*words, environment=broker).exit_code == ExitCode.OK
    text = explained(broker, origin, "--amount", "1999", "--currency", "EUR")
    assert "rule 2 does not fit: token kind" in text
    assert "the policy's gateways" in text
    assert "mock/us is passed over: the account is not set up here" in text
    assert "attempts: 1. mock, 2. mock, 3. mock" in text
    assert "refused: limit_exceeded" in explained(broker, origin, "--amount", "5001", "--currency", "EUR")
    only = explained(broker, origin, *PAYMENT[:4], "--token-kind", "elsewhere=stored")
    assert "mock is passed over: the payment brings no token for it" in only
    assert "refused: no_gateway" in only


def test_dry_run_is_explained_with_what_the_rules_would_do(broker: Mapping[str, str], origin: str, rules: str) -> None:
    words = ("policy", "set", origin, "--gateways", "mock", "--rules", rules, "--rules-dry-run")
    assert run_command(*words, environment=broker).exit_code == ExitCode.OK
    text = explained(broker, origin, *PAYMENT, "--order", "order-7")
    assert (
        text.index("attempts: 1. mock, 2. mock, 3. mock")
        < text.index("dry run: by its rules")
        < text.index("rule 2 fits")
    )
    told = json.loads(explained(broker, origin, *PAYMENT, "-o", "json"))
    assert (told["dry_run"], told["rule"], told["would"]["rule"]) == (True, None, 2)


def test_origin_that_no_policy_speaks_of_is_explained_by_the_configured_gateways(
    broker: Mapping[str, str], origin: str
) -> None:
    text = explained(broker, origin, "--amount", "1", "--currency", "EUR", "--no-capture")
    assert text.startswith("by the configured gateways\n")
    assert "attempts: 1. mock" in text
