"""The pages for operators and developers: liveness, readiness, the API's description and its documentation.

None of them needs a key, and none shows anything of a payment. The documentation is shown by Swagger UI, whose files
are in this package (`assets/swagger-ui.json` says which release): nothing is loaded from anywhere else, and the content
security policy says so to the browser.
"""

from functools import cache
from importlib import resources
from typing import Protocol

from aiohttp import web

from http_ingress.limits import RETRY_AFTER_LOG_S
from http_ingress.representation.answers import JSON_TYPE, Answer, of_error
from http_ingress.representation.payloads import Health
from http_ingress.representation.problems import ProblemCode, retry_later

DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ASSETS = {
    "docs.html": "text/html",
    "docs.js": "text/javascript",
    "docs.css": "text/css",
    "topics.html": "text/html",
    "topics.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "swagger-ui-LICENSE.txt": "text/plain",
}
_LARGE = 100_000  # bytes: a browser need not ask for such a file again at every look


class Instance(Protocol):
    """Whose readiness is told."""

    def not_ready(self) -> tuple[str, ...]:
        """Return why it may not be sent requests, for a person; empty: it may."""
        ...


async def health(_: Instance) -> Answer:
    """The process lives and its event loop turns."""
    return Answer(status=200, body=Health(status="alive"))


async def readiness(instance: Instance) -> Answer:
    """Whether this instance may be sent requests: it reads replies, and it is not stopping.

    For load balancers, and whoever else reaches this port: what an operator should see to stands on the health port.
    """
    faults = instance.not_ready()
    if faults:
        return of_error(retry_later(ProblemCode.NOT_READY, after_s=RETRY_AFTER_LOG_S, detail="; ".join(faults)))
    return Answer(status=200, body=Health(status="ready"))


def description_page(document: bytes) -> web.Response:
    """Return the OpenAPI or the AsyncAPI document."""
    return web.Response(body=document, content_type=JSON_TYPE, charset="utf-8")


def asset_page(name: str) -> web.Response:
    """Return one file of the documentation. `name` is a key of ASSETS."""
    body = _asset(name)
    headers = {
        "Content-Security-Policy": DOCS_POLICY,
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "max-age=3600" if len(body) > _LARGE else "no-cache",
    }
    return web.Response(body=body, content_type=ASSETS[name], charset="utf-8", headers=headers)


@cache
def _asset(name: str) -> bytes:
    return resources.files("http_ingress.description").joinpath("assets", name).read_bytes()
