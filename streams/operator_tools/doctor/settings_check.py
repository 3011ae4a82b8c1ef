"""Settings that are well-formed each, and wrong or risky together. Called by `examination`; pure."""

from collections.abc import Iterator

from schemas.identifiers import parts_of
from schemas.misconfigured import MisconfiguredError
from streams.accounts import variable_of
from streams.accounts_file import INLINE
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.settings import Settings, accounts_with_webhook_secrets, routes_of

PRODUCTION_COPIES = 3


def judge(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong or risky; one `ok` when nothing is."""
    found = [*_kafka(settings), *_workers(settings), *_gateways(settings), *_http(settings), *_desk(settings)]
    yield from found or [ok(Subject.SETTINGS, "the settings fit together")]


def _kafka(settings: Settings) -> Iterator[Finding]:
    kafka = settings.kafka
    if kafka.min_insync_replicas == kafka.replication_factor > 1:
        yield warning(
            Subject.SETTINGS,
            f"min_insync_replicas equals replication_factor ({kafka.replication_factor})",
            why="When one broker is down, every write is refused.",
            fix="Set PAYMENT_ENGINE_KAFKA_MIN_INSYNC_REPLICAS one lower.",
        )
    if kafka.security_protocol == "SASL_PLAINTEXT":
        yield warning(
            Subject.SETTINGS,
            "credentials and payments travel to the broker unencrypted",
            why="Whoever listens on the network reads them.",
            fix="Set PAYMENT_ENGINE_KAFKA_SECURITY_PROTOCOL to SASL_SSL.",
        )


def _workers(settings: Settings) -> Iterator[Finding]:
    if settings.executor.drain_timeout_s < settings.executor.call_timeout_s:
        yield warning(
            Subject.SETTINGS,
            "the executor's drain ends before its longest call",
            why="A stop abandons calls under way; they are in doubt until an inquiry.",
            fix="Set PAYMENT_ENGINE_EXECUTOR_DRAIN_TIMEOUT_S above PAYMENT_ENGINE_EXECUTOR_CALL_TIMEOUT_S.",
        )


def _gateways(settings: Settings) -> Iterator[Finding]:
    for route in routes_of(settings.gateway.default_gateways):
        name, account = parts_of(route)
        if account not in settings.accounts.get(name, {}):
            yield warning(
                Subject.SETTINGS,
                f"default_gateways names {route}, which is not set up",
                why="An origin without a policy is passed on to the next gateway, or refused.",
                fix=f"Set {variable_of(name, '', account)}…, or other PAYMENT_ENGINE_GATEWAY_DEFAULT_GATEWAYS.",
            )
    for in_file in settings.in_file.values():
        inline = sorted(name for name, source in in_file.sources.items() if source == INLINE)
        if inline and not settings.http.dev:
            yield warning(
                Subject.SETTINGS,
                f"the accounts file holds {', '.join(inline)} of {in_file.route} itself",
                why="Whoever may read the file, or a copy of it, has the secret.",
                fix=f"Put it into a file of its own and name that in {in_file.place}: {{ file = … }}.",
            )
    try:
        accounts_with_webhook_secrets(settings)
    except MisconfiguredError as error:
        yield warning(
            Subject.SETTINGS,
            str(error),
            why="The ingress refuses to start.",
            fix="Set the variable for the ingress; nobody else needs it.",
        )


def _http(settings: Settings) -> Iterator[Finding]:
    http = settings.http
    refusal = http.why_dev_is_refused()
    if refusal is not None:
        yield failure(
            Subject.SETTINGS,
            refusal,
            why="The ingress refuses to start.",
            fix="Set PAYMENT_ENGINE_HTTP_DEV to false, with a keys file, or listen on 127.0.0.1.",
        )
    if not http.dev and (http.keys_file is None or http.keys_pepper is None):
        yield warning(
            Subject.SETTINGS,
            "no API keys: keys_file or keys_pepper is not set",
            why="The ingress refuses to start, or refuses every request.",
            fix="Run `payment-engine keys create`, then set PAYMENT_ENGINE_HTTP_KEYS_FILE and _KEYS_PEPPER.",
        )


def _desk(settings: Settings) -> Iterator[Finding]:
    refusal = settings.operators.why_dev_is_refused()
    if refusal is not None:
        yield failure(
            Subject.SETTINGS,
            refusal,
            why="The desk refuses to start.",
            fix="Set PAYMENT_ENGINE_OPERATORS_DEV to false, with a keys file, or listen on 127.0.0.1.",
        )
