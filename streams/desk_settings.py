"""The settings of the desk, where operators decide. One group of `streams.settings`, which reads it."""

from typing import Annotated, Final

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from streams.addresses import is_loopback
from streams.setting_kinds import PREFIX, FilePath, Group, Port, WebAddress
from streams.topology import OPERATORS_PORT

MIN_PEPPER_CHARS: Final = 16
"""Of the secret that keys are hashed with (`http_ingress.access.api_keys`): fewer could be guessed from a key file."""


class OperatorsSettings(Group):
    """The desk: the listener where operators decide, and how the command line reaches it."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}OPERATORS_")

    host: str = Field(default="127.0.0.1", min_length=1, description="Address that the desk listens on.")
    port: Port = Field(default=OPERATORS_PORT, description="Port that the desk listens on; 0 takes a free one.")
    dev: bool = Field(
        default=False,
        description="Serve the desk without keys: who decides is what `X-Operator` says. For development only: it is "
        "refused on an address that is not loopback, and beside KEYS_FILE.",
    )
    dev_off_loopback: bool = Field(
        default=False,
        description="Allow DEV of the desk on any address: whoever reaches the port decides about every payment.",
    )
    keys_file: FilePath | None = Field(
        default=None, description="Operators' keys as keyed hashes, as `payment-engine keys create --operator` writes."
    )
    keys_pepper: Annotated[SecretStr, Field(min_length=MIN_PEPPER_CHARS)] | None = Field(
        default=None, description="Secret that operators' keys are hashed with, of 16 characters or more."
    )
    four_eyes: bool = Field(
        default=False,
        description="Whether what an operator decides holds only once another operator has approved it. Notes need "
        "no second person.",
    )
    proposal_life_h: int = Field(
        default=24, ge=1, le=168, description="Hours that a decision waits for another operator; then it is void."
    )
    instance: int = Field(
        default=0, ge=0, le=999, description="Number of this instance: it waits on this partition of replies."
    )
    url: WebAddress = Field(
        default=f"http://127.0.0.1:{OPERATORS_PORT}", description="Where the command line finds the desk."
    )
    key: SecretStr | None = Field(default=None, description="An operator's key, for the command line.")

    def why_dev_is_refused(self) -> str | None:
        """Return what makes development mode dangerous here, naming the variables; None: nothing, or it is off."""
        if not self.dev:
            return None
        if self.keys_file is not None:
            return (
                f"{PREFIX}OPERATORS_DEV: is on beside {PREFIX}OPERATORS_KEYS_FILE, and would ask nobody for a key of "
                "that file; take one of them away"
            )
        if not (is_loopback(self.host) or self.dev_off_loopback):
            return (
                f"{PREFIX}OPERATORS_DEV: is on, and {PREFIX}OPERATORS_HOST ({self.host}) is not loopback: whoever "
                "reaches it could decide about any payment; give a key file, or listen on 127.0.0.1"
            )
        return None
