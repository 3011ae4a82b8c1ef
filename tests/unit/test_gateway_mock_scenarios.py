import statistics
from pathlib import Path
from random import Random

import pytest

from gateway_adapters.mock import scenarios
from gateway_adapters.mock.courses import Manner, Scenario, Word
from gateway_adapters.mock.latency import MAX_LATENCY_MS, Fixed, LogNormal, parse
from gateway_adapters.mock.scenarios import MAX_RULES, Happening, Request, Rule, ScenarioBook
from gateway_adapters.mock.tokens import PLAIN, TokenPlan, plan_of
from schemas.vocabulary import CallKind

PAGE = Path(__file__).parents[2] / "docs" / "mock.md"
HTML = Happening(scenario=Scenario.HTML_502_AFTER)


def request(
    kind: CallKind = CallKind.SALE,
    order: str = "1",
    token: str = "tok_visa",
    key: str = "k",
    account: str = "default",
) -> Request:
    return Request(kind=kind, order_id=order, origin_id="shop", gateway_key=key, plan=plan_of(token), account=account)


@pytest.mark.parametrize("token", ["tok_visa", "tok_123", "anything", "tok_", "tok_mock_", "tok_mock_nonsense", "4242"])
def test_any_other_token_succeeds(token: str) -> None:
    assert plan_of(token) == PLAIN


@pytest.mark.parametrize("prefix", ["tok_", "pm_card_", "tok_visa_", "pm_card_visa_"])
def test_stripes_test_tokens_are_known_under_their_prefixes(prefix: str) -> None:
    assert plan_of(f"{prefix}chargeDeclinedInsufficientFunds").decline == "insufficient_funds"
    assert plan_of(f"{prefix}authenticationRequired").action_required
    assert plan_of(f"{prefix}refundFail") == TokenPlan(scenario=Scenario.LATE_FAILURE, kind=CallKind.REFUND, times=None)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("tok_mock_timeout_after", TokenPlan(scenario=Scenario.TIMEOUT_AFTER)),
        ("tok_mock_rate_limited_x2", TokenPlan(scenario=Scenario.RATE_LIMITED, times=2)),
        ("tok_mock_html_502_before_always", TokenPlan(scenario=Scenario.HTML_502_BEFORE, times=None)),
        ("tok_mock_capture_late_failure", TokenPlan(scenario=Scenario.LATE_FAILURE, kind=CallKind.CAPTURE)),
        (
            "tok_mock_inquire_not_found_yet_x3",
            TokenPlan(scenario=Scenario.NOT_FOUND_YET, kind=CallKind.INQUIRE, times=3),
        ),
        ("tok_mock_slow_x999999", TokenPlan(scenario=Scenario.SLOW, times=1000)),
        ("tok_mock_declined_brand_new", TokenPlan(decline="brand_new")),
        (
            "tok_mock_capture_dispute_lost+by_reference+batched_x2",
            TokenPlan(
                scenario=Scenario.DISPUTE_LOST,
                manners=frozenset({Manner.BY_REFERENCE, Manner.BATCHED}),
                kind=CallKind.CAPTURE,
                times=2,
            ),
        ),
        ("tok_mock_dispute_lost+nonsense", PLAIN),
    ],
)
def test_our_tokens_name_scenario_kind_and_times(token: str, expected: TokenPlan) -> None:
    assert plan_of(token) == expected


def test_every_scenario_can_be_asked_for_by_token() -> None:
    assert {plan_of(f"tok_mock_{scenario.value}").scenario for scenario in Scenario} == set(Scenario)


def test_page_about_the_mock_names_all_that_can_be_asked_for() -> None:
    page = PAGE.read_text(encoding="utf-8")
    missing = [name.value for name in (*Scenario, *Manner, *Word) if f"`{name.value}`" not in page]
    assert missing == []


def test_token_scenario_strikes_so_many_calls_of_its_kind_and_order() -> None:
    book = ScenarioBook()
    token = "tok_mock_rate_limited_x2"
    struck = [book.pick(request(token=token, key=str(n))) is not None for n in range(4)]
    assert struck == [True, True, False, False]
    assert book.pick(request(order="2", token=token)) is not None
    assert book.pick(request(kind=CallKind.CAPTURE, token=token)) is None


def test_token_scenario_that_names_a_kind_leaves_the_opening_call_alone() -> None:
    book = ScenarioBook()
    token = "tok_mock_refund_timeout_after"
    assert book.pick(request(token=token)) is None
    assert book.pick(request(kind=CallKind.REFUND, token=token)) is not None


def test_counts_are_forgotten_oldest_first_beyond_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "MAX_COUNTED", 2)
    book = ScenarioBook()
    orders = ["1", "2", "3", "1"]
    token = "tok_mock_rate_limited"
    assert all(book.pick(request(order=order, token=token)) for order in orders)


def test_rule_strikes_only_where_every_condition_holds_and_only_so_often() -> None:
    book = ScenarioBook()
    book.add(Rule(happening=HTML, order_id="1", origin_id="shop", kind=CallKind.SALE, gateway_key="k", times=2))
    assert book.pick(request(order="2")) is None
    assert book.pick(request(kind=CallKind.REFUND)) is None
    assert book.pick(request(key="other")) is None
    assert [book.pick(request()) for _ in range(3)] == [HTML, HTML, None]


def test_rule_about_an_account_leaves_the_others_alone() -> None:
    book = ScenarioBook()
    book.add(Rule(happening=HTML, account="second"))
    assert book.pick(request()) is None
    assert book.pick(request(account="second")) is HTML


def test_token_says_how_the_notices_come() -> None:
    picked = ScenarioBook().pick(request(token="tok_mock_late_failure+duplicate"))
    assert picked == Happening(scenario=Scenario.LATE_FAILURE, manners=frozenset({Manner.DUPLICATE}))


def test_rule_without_times_strikes_until_cleared() -> None:
    book = ScenarioBook()
    book.add(Rule(happening=HTML, times=None))
    assert all(book.pick(request()) for _ in range(10))
    book.clear()
    assert book.pick(request()) is None


def test_rule_by_chance_repeats_with_its_seed() -> None:
    def run(seed: int) -> list[bool]:
        rule = Rule(happening=HTML, times=None, probability=0.3, seed=seed)
        return [rule.applies(request()) for _ in range(1000)]

    assert run(1) == run(1) != run(2)
    assert 200 < sum(run(1)) < 400


def test_book_is_full_at_its_limit() -> None:
    book = ScenarioBook()
    for _ in range(MAX_RULES):
        book.add(Rule(happening=HTML))
    with pytest.raises(ValueError, match="at most"):
        book.add(Rule(happening=HTML))


def test_lognormal_latency_has_the_percentiles_it_was_given() -> None:
    chance = Random(1)
    drawn = [LogNormal(p50_ms=50, p99_ms=500).draw_ms(chance) for _ in range(20_000)]
    percentiles = statistics.quantiles(drawn, n=100)
    assert percentiles[49] == pytest.approx(50, rel=0.05)
    assert percentiles[98] == pytest.approx(500, rel=0.15)


def test_latency_is_spelled() -> None:
    assert parse("fixed:20") == Fixed(ms=20)
    assert parse("lognormal:50:500") == LogNormal(p50_ms=50, p99_ms=500)
    assert Fixed(ms=20).draw_ms(Random(1)) == 20


@pytest.mark.parametrize(
    "spelled", ["", "fixed", "fixed:-1", "fixed:x", "fixed:nan", f"fixed:{MAX_LATENCY_MS + 1}", "lognormal:5:1"]
)
def test_latency_that_cannot_be_is_refused(spelled: str) -> None:
    with pytest.raises(ValueError, match=r"latency|could not convert"):
        parse(spelled)
