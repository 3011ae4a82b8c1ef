"""A schema registry over a socket: the five questions that the engine asks of one, in memory."""

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

FIRST_ID = 1_001
_NOT_FOUND = 404
_OK = 200
_VERSIONS = re.compile(r"/subjects/([^/]+)/versions")
_VERSION = re.compile(r"/subjects/([^/]+)/versions/(\d+)")
_SUBJECT = re.compile(r"/subjects/([^/]+)")
_CONFIG = re.compile(r"/config/([^/]+)")


class _Registry(ThreadingHTTPServer):
    """Holds the subjects: name to its versions' texts, oldest first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.subjects: dict[str, list[str]] = {}
        self.ids: dict[str, int] = {}
        self.lock = threading.Lock()

    def register(self, subject: str, text: str) -> dict[str, Any]:
        with self.lock:
            versions = self.subjects.setdefault(subject, [])
            if text not in versions:
                versions.append(text)
            return {"id": self.ids.setdefault(text, FIRST_ID + len(self.ids))}

    def version(self, subject: str, text: str) -> dict[str, Any] | None:
        versions = self.subjects.get(subject, [])
        if text not in versions:
            return None
        number = versions.index(text) + 1
        return {"subject": subject, "id": self.ids[text], "version": number, "schema": text, "schemaType": "AVRO"}


class _Handler(BaseHTTPRequestHandler):
    server: _Registry

    def do_PUT(self) -> None:
        level = json.loads(self._body())["compatibility"]
        self._answer({"compatibility": level} if _CONFIG.fullmatch(self._path()) else None)

    def do_POST(self) -> None:
        text = json.loads(self._body())["schema"]
        if new := _VERSIONS.fullmatch(self._path()):
            self._answer(self.server.register(unquote(new[1]), text))
        elif asked := _SUBJECT.fullmatch(self._path()):
            self._answer(self.server.version(unquote(asked[1]), text))

    def do_GET(self) -> None:
        if one := _VERSION.fullmatch(self._path()):
            subject = unquote(one[1])
            self._answer(self.server.version(subject, self.server.subjects[subject][int(one[2]) - 1]))
        elif all_of := _VERSIONS.fullmatch(self._path()):
            self._answer(list(range(1, len(self.server.subjects.get(unquote(all_of[1]), [])) + 1)))

    def _path(self) -> str:
        return urlsplit(self.path).path

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, answer: object) -> None:
        body = json.dumps({"error_code": 40403, "message": "not found"} if answer is None else answer).encode()
        self.send_response(_NOT_FOUND if answer is None else _OK)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Say nothing: the test's output is the test's."""


@contextlib.contextmanager
def http_registry() -> Iterator[str]:
    """Yields the registry's address, and stops it afterwards."""
    with _Registry() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
