"""Accounts at gateways from one TOML file, whose secrets stand elsewhere: in files of their own, or in the environment.

Called by `settings.load` and by `payment-engine accounts`. Each account is a table, `[gateway.account]`; its keys are
the fields that the gateway's `AccountSettings` has. A secret is given by reference: `{ file = "…" }` or
`{ env = "NAME" }`. Only for development may it stand in the file itself, and then it says so: `{ inline = "…" }`.

So the file can be kept with the deployment's other files, reviewed and shown. Nothing here tells a secret's value, nor
what a broken line holds: only where it stands, and what mends it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from pydantic import SecretStr

from gateway_adapters.spec import GatewaySpec
from schemas.identifiers import (
    AccountName,
    GatewayName,
    GatewayRoute,
    InvalidIdentifierError,
    account_name,
    gateway_route,
)

Value = str | int | float | bool
"""What a field is given: text, a number, true or false."""

MAX_FILE_BYTES: Final = 1_048_576
"""Of the accounts file: a hundred times what any deployment was seen to need."""

MAX_SECRET_BYTES: Final = 65_536
"""Of a secret's own file: a private key with its chain of certificates takes a tenth."""

MAX_ACCOUNTS: Final = 1_000
"""In the file: each has an adapter with connections of its own."""

OWN_PREFIX: Final = "PAYMENT_ENGINE_"
"""Variables of this name are settings, and one that no setting knows is refused: a secret needs another name."""

INLINE: Final = "inline"
"""The source of a secret that stands in the file itself."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BY_REFERENCE: Final = 'is given by reference: { file = "/run/secrets/…" } or { env = "NAME" }'
_EXAMPLE: Final = "`payment-engine accounts example` prints a file to begin with"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAccount:
    """One account as the file has it. Its values are not judged yet, but for where they come from."""

    gateway: GatewayName
    account: AccountName
    values: Mapping[str, Value]
    sources: Mapping[str, str]  # of what is given by reference: `file …`, `env NAME` or `INLINE`

    @property
    def route(self) -> GatewayRoute:
        """What policies and plans call it."""
        return gateway_route(self.gateway, self.account)

    @property
    def place(self) -> str:
        """Where it stands in the file."""
        return f"[{self.gateway}.{self.account}]"


def read_accounts(
    path: Path, specs: Mapping[GatewayName, GatewaySpec], environment: Mapping[str, str]
) -> tuple[tuple[FileAccount, ...], tuple[str, ...]]:
    """Return the accounts of the file in its order, and everything that is wrong with it, a sentence each.

    Args:
        path: the file. Relative paths in it start from its folder.
        specs: the gateways that there may be accounts at.
        environment: where `{ env = … }` is looked up.
    """
    text, fault = _text_of(path, MAX_FILE_BYTES)
    if fault is not None:
        return (), (f"{path} {fault}; {_EXAMPLE}",)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        again = "; an account is declared once: take one of the two away" if "twice" in str(error) else ""
        return (), (f"{path} is not TOML that can be read: {error}{again}",)
    faults: list[str] = []
    accounts = tuple(_accounts_in(tables, specs, _Sources(path.parent, environment), faults))
    if len(accounts) > MAX_ACCOUNTS:
        faults.append(f"{path} holds more than {MAX_ACCOUNTS} accounts")
        accounts = ()
    return accounts, tuple(f"{path}, {fault}" for fault in faults)


def is_secret(annotation: object) -> bool:
    """Return whether a field of this type holds a secret, however the type is wrapped."""
    return annotation is SecretStr or any(is_secret(each) for each in get_args(annotation))


def _is_number(annotation: object) -> bool:
    return annotation is int or annotation is float or any(_is_number(each) for each in get_args(annotation))


def example_of(specs: Mapping[GatewayName, GatewaySpec]) -> str:
    """Return a file to begin with: each field of the default account of each gateway, commented out."""
    lines = [
        "# Accounts at gateways. A secret is a reference: { file = … } or { env = … }; { inline = … } in development.",
        "# PAYMENT_ENGINE_GATEWAY_ACCOUNTS_FILE names this file. Check it: payment-engine accounts check FILE",
    ]
    for name, spec in specs.items():
        lines += ["", f"# [{name}.default]"]
        for field_name, info in spec.settings.model_fields.items():
            value = "false" if info.annotation is bool else "10" if _is_number(info.annotation) else '"…"'
            if is_secret(info.annotation):
                value = f'{{ file = "/run/secrets/{name}_{field_name}" }}'
            lines.append(f"# {field_name} = {value}{'' if info.is_required() else '  # may be left out'}")
    return "\n".join(lines)


class _Sources:
    """Where references are looked up."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    def find(self, reference: Mapping[str, object]) -> tuple[str, str]:
        """Return what is referred to, and what from. Raises: ValueError: it cannot be had; the message says why."""
        if len(reference) != 1:
            raise ValueError(f"{_BY_REFERENCE}: one of them")
        ((kind, named),) = reference.items()
        if not isinstance(named, str) or not named:
            raise ValueError(f"{_BY_REFERENCE}, as text")
        match kind:
            case "file":
                return self._in_file(named), f"file {named}"
            case "env":
                return self._in_environment(named), f"env {named}"
            case "inline":
                return named, INLINE
        raise ValueError(_BY_REFERENCE)

    def _in_file(self, named: str) -> str:
        text, fault = _text_of(self._folder / named, MAX_SECRET_BYTES)
        if fault is not None:
            raise ValueError(f"file {named} {fault}")
        value = text.removesuffix("\n").removesuffix("\r")  # an editor's; a secret of several lines keeps the others
        if not value:
            raise ValueError(f"file {named} is empty")
        return value

    def _in_environment(self, named: str) -> str:
        if _VARIABLE.fullmatch(named) is None or named.startswith(OWN_PREFIX):
            raise ValueError(
                f"env must name a variable, of letters, digits and _, that does not begin with {OWN_PREFIX}"
            )
        value = self._environment.get(named)
        if not value:
            raise ValueError(f"env {named} is not set, or empty; set it for this program")
        return value


def _accounts_in(
    tables: Mapping[str, object], specs: Mapping[GatewayName, GatewaySpec], sources: _Sources, faults: list[str]
) -> Iterator[FileAccount]:
    for name, accounts in tables.items():
        spec = specs.get(GatewayName(name))
        if spec is None:
            faults.append(f"[{name}]: no such gateway; known: {', '.join(sorted(specs))}")
            continue
        if not isinstance(accounts, dict):
            faults.append(f"{name}: an account is a table of its own, [{name}.ACCOUNT]")
            continue
        for account, fields in accounts.items():
            try:
                yield _account(spec, account_name(account), fields, sources, faults)
            except InvalidIdentifierError as error:
                faults.append(f"[{name}.{account}]: {error}")


def _account(
    spec: GatewaySpec, account: AccountName, fields: object, sources: _Sources, faults: list[str]
) -> FileAccount:
    place = f"[{spec.name}.{account}]"
    values: dict[str, Value] = {}
    found: dict[str, str] = {}
    if not isinstance(fields, dict):
        faults.append(f"{place}: an account is a table: write {place} above its fields")
        fields = {}
    for field_name, given in fields.items():
        info = spec.settings.model_fields.get(field_name)
        if info is None:
            known = ", ".join(spec.settings.model_fields)
            faults.append(f"{place} {field_name}: no such field; known: {known}")
        elif isinstance(given, dict):
            try:
                values[field_name], found[field_name] = sources.find(given)
            except ValueError as error:
                faults.append(f"{place} {field_name}: {error}")
        elif is_secret(info.annotation):
            faults.append(f"{place} {field_name}: a secret {_BY_REFERENCE}; in development, {{ inline = … }}")
        elif isinstance(given, Value):
            values[field_name] = given
        else:
            faults.append(f"{place} {field_name}: must be text, a number, true or false")
    return FileAccount(gateway=spec.name, account=account, values=values, sources=found)


def _text_of(path: Path, max_bytes: int) -> tuple[str, str | None]:
    """Return the file's text, or why it cannot be had."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
        return ("", f"is larger than {max_bytes} bytes") if len(raw) > max_bytes else (raw.decode("utf-8"), None)
    except PermissionError:
        return "", "cannot be read (Permission denied): let this program's user read it, such as by `chmod` or `chown`"
    except OSError as error:
        return "", f"cannot be read ({error.strerror or type(error).__name__})"
    except (UnicodeDecodeError, ValueError):
        return "", "cannot be read (it is not UTF-8 text)"
