"""API keys: how one is made, kept and checked.

A key is `pek_<id>_<secret>` (of a merchant) or `pok_<id>_<secret>` (of an operator): the id finds the record, the
secret proves it. Only a keyed hash of the secret is kept (HMAC-SHA256 under the pepper, a secret that is not in the key
file), so a stolen key file is worth nothing. The hash covers the owner too, and the kind: whoever may write the file,
and has a key of one origin, can make it neither another's nor an operator's. The secret has 256 random bits, hence no
slow password hash is needed.

A kind is good at one port alone. The merchants' ingress asks `KeyRing.origin_of`, the operators' listener
`KeyRing.operator_of`; neither takes a key of the other kind, whichever file holds it. `create_key` and
`create_operator_key` are for the command line.
"""

import hashlib
import hmac
import json
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NewType, Protocol

import structlog

from http_ingress.limits import KEY_FILE_CHECK_INTERVAL_S, MAX_API_KEY_CHARS, MAX_API_KEYS, MAX_KEY_FILE_BYTES
from schemas import identifiers
from schemas.identifiers import InvalidIdentifierError, OperatorName, OriginId
from schemas.misconfigured import MisconfiguredError

ApiKey = NewType("ApiKey", str)

MIN_PEPPER_BYTES: Final = 16
FORMAT_VERSION: Final = 2
"""Of a line of the key file. Lines of version 1 had no `version`, and a hash that did not cover the origin."""
OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_ID_BYTES = 8
_SECRET_BYTES = 32
_KEY_AFTER_PREFIX = r"([0-9a-f]{16})_([A-Za-z0-9_-]{43})"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NOBODY = "0" * 64  # compared against when the id is unknown, so that this takes as long
_NS_PER_MS = 1_000_000
_MS_PER_S = 1000
_log = structlog.get_logger(__name__)


class KeyKind(StrEnum):
    """Whose key it is. The value is the member of a line that names the owner, and so tells the kind."""

    MERCHANT = "origin_id"
    OPERATOR = "operator"


_PREFIXES: Final[Mapping[KeyKind, str]] = {KeyKind.MERCHANT: "pek_", KeyKind.OPERATOR: "pok_"}
_PATTERNS: Final = {kind: re.compile(prefix + _KEY_AFTER_PREFIX) for kind, prefix in _PREFIXES.items()}
_OTHER_MEMBERS: Final = frozenset({"key_id", "digest", "created_at_ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What is kept of a key: one line of the key file, as JSON."""

    key_id: str
    kind: KeyKind
    owner: str  # the origin's id, or the operator's name
    digest: str  # HMAC-SHA256(pepper, version, kind, id, secret and owner), hex
    created_at_ms: int
    version: int = FORMAT_VERSION

    def line(self) -> str:
        """Return the line of the key file, without its end."""
        members = {
            "key_id": self.key_id,
            self.kind.value: self.owner,
            "digest": self.digest,
            "created_at_ms": self.created_at_ms,
            "version": self.version,
        }
        return json.dumps(members, sort_keys=True)


class KeyStore(Protocol):
    """Where key records are."""

    def find(self, key_id: str) -> KeyRecord | None:
        """Return the record of this id, if there is one that holds now."""
        ...


def create_key(origin: OriginId, *, pepper: bytes, now_ms: int) -> tuple[ApiKey, KeyRecord]:
    """Return a new key of a merchant, to be shown once, and the record to keep. Calling it twice makes two keys.

    Raises:
        MisconfiguredError: The pepper is shorter than MIN_PEPPER_BYTES.
    """
    return _create(KeyKind.MERCHANT, origin, pepper=pepper, now_ms=now_ms)


def create_operator_key(name: OperatorName, *, pepper: bytes, now_ms: int) -> tuple[ApiKey, KeyRecord]:
    """Return a new key of an operator, and its record. As `create_key`, which this is no key for."""
    return _create(KeyKind.OPERATOR, name, pepper=pepper, now_ms=now_ms)


def _create(kind: KeyKind, owner: str, *, pepper: bytes, now_ms: int) -> tuple[ApiKey, KeyRecord]:
    check_pepper(pepper)
    key_id = secrets.token_hex(_ID_BYTES)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    digest = _digest(pepper, kind, owner, key_id, secret)
    record = KeyRecord(key_id=key_id, kind=kind, owner=owner, digest=digest, created_at_ms=now_ms)
    return ApiKey(f"{_PREFIXES[kind]}{key_id}_{secret}"), record


def append_record(path: Path, record: KeyRecord) -> None:
    """Add the record to the key file, which only its owner may read. To revoke a key, delete its line.

    Raises:
        MisconfiguredError: Others than its owner may write the file. Nothing was added.
        OSError: It cannot be written.
    """
    path.touch(mode=0o600, exist_ok=True)
    _refuse_if_others_may_write(path.stat().st_mode)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(record.line() + "\n")


def check_pepper(pepper: bytes) -> None:
    """Return if the pepper is long enough to be a secret. Raises: MisconfiguredError."""
    if len(pepper) < MIN_PEPPER_BYTES:
        raise MisconfiguredError(
            f"PAYMENT_ENGINE_HTTP_KEYS_PEPPER: the pepper of API keys must have at least {MIN_PEPPER_BYTES} bytes"
        )


def _digest(pepper: bytes, kind: KeyKind, owner: str, key_id: str, secret: str) -> str:
    # Only the owner can be of any length, and it stands last, so no two lists of parts give the same text. A merchant's
    # names no kind, as the first lines of this version: where another kind stands, theirs have an id.
    words = f"{key_id}.{secret}.{owner}" if kind is KeyKind.MERCHANT else f"{kind}.{key_id}.{secret}.{owner}"
    return hmac.new(pepper, f"{FORMAT_VERSION}.{words}".encode(), hashlib.sha256).hexdigest()


class KeyRing:
    """Checks keys against a store."""

    def __init__(self, store: KeyStore, *, pepper: bytes) -> None:
        """Raises: MisconfiguredError when the pepper is too short."""
        check_pepper(pepper)
        self._store = store
        self._pepper = pepper

    def origin_of(self, key: str) -> OriginId | None:
        """Return which merchant's key this is, or None. The time it takes tells nothing about the secret."""
        owner = self._owner_of(key, KeyKind.MERCHANT)
        return None if owner is None else OriginId(owner)

    def operator_of(self, key: str) -> OperatorName | None:
        """Return which operator's key this is, or None. As `origin_of`."""
        owner = self._owner_of(key, KeyKind.OPERATOR)
        return None if owner is None else OperatorName(owner)

    def _owner_of(self, key: str, kind: KeyKind) -> str | None:
        match = _PATTERNS[kind].fullmatch(key) if len(key) <= MAX_API_KEY_CHARS else None
        if match is None:
            return None
        record = self._store.find(match[1])
        owner = record.owner if record is not None else ""
        proof = _digest(self._pepper, kind, owner, match[1], match[2])
        genuine = hmac.compare_digest(proof, record.digest if record is not None else _NOBODY)
        return owner if genuine and record is not None and record.kind is kind else None


class MemoryKeyStore:
    """A store for tests and for callers that hold the records themselves."""

    def __init__(self, records: Iterable[KeyRecord]) -> None:
        self._records: Mapping[str, KeyRecord] = {record.key_id: record for record in records}

    def find(self, key_id: str) -> KeyRecord | None:
        """Return the record of this id."""
        return self._records.get(key_id)


class Clock(Protocol):
    """A monotonic clock, in seconds."""

    def __call__(self) -> float:
        """Return the time that has gone by since some moment."""
        ...


class FileKeyStore:
    """The key file, read again when it changes: a new or a revoked key holds within KEY_FILE_CHECK_INTERVAL_S.

    A file that cannot be read later on leaves the last good records in force: a slip in an editor must not lock every
    merchant out. A key that such a file has lost works until it is mended, so that this is told: it is logged as an
    error, and `fault` says it to the readiness page and to the metrics. There it is a note, and the instance stays
    ready: they all follow the same file, and without any of them in the balancer the slip would lock everybody out.

    A file without a key revokes them all, once it is as old as that interval: one that is written anew in place is
    empty for a moment, and nobody must be told 401 for it. Until then that is a fault as well.
    """

    def __init__(self, path: Path, *, monotonic: Clock, now_ms: Callable[[], int]) -> None:
        """Read the file. Raises: MisconfiguredError.

        Args:
            path: where it is.
            monotonic: says when to look again.
            now_ms: the wall clock, ms since the epoch: tells how old a file is.
        """
        self._path = path
        self._monotonic = monotonic
        self._now_ms = now_ms
        self._stamp = self._stamp_now()
        self._records = read_key_file(path)
        self._checked_at_s = monotonic()
        self._fault: str | None = None

    def find(self, key_id: str) -> KeyRecord | None:
        """Return the record of this id in the file."""
        self._reread_if_changed()
        return self._records.get(key_id)

    def fault(self) -> str | None:
        """Return why the file as it stands is not in force, without a value of it; None when it is."""
        self._reread_if_changed()
        return self._fault

    def _reread_if_changed(self) -> None:
        now_s = self._monotonic()
        if now_s - self._checked_at_s < KEY_FILE_CHECK_INTERVAL_S:
            return
        self._checked_at_s = now_s
        try:
            self._reread()
            fault = None
        except MisconfiguredError as error:
            fault = str(error)
        if fault == self._fault:
            return
        self._fault = fault
        if fault is None:
            _log.info("key_file_followed_again", count=len(self._records))
        else:
            _log.error("key_file_not_followed", reason=fault, count=len(self._records))

    def _reread(self) -> None:
        """Take what a changed file holds. Raises: MisconfiguredError: it is not to be taken, or not yet."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        records = read_key_file(self._path)
        if stamp != self._stamp_now():
            raise MisconfiguredError("the key file is being written")
        if self._records and not records and self._is_fresh(stamp):
            raise MisconfiguredError("the key file has lost all its keys a moment ago")
        self._records, self._stamp = records, stamp

    def _is_fresh(self, stamp: tuple[int, int, int, int]) -> bool:
        # Below 0 when the file was dated by a clock ahead of ours: it is believed, as it could be fresh for ever.
        age_ms = self._now_ms() - stamp[0] // _NS_PER_MS
        return 0 <= age_ms < KEY_FILE_CHECK_INTERVAL_S * _MS_PER_S

    def _stamp_now(self) -> tuple[int, int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise MisconfiguredError(f"the key file cannot be read: {error.strerror}") from error
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


def read_key_file(path: Path) -> dict[str, KeyRecord]:
    """Return the records of a key file by id.

    Raises:
        MisconfiguredError: It cannot be read, others than its owner may write it, or a line is no record of
            FORMAT_VERSION. The line is named, and no value shown.
    """
    try:
        status = path.stat()
        _refuse_if_others_may_write(status.st_mode)
        if status.st_size > MAX_KEY_FILE_BYTES:
            raise MisconfiguredError(f"the key file has more than {MAX_KEY_FILE_BYTES} bytes")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MisconfiguredError(f"the key file cannot be read: {type(error).__name__}") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if len(numbered) > MAX_API_KEYS:
        raise MisconfiguredError(f"the key file has more than {MAX_API_KEYS} keys")
    records = (_record(number, line) for number, line in numbered)
    return {record.key_id: record for record in records}


def _refuse_if_others_may_write(mode: int) -> None:
    # Readable it may be: a secret that Kubernetes mounts is, and without the pepper its hashes are worth nothing.
    if mode & OTHERS_MAY_WRITE:
        raise MisconfiguredError(
            f"the key file may be written by others than its owner (mode {stat.S_IMODE(mode):04o}): who adds a line "
            "lets himself in; mend it with `chmod go-w`"
        )


def _record(number: int, line: str) -> KeyRecord:
    try:
        members = json.loads(line)
        old = set(members) == _OTHER_MEMBERS | {KeyKind.MERCHANT.value}
        record = _read(members)
    except (TypeError, ValueError, RecursionError, InvalidIdentifierError):
        record, old = None, False
    if old:
        raise MisconfiguredError(
            f"line {number} of the key file is of version 1, whose hash does not cover the origin: delete the line "
            "and make the origin a new key with `payment-engine keys create`"
        )
    if record is None or record.version != FORMAT_VERSION:
        raise MisconfiguredError(f"line {number} of the key file is not a key record of version {FORMAT_VERSION}")
    return record


def _read(members: dict[str, Any]) -> KeyRecord | None:
    """Return what a line's members say, or None. Raises: TypeError, InvalidIdentifierError: they are no record."""
    kinds = [kind for kind in KeyKind if kind.value in members]
    if len(kinds) != 1:
        return None
    kind = kinds[0]
    others = {name: value for name, value in members.items() if name != kind.value}
    record = KeyRecord(kind=kind, owner=members[kind.value], **others)
    (identifiers.origin_id if kind is KeyKind.MERCHANT else identifiers.operator_name)(record.owner)
    whole = bool(_DIGEST.fullmatch(record.digest)) and isinstance(record.key_id, str)
    return record if whole else None
