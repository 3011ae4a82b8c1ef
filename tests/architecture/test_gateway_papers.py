"""The pages about gateways say what the code says: one page each, and the table of what they can do."""

import re
from pathlib import Path

import pytest

from gateway_adapters.registry import SPECS
from streams.settings import variables
from tests.support.capability_table import END, START, table

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "gateways.md"
PAGES = sorted((DOCS / "gateways").glob("*.md"))


def test_page_holds_the_generated_table_of_what_each_gateway_can_do() -> None:
    text = PAGE.read_text()
    assert START in text
    written = text.partition(START)[2].partition(END)[0].strip()
    assert written == table(), "put what `python -m tests.support.capability_table` prints between the markers"


@pytest.mark.parametrize("name", [spec.name for spec in SPECS if spec.development_webhook_secret is None])
def test_every_gateway_that_moves_money_has_its_page_and_the_page_is_linked(name: str) -> None:
    assert (DOCS / "gateways" / f"{name}.md").exists()
    assert f"(gateways/{name}.md)" in PAGE.read_text()


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_page_names_only_settings_that_exist_and_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    known = {name for name, _ in variables()}
    assert set(re.findall(r"PAYMENT_ENGINE_[A-Z0-9_]*[A-Z0-9]", text)) <= known
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
