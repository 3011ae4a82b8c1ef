"""`payment-engine policy explain`: where a payment would go now, and why each other gateway is passed over."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli.terminal import Output, OutputOption, expected_failures, print_json, say

if TYPE_CHECKING:
    from gateway_adapters.routing import Course
    from schemas.records.claims import RoutePlan
    from schemas.records.commands import PaymentRequested
    from schemas.records.policies import OriginPolicy, WeightedRoute
    from streams.operator_tools.policies import Explained

EXAMPLE_ORDER: Final = "example"
TOKEN: Final = "tok_of_explain"  # noqa: S105 - of no payment
KEY: Final = "explain"


def explain(
    origin: Annotated[str, typer.Option(help="Whose payment it is.")],
    amount: Annotated[int, typer.Option(help="Minor units, such as 1999 for 19.99.")],
    currency: Annotated[str, typer.Option(help="ISO 4217, such as EUR.")],
    token_kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of a token: GATEWAY=KIND, or KIND of one for each gateway; may be repeated. "
            "Not given: the payment has a single token."
        ),
    ] = None,
    country: Annotated[str | None, typer.Option(help="The payer's, such as DE.")] = None,
    order: Annotated[
        str, typer.Option(help="The merchant's order: which route goes first by weight follows from it.")
    ] = EXAMPLE_ORDER,
    capture: Annotated[bool, typer.Option(help="Captured at once, or authorized only.")] = True,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say where a payment would go now, by which policy and rule, and why others are passed over. Nothing is sent."""
    with expected_failures():
        from gateway_adapters.registry import capabilities_of
        from streams.cli.tools import opened
        from streams.operator_tools import policies
        from streams.settings import routes_of

        payment = _payment(origin, amount, currency, country, order, capture=capture)
        kinds = [_kind(each) for each in token_kind or ()]
        with opened() as tools:
            known = policies.known_policies(tools.log, tools.codec)
        configured = routes_of(tools.settings.gateway.default_gateways)
        holding = policies.policy_held(known, payment.origin_id, configured)
        told = policies.explain(
            holding, _with_tokens(payment, kinds, holding), capabilities=capabilities_of(tools.settings.accounts)
        )
        if output is Output.JSON:
            print_json(_as_json(told))
        else:
            _tell(told, order)


def _payment(
    origin: str, amount: int, currency: str, country: str | None, order: str, *, capture: bool
) -> "PaymentRequested":
    from schemas.commands_validation import CardDataError, InvalidCommandError, validate
    from schemas.identifiers import IdempotencyKey, OrderId, OriginId
    from schemas.records.commands import Payer, PaymentRequested

    payment = PaymentRequested(
        origin_id=OriginId(origin),
        order_id=OrderId(order),
        idempotency_key=IdempotencyKey(KEY),
        amount_minor=amount,
        currency=currency,
        token=TOKEN,
        capture=capture,
        payer=None if country is None else Payer(country=country),
    )
    try:
        validate(payment)
    except (InvalidCommandError, CardDataError) as error:
        raise typer.BadParameter(str(error)) from error
    return payment


def _kind(text: str) -> tuple[str | None, str]:
    """Return the gateway, or None for each, and the kind of its token."""
    gateway, equals, kind = text.rpartition("=")
    if not kind or (equals and not gateway):
        raise typer.BadParameter(f"{text!r} is neither KIND nor GATEWAY=KIND")
    return gateway or None, kind


def _with_tokens(
    payment: "PaymentRequested", kinds: Sequence[tuple[str | None, str]], policy: "OriginPolicy"
) -> "PaymentRequested":
    from dataclasses import replace

    from schemas.identifiers import GatewayName, parts_of
    from schemas.records.commands import PaymentToken

    if not kinds:
        return payment
    named = [*policy.gateways, *(each.gateway for rule in policy.rules for each in rule.routes)]
    everywhere = list(dict.fromkeys(parts_of(route)[0] for route in named))
    tokens = [
        PaymentToken(gateway=GatewayName(gateway), kind=kind, value=TOKEN)
        for owner, kind in kinds
        for gateway in (everywhere if owner is None else [owner])
    ]
    return replace(payment, token=None, tokens=tuple(tokens))


def _tell(told: "Explained", order: str) -> None:
    policy = told.policy
    held = f"policy `{policy.origin_id}`, version {policy.version}" if policy.version else "the configured gateways"
    say(f"by {held}{', a dry run of its rules' if policy.dry_run else ''}")
    _tell_course(told.routed.course, () if told.routed.shadow else told.shares, order)
    if told.routed.shadow is not None:
        say("dry run: by its rules it would have been so")
        _tell_course(told.routed.shadow, told.shares, order)


def _tell_course(course: "Course", shares: Sequence["WeightedRoute"], order: str) -> None:
    for number, misfit in enumerate(course.misfits, start=1):
        say(f"  rule {number} does not fit: {misfit}")
    say("  the policy's gateways" if course.rule is None else f"  rule {course.rule} fits")
    for route, why in course.passed_over:
        say(f"  {route} is passed over: {why}")
    weight = sum(each.weight for each in shares)
    if len([each for each in shares if each.weight]) > 1:
        told = ", ".join(f"{each.gateway} {each.weight / weight:.1%}" for each in shares)
        say(f"  first by weight: {told}; order {order!r} begins at {course.routes[0]}")
    say(f"  {_plan_in_words(course.plan)}")


def _plan_in_words(plan: "RoutePlan") -> str:
    if plan.refusal is not None:
        return f"refused: {plan.refusal}"
    attempts = ", ".join(f"{number}. {route}" for number, route in enumerate(plan.gateways, start=1))
    after = f"; also after a decline that is {' or '.join(plan.fallback_classes)}" if plan.fallback_classes else ""
    return f"attempts: {attempts}{after}"


def _as_json(told: "Explained") -> dict[str, object]:
    shadow = told.routed.shadow
    return {
        "policy": told.policy.origin_id,
        "version": told.policy.version,
        "dry_run": told.policy.dry_run,
        **_course_as_json(told.routed.course),
        "would": None if shadow is None else _course_as_json(shadow),
        "shares": {each.gateway: each.weight for each in told.shares},
    }


def _course_as_json(course: "Course") -> dict[str, object]:
    return {
        "rule": course.rule,
        "misfits": [str(each) for each in course.misfits],
        "routes": list(course.routes),
        "passed_over": {route: str(why) for route, why in course.passed_over},
        "attempts": list(course.plan.gateways),
        "fallback_classes": [str(each) for each in course.plan.fallback_classes],
        "refusal": None if course.plan.refusal is None else str(course.plan.refusal),
    }
