"""A policy's routing rules as a person writes them, in JSON or TOML, and as they are shown again. Pure.

Called by `streams.cli.policy`. A file is a list of rules, or an object whose only member is `rules`:

    [[rules]]
    currencies = ["EUR"]            # what is left out says nothing about a payment
    min_amount_minor = 1            # minor units of the currencies
    max_amount_minor = 100000
    token_kinds = ["stored"]        # as the payment's tokens say it
    payer_countries = ["DE", "AT"]
    routes = [{ gateway = "acme/eu", weight = 70 }, { gateway = "acme", weight = 30 }]

`routes` may be names alone, `["acme/eu", "acme"]`: then the first goes first, always. What `policy show -o json` shows
as `rules` can be given again. Whether the rules can work is judged by `gateway_adapters.policy.validate`.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Final

from schemas.identifiers import GatewayRoute
from schemas.records.policies import RoutingRule, WeightedRoute
from streams.operator_tools.errors import RefusedError

MAX_FILE_BYTES: Final = 1_048_576
"""Some hundred times what fifty rules with every country take."""

_TEXTS: Final = ("currencies", "token_kinds", "payer_countries")
_AMOUNTS: Final = ("min_amount_minor", "max_amount_minor")
_MEMBERS: Final = (*_TEXTS, *_AMOUNTS, "routes")


def rules_in(text: str) -> tuple[RoutingRule, ...]:
    """Return the rules that the text holds, JSON or TOML.

    Raises:
        RefusedError: it is neither, or no list of rules; the message says which rule, which member, and why.
    """
    found = _parsed(text)
    if isinstance(found, dict):
        _only(found, ("rules",), "the file")
        found = found.get("rules")
    if not isinstance(found, list):
        raise RefusedError("the file must hold a list of rules, or an object with `rules`")
    return tuple(_rule(each, f"rule {number}") for number, each in enumerate(found, start=1))


def shown(rules: Sequence[RoutingRule]) -> list[dict[str, object]]:
    """Return the rules as `rules_in` reads them, without what says nothing."""
    return [
        {
            **{name: list(values) for name in _TEXTS if (values := getattr(rule, name))},
            **{name: amount for name in _AMOUNTS if (amount := getattr(rule, name)) is not None},
            "routes": [{"gateway": each.gateway, "weight": each.weight} for each in rule.routes],
        }
        for rule in rules
    ]


def in_words(rule: RoutingRule) -> str:
    """Return the rule in one line, for a person."""
    amounts = ""
    if rule.min_amount_minor is not None or rule.max_amount_minor is not None:
        least, most = rule.min_amount_minor, rule.max_amount_minor
        amounts = f"{'' if least is None else least}..{'' if most is None else most} minor units"
    conditions = [
        ", ".join(rule.currencies),
        amounts,
        f"tokens {', '.join(rule.token_kinds)}" if rule.token_kinds else "",
        f"payers in {', '.join(rule.payer_countries)}" if rule.payer_countries else "",
    ]
    routes = ", ".join(f"{each.gateway} {each.weight}" for each in rule.routes)
    return f"{'; '.join(filter(None, conditions)) or 'every payment'}: {routes}"


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as no_json:  # also of a number with thousands of digits
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as no_toml:
            raise RefusedError(f"the file is neither JSON ({no_json}) nor TOML ({no_toml})") from no_toml
    return found


def _rule(given: object, at: str) -> RoutingRule:
    if not isinstance(given, dict):
        raise RefusedError(f"{at} must be an object with {', '.join(_MEMBERS)}")
    _only(given, _MEMBERS, at)
    texts = {name: _list_of_texts(given.get(name, []), f"{at}: {name}") for name in _TEXTS}
    least, most = (_amount(given.get(name), f"{at}: {name}") for name in _AMOUNTS)
    return RoutingRule(
        currencies=texts["currencies"],
        min_amount_minor=least,
        max_amount_minor=most,
        token_kinds=texts["token_kinds"],
        payer_countries=texts["payer_countries"],
        routes=_routes(given.get("routes"), f"{at}: routes"),
    )


def _routes(given: object, at: str) -> tuple[WeightedRoute, ...]:
    if not isinstance(given, list) or not given:
        raise RefusedError(f'{at} must be a list, such as ["acme/eu", "acme"]')
    if all(isinstance(each, str) for each in given):
        return tuple(
            WeightedRoute(gateway=GatewayRoute(each), weight=int(place == 0)) for place, each in enumerate(given)
        )
    return tuple(_route(each, at) for each in given)


def _route(given: object, at: str) -> WeightedRoute:
    if not isinstance(given, dict) or given.keys() != {"gateway", "weight"}:
        raise RefusedError(f"{at}: each must have gateway and weight, or all must be names alone")
    gateway, weight = given["gateway"], given["weight"]
    if not isinstance(gateway, str) or not _is_number(weight):
        raise RefusedError(f"{at}: a gateway must be text, and its weight a whole number")
    return WeightedRoute(gateway=GatewayRoute(gateway), weight=weight)


def _list_of_texts(given: object, at: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise RefusedError(f"{at} must be a list of texts")
    return tuple(given)


def _amount(given: object, at: str) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or not _is_number(given):
        raise RefusedError(f"{at} must be a whole number of minor units")
    return given


def _is_number(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and -(2**63) <= given < 2**63


def _only(given: Mapping[str, object], known: Sequence[str], at: str) -> None:
    others = [name for name in given if name not in known]
    if others:
        raise RefusedError(f"{at} has {', '.join(sorted(others))}; known: {', '.join(known)}")
