"""A schema registry over a socket: the questions that the engine and Confluent's clients ask of one, in memory.

It is as strict as the strictest that was seen (Apicurio Registry 3.0.9 by its Confluent API): two texts are one schema
only when they are equal, or when it is asked to normalise them. Its error codes are Confluent's.
"""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fastavro.schema import to_parsing_canonical_form

FIRST_ID = 1_001
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_SUBJECT_MISSING, _VERSION_MISSING, _SCHEMA_MISSING = 40401, 40402, 40403
_VERSIONS = re.compile(r"/subjects/([^/]+)/versions")
_VERSION = re.compile(r"/subjects/([^/]+)/versions/(\d+)")
_SUBJECT = re.compile(r"/subjects/([^/]+)")
_CONFIG = re.compile(r"/config/([^/]+)")
_SCHEMA = re.compile(r"/schemas/ids/(\d+)")


class _MissingError(Exception):
    """The registry's own word for what it does not hold."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Registry:
    """What a registry holds, and what it was asked. Change it from a test only between two questions."""

    url: str = ""
    authorization: str | None = None  # the header that every question must have
    forbidden: str | None = None  # a subject that nobody may see
    subjects: dict[str, list[int]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method and path of each question."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def register(self, subject: str, text: str, *, normalize: bool = False) -> int:
        """Return the id of this schema, which is then a version of the subject."""
        with self.lock:
            number = self._id_of(text, normalize=normalize)
            if number is None:
                number = FIRST_ID + len(self.texts)
                self.texts[number] = text
            versions = self.subjects.setdefault(subject, [])
            if number not in versions:
                versions.append(number)
            return number

    def version_of(self, subject: str, text: str, *, normalize: bool) -> dict[str, Any]:
        """Return the version of the subject that is this schema."""
        if subject not in self.subjects:
            raise _MissingError(_SUBJECT_MISSING)
        number = self._id_of(text, normalize=normalize)
        if number not in self.subjects[subject]:
            raise _MissingError(_SCHEMA_MISSING)
        return self._version(subject, self.subjects[subject].index(number))

    def versions(self, subject: str) -> list[int]:
        """Return the numbers of the subject's versions."""
        if subject not in self.subjects:
            raise _MissingError(_SUBJECT_MISSING)
        return list(range(1, len(self.subjects[subject]) + 1))

    def version(self, subject: str, version: int) -> dict[str, Any]:
        """Return one version of the subject."""
        if version not in self.versions(subject):
            raise _MissingError(_VERSION_MISSING)
        return self._version(subject, version - 1)

    def schema(self, number: int) -> dict[str, Any]:
        """Return the schema of an id."""
        if number not in self.texts:
            raise _MissingError(_SCHEMA_MISSING)
        return {"schema": self.texts[number]}

    def _version(self, subject: str, index: int) -> dict[str, Any]:
        number = self.subjects[subject][index]
        text = self.texts[number]
        return {"subject": subject, "id": number, "version": index + 1, "schema": text, "schemaType": "AVRO"}

    def _id_of(self, text: str, *, normalize: bool) -> int | None:
        for number, known in self.texts.items():
            if known == text or (normalize and _normal(known) == _normal(text)):
                return number
        return None


def _normal(text: str) -> str:
    return to_parsing_canonical_form(json.loads(text)) + json.dumps(json.loads(text), sort_keys=True)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: Registry, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.registry = registry


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together: apart, each answer waits for a delayed acknowledgement

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        registry, path = self.server.registry, urlsplit(self.path).path
        registry.asked.append(f"{self.command} {path}")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if registry.authorization not in {None, self.headers.get("Authorization")}:
            self._answer(_UNAUTHORIZED, {"error_code": 40101, "message": "who are you?"})
            return
        if registry.forbidden is not None and f"/{registry.forbidden}/" in f"{path}/":
            self._answer(_FORBIDDEN, {"error_code": 40301, "message": "not yours"})
            return
        try:
            found = self._found(registry, path, body)
        except _MissingError as missing:
            self._answer(_NOT_FOUND, {"error_code": missing.code, "message": "not found"})
        else:
            # What a registry that is behind another path says of this one.
            no_path = {"error_code": _NOT_FOUND, "message": "HTTP 404 Not Found"}
            self._answer(_NOT_FOUND if found is None else _OK, no_path if found is None else found)

    def _found(self, registry: Registry, path: str, body: dict[str, Any]) -> object:
        normalize = parse_qs(urlsplit(self.path).query).get("normalize", ["false"])[0].lower() == "true"
        match self.command:
            case "PUT" if level := _CONFIG.fullmatch(path):
                registry.levels[unquote(level[1])] = body["compatibility"]
                return body
            case "POST" if new := _VERSIONS.fullmatch(path):
                return {"id": registry.register(unquote(new[1]), body["schema"], normalize=normalize)}
            case "POST" if asked := _SUBJECT.fullmatch(path):
                return registry.version_of(unquote(asked[1]), body["schema"], normalize=normalize)
        return _read(registry, path) if self.command == "GET" else None

    def _answer(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Say nothing: the test's output is the test's."""


def _read(registry: Registry, path: str) -> object:
    if one := _VERSION.fullmatch(path):
        return registry.version(unquote(one[1]), int(one[2]))
    if every := _VERSIONS.fullmatch(path):
        return registry.versions(unquote(every[1]))
    by_id = _SCHEMA.fullmatch(path)
    return None if by_id is None else registry.schema(int(by_id[1]))


def basic(user: str, password: str) -> str:
    """The header of basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextlib.contextmanager
def served(registry: Registry, *, port: int = 0) -> Iterator[Registry]:
    """Yields the registry once it answers, and stops it afterwards; it may be served again, and knows what it knew."""
    with _Server(registry, port) as server:
        registry.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def http_registry() -> Iterator[str]:
    """Yields the address of an empty registry, and stops it afterwards."""
    with served(Registry()) as registry:
        yield registry.url
