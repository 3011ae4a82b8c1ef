"""What the Mock tells of itself. Named by `gateway_adapters.registry`."""

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pydantic import Field, SecretStr

from gateway_adapters.contract import Capabilities, Gateway
from gateway_adapters.mock.signature import DEVELOPMENT_SECRET
from gateway_adapters.mock.translate import NAME, MockTranslator
from gateway_adapters.spec import AccountSettings, BaseUrl, GatewaySpec
from schemas.vocabulary import CallKind

if TYPE_CHECKING:
    from gateway_adapters.http_transport import TransportLimits

EFFECTS: Final = frozenset(CallKind) - {CallKind.INQUIRE}

CAPABILITIES: Final = Capabilities(
    operations=frozenset(CallKind),
    currencies=None,
    partial_capture=True,
    multiple_capture=True,
    partial_refund=True,
    multiple_refund=True,
    inquire_by_key=True,
    inquire_by_reference=True,
    not_found_is_proof=True,
    webhooks=True,
    key_window_ms=MappingProxyType(dict.fromkeys(EFFECTS)),  # for ever: its keys stand in its ledger
    references_indexed=frozenset({CallKind.AUTHORIZE, CallKind.SALE}),
)


class MockAccount(AccountSettings):
    """How the Mock is reached. Its credential says which of its accounts is meant; it protects no money."""

    url: BaseUrl = Field(description="Base URL of the Mock gateway; it may carry a path. Unset: no Mock gateway.")
    api_key: SecretStr | None = Field(
        default=None, description="Credential of this account at the Mock gateway. Unset: its open account."
    )


def _build(account: AccountSettings, limits: "TransportLimits") -> Gateway:
    from gateway_adapters.mock.client import MockGateway

    assert isinstance(account, MockAccount)
    return MockGateway(account, limits)


SPEC: Final = GatewaySpec(
    name=NAME,
    settings=MockAccount,
    factory=_build,
    capabilities=CAPABILITIES,
    translator=MockTranslator(),
    development_webhook_secret=DEVELOPMENT_SECRET,
)
