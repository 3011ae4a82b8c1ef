"""Of what kind a setting may be, and what all groups of them have in common. Called by `settings` and its groups."""

import ssl
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.addresses import MAX_PORT, web_address

PREFIX: Final = "PAYMENT_ENGINE_"


def _certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:
        raise ValueError(f"holds no CA certificates that can be read ({error.strerror or error})") from error
    return path


def _stated(text: object) -> object:
    if text == "":
        raise ValueError("is empty, which would mean the folder that the program was started in")
    return text


Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
MemberId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
"""Kafka's own rule for the id of a static member; a broker refuses another when the worker joins."""
FilePath = Annotated[Path, BeforeValidator(_stated)]
Certificates = Annotated[FilePath, AfterValidator(_certificates)]
WebAddress = Annotated[str, AfterValidator(web_address)]


class Group(BaseSettings):
    """One group of settings, frozen."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix=PREFIX, hide_input_in_errors=True)
