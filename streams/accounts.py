"""Accounts at gateways: from variables, and from the accounts file. Pure but for reading that file.

Called by `settings.load`. A variable of the default account is `PAYMENT_ENGINE_GATEWAY_<GATEWAY>_<FIELD>`; of another,
`PAYMENT_ENGINE_GATEWAY_<GATEWAY>__<ACCOUNT>__<FIELD>`. An account stands in one of the two places, not both: nobody
could tell which of them holds. What is wrong is named by its place, a variable or a line of the file.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from gateway_adapters.spec import AccountSettings, GatewaySpec
from schemas.identifiers import (
    DEFAULT_ACCOUNT,
    MAX_ACCOUNT_CHARS,
    AccountName,
    GatewayName,
    GatewayRoute,
    gateway_route,
)
from streams.accounts_file import OWN_PREFIX, FileAccount, Value, read_accounts

FILE_VARIABLE: Final = f"{OWN_PREFIX}GATEWAY_ACCOUNTS_FILE"
_ACCOUNT: Final = re.compile(rf"[A-Z0-9]{{1,{MAX_ACCOUNT_CHARS}}}")


def variable_of(gateway: GatewayName, field_name: str, account: AccountName = DEFAULT_ACCOUNT) -> str:
    """Return the variable of one field of one account at a gateway."""
    word = "" if account == DEFAULT_ACCOUNT else f"_{account}__"
    return f"{OWN_PREFIX}GATEWAY_{gateway}_{word}{field_name}".upper()


def place_of(
    gateway: GatewayName, field_name: str, account: AccountName, in_file: Mapping[GatewayRoute, FileAccount]
) -> str:
    """Return where the field of an account is set: in the accounts file when that has the account, else a variable."""
    account_in_file = in_file.get(gateway_route(gateway, account))
    if account_in_file is None:
        return variable_of(gateway, field_name, account)
    return f"{FILE_VARIABLE}: {account_in_file.place} {field_name}"


def accounts_in_file(
    path: Path | None, specs: Mapping[GatewayName, GatewaySpec], environment: Mapping[str, str], faults: list[str]
) -> Mapping[GatewayRoute, FileAccount]:
    """Return the accounts of the file, if there is one; adds to `faults` what is wrong with it."""
    if path is None:
        return MappingProxyType({})
    accounts, found = read_accounts(path, specs, environment)
    faults += [f"{FILE_VARIABLE}: {fault}" for fault in found]
    return MappingProxyType({account.route: account for account in accounts})


def accounts_of(
    spec: GatewaySpec, given: dict[str, str], in_file: Mapping[GatewayRoute, FileAccount], faults: list[str]
) -> Mapping[AccountName, AccountSettings]:
    """Return the gateway's accounts, of variables and of the file.

    Takes their variables out of `given`; adds to `faults` what is wrong with them, values not shown.
    """
    raw: dict[AccountName, dict[str, Value]] = defaultdict(dict)
    for variable in sorted(given):
        found = _field_of(spec, variable)
        if found is not None:
            account, field_name = found
            raw[account][field_name] = given.pop(variable)
    of_file = {each.account: each for each in in_file.values() if each.gateway == spec.name}
    faults += [
        f"{variable_of(spec.name, '', account)}…: this account stands in the accounts file, {of_file[account].place}, "
        "too: take one of the two away"
        for account in raw.keys() & of_file.keys()
    ]
    accounts: dict[AccountName, AccountSettings] = {}
    for account, values in {**raw, **{name: dict(each.values) for name, each in of_file.items()}}.items():
        try:
            accounts[account] = spec.settings.model_validate(values)
        except ValidationError as error:
            faults += [
                f"{place_of(spec.name, str(each['loc'][0]), account, in_file)}: {said(each['msg'])}"
                for each in error.errors()
            ]
    return MappingProxyType(accounts)


def _field_of(spec: GatewaySpec, variable: str) -> tuple[AccountName, str] | None:
    rest = variable.removeprefix(variable_of(spec.name, ""))
    if rest == variable:
        return None
    account, field_name = DEFAULT_ACCOUNT, rest.lower()
    if rest.startswith("_"):
        word, _, field_name = rest[1:].partition("__")
        account, field_name = AccountName(word.lower()), field_name.lower()
        if _ACCOUNT.fullmatch(word) is None or account == DEFAULT_ACCOUNT:
            return None
    return (account, field_name) if field_name in spec.settings.model_fields else None


def said(message: str) -> str:
    """Return what a validator said, without what pydantic puts before it."""
    return message.removeprefix("Value error, ")
