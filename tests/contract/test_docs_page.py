"""The pages of the documentation in a real browser, under the content security policy that they are served with."""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path

from http_ingress.description import openapi
from schemas.topics import CATALOGUE
from tests.support.chromium import page_in_chromium
from tests.support.ingress_under_test import running_ingress

ASSETS = resources.files("http_ingress.description").joinpath("assets")


async def test_every_operation_is_shown_and_nothing_is_refused_when_a_browser_opens_the_page(tmp_path: Path) -> None:
    described = json.loads(openapi.document(version="1.2.3", dev=True))
    async with running_ingress() as running:
        markup = await page_in_chromium(f"{running.url}/docs", tmp_path)
    assert 'data-shown="yes"' in markup
    assert "data-refused" not in markup
    shown = set(re.findall(r'data-path="([^"]+)"', markup))
    assert shown == set(described["paths"])
    assert markup.count('class="opblock ') == sum(len(methods) for methods in described["paths"].values())


async def test_one_operation_shows_its_curl_its_example_and_the_meaning_of_its_errors(tmp_path: Path) -> None:
    async with running_ingress() as running:
        markup = await page_in_chromium(f"{running.url}/docs#/Payments/createPayment", tmp_path)
    assert "data-refused" not in markup
    text = re.sub(r"<[^>]+>", "", markup)
    assert "curl -s -X POST 'http://localhost:8080/payments?mode=sync'" in text
    assert "The body does not fit the schema" in text
    assert "order-1" in text
    assert "[!-{}-~]" not in text


async def test_every_topic_is_shown_and_nothing_is_refused_when_a_browser_opens_their_page(tmp_path: Path) -> None:
    async with running_ingress() as running:
        markup = await page_in_chromium(f"{running.url}/docs/topics", tmp_path)
    assert 'data-shown="yes"' in markup
    assert "data-refused" not in markup
    assert re.findall(r'data-topic="([^"]+)"', markup) == [topic.name for topic in CATALOGUE]
    records = {record.__name__ for topic in CATALOGUE for record in topic.records}
    assert set(re.findall(r"<strong>(\w+)</strong>", markup)) == records
    assert "payments.sale.succeeded.v1" in markup


def test_viewer_is_the_release_that_is_noted() -> None:
    noted = json.loads(ASSETS.joinpath("swagger-ui.json").read_text())
    assert set(noted["sha256"]) == {each.name for each in ASSETS.iterdir() if each.name.startswith("swagger-ui")} - {
        "swagger-ui.json"
    }
    for name, digest in noted["sha256"].items():
        assert hashlib.sha256(ASSETS.joinpath(name).read_bytes()).hexdigest() == digest, name
    assert "Apache License" in ASSETS.joinpath("swagger-ui-LICENSE.txt").read_text()
