"""What is published of the interfaces is valid, true, and fit for generators of clients. Run by `make lint` too.

The rules are those that Redocly's `recommended` and Spectral's `oas` sets found broken before; both need Node,
which not every machine has.
"""

import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import jsonschema_rs
import pytest
import schemathesis
from pydantic import BaseModel

from http_ingress.description import openapi
from http_ingress.money.bodies import Part
from http_ingress.representation import payloads
from http_ingress.representation.problems import PROBLEMS, ProblemCode
from http_ingress.routes import API_ROUTES, ApiRoute
from schemas.messages import MessageCodec, SchemaIds
from schemas.record_shapes import RECORD_CLASSES
from schemas.topics import CATALOGUE
from streams.operator_tools import asyncapi
from streams.topology import COMPONENTS
from tests.support.command_line import json_of, run_command
from tests.support.described_examples import played
from tests.support.golden_messages import envelope_of, example
from tests.support.ingress_under_test import running_ingress

ROOT = Path(__file__).parents[2]

DOCUMENTS = {dev: json.loads(openapi.document(version="1.2.3", dev=dev)) for dev in (False, True)}
PARTS = {part.__name__ for part in Part.__subclasses__()}  # of a request's body
REQUESTS = {route.body.__name__ for route in API_ROUTES if route.body is not None}
MONEY = [route for route in API_ROUTES if route.authenticated]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def nodes(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


@pytest.mark.parametrize("dev", [False, True])
def test_document_is_openapi(dev: bool) -> None:
    schemathesis.openapi.from_dict(DOCUMENTS[dev]).validate()


@pytest.mark.parametrize("dev", [False, True])
def test_every_operation_says_what_a_reader_and_a_linter_ask_for(dev: bool) -> None:
    document = DOCUMENTS[dev]
    assert document["info"]["license"] == {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    assert document["info"]["contact"]
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert "security" in operation, name
        (tag,) = operation["tags"]
        assert tag in tags, name
        statuses = {status[0] for status in operation["responses"]}
        assert {"2", "4"} <= statuses, name
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    used = {node["$ref"].rpartition("/")[2] for node in nodes(document) if "$ref" in node}
    assert used == set(document["components"]["schemas"])


def test_gateways_notices_need_no_key_and_may_be_of_any_media_type() -> None:
    notice = DOCUMENTS[False]["paths"]["/webhooks/{gateway}"]["post"]
    assert notice["security"] == []
    assert list(notice["requestBody"]["content"]) == ["*/*"]


def test_pages_for_load_balancers_are_described() -> None:
    paths = DOCUMENTS[False]["paths"]
    assert set(paths["/healthz"]["get"]["responses"]) >= {"200"}
    assert set(paths["/readyz"]["get"]["responses"]) >= {"200", "503"}
    assert "/metrics" not in paths


def test_requests_are_closed_and_answers_open_so_that_a_new_member_breaks_no_client() -> None:
    for name, schema in DOCUMENTS[False]["components"]["schemas"].items():
        if name in REQUESTS or name in PARTS:
            assert schema["additionalProperties"] is False, name
        else:
            assert "additionalProperties" not in schema, name
            assert "enum" not in schema or "more values may come" in schema["description"], name
    assert "neither for an error" in DOCUMENTS[False]["info"]["description"]


def test_member_that_may_be_left_out_has_no_default_that_a_generator_takes_for_presence() -> None:
    for name, schema in DOCUMENTS[False]["components"]["schemas"].items():
        assert [node for node in nodes(schema) if "default" in node] == [], name
    for name, said in (("PaymentBody", "capture"), ("CaptureBody", "final")):
        member = DOCUMENTS[False]["components"]["schemas"][name]["properties"][said]
        assert "left out" in member["description"].lower()


def test_what_a_pattern_asks_for_is_said_in_words_too() -> None:
    for where, each in [*operations(DOCUMENTS[False]), *DOCUMENTS[False]["components"]["schemas"].items()]:
        for node in nodes(each):
            schema = node.get("schema", node)
            if (
                "description" in node
                and any("pattern" in inner for inner in nodes(schema))
                and "properties" not in node
            ):
                assert "pattern" not in node["description"], where
                assert len(node["description"]) > len("The merchant."), where


@pytest.mark.parametrize("route", MONEY, ids=[route.name for route in MONEY])
def test_examples_are_requests_that_are_taken_and_answers_as_they_are_described(route: ApiRoute) -> None:
    operation = DOCUMENTS[False]["paths"][route.path][route.method.lower()]
    if route.body is not None:
        route.body.model_validate(operation["requestBody"]["content"]["application/json"]["example"])
    shown = 0
    for status, answer in operation["responses"].items():
        ((media, content),) = answer["content"].items()
        outcome = route.outcomes.get(int(status))
        model: type[BaseModel] = payloads.Problem if outcome is None else outcome.model
        if outcome is None or "example" in content:
            model.model_validate(content["example"])
            shown += outcome is not None
        if outcome is None:
            assert media == "application/problem+json"
            assert PROBLEMS[ProblemCode(content["example"]["code"])].status == int(status)
    assert shown


async def test_every_curl_of_the_document_is_answered_as_it_shows() -> None:
    async with running_ingress() as running:
        await played(running.http)  # so that the ids in the paths are known
        for route in MONEY:
            described = DOCUMENTS[True]["paths"][route.path][route.method.lower()]["description"]
            command = described.partition("```sh\n")[2].partition("\n```")[0]
            words = shlex.split(command)
            assert words[:4] == ["curl", "-s", "-X", route.method]
            headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
            body = words[words.index("-d") + 1] if "-d" in words else None
            path = words[4].removeprefix("http://localhost:8080")
            async with running.http.request(route.method, path, data=body, headers=headers) as answer:
                assert answer.status == min(route.outcomes), (route.name, await answer.text())


async def test_fault_of_a_member_is_told_in_words_and_not_as_a_regular_expression() -> None:
    wrong = {"originId": "originA", "orderId": "o|1", "token": "tok 1", "currency": "usd", "amount": 1}
    async with running_ingress() as running:
        sent = {"Idempotency-Key": "k-1"}
        async with running.http.post("/payments", json=wrong, headers=sent) as answer:
            said = await answer.json(content_type="application/problem+json")
        refund = {"paymentId": "nothing", "amount": 1}
        async with running.http.post("/refunds", json=refund, headers=sent | {"X-Origin-Id": "originA"}) as answer:
            said_of_refund = await answer.json(content_type="application/problem+json")
    details = [fault["detail"] for fault in [*said["errors"], *said_of_refund["errors"]]]
    assert len(details) == 4
    assert not any("pattern" in detail or "^" in detail for detail in details)
    assert any("ISO 4217" in detail for detail in details)


TOPICS: dict[str, Any] = asyncapi.document(version="1.2.3")


def test_document_of_the_topics_is_asyncapi() -> None:
    schema = json.loads((ROOT / "tests" / "support" / "asyncapi" / "3.0.0-without-id.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    assert [f"{list(error.instance_path)}: {error.message[:200]}" for error in validator.iter_errors(TOPICS)] == []
    broken = {**TOPICS, "channels": {"c": {"bindings": {"kafka": {"partitions": "many"}}}}}
    assert not validator.is_valid(broken)


def test_document_of_the_topics_has_every_topic_record_and_component() -> None:
    channels = TOPICS["channels"]
    assert list(channels) == [topic.name for topic in CATALOGUE]
    for topic in CATALOGUE:
        assert set(channels[topic.name]["messages"]) == {record.__name__ for record in topic.records}
    described = {(operation["action"], operation["channel"]["$ref"]) for operation in TOPICS["operations"].values()}
    for component in COMPONENTS.values():
        assert {("receive", f"#/channels/{name}") for name in component.reads} <= described
        assert {("send", f"#/channels/{name}") for name in component.writes} <= described
    places = {f"#/components/messages/{name}" for name in TOPICS["components"]["messages"]}
    places |= {f"#/channels/{name}" for name in channels} | {"#/components/messageTraits/cloudEvent"}
    assert {node["$ref"] for node in nodes(TOPICS) if isinstance(node.get("$ref"), str)} <= places


def test_messages_of_the_topics_are_described_as_they_are_written() -> None:
    """Each header of a real message is described, its type is listed, and its payload is read by its schema."""
    codec = MessageCodec(SchemaIds.packaged())
    trait = TOPICS["components"]["messageTraits"]["cloudEvent"]["headers"]
    for cls in RECORD_CLASSES:
        described = TOPICS["components"]["messages"][cls.__name__]
        record = example(cls)
        message = codec.encode(record, envelope_of(record))
        headers = {header: value.decode() for header, value in message.headers}
        assert set(trait["required"]) <= set(headers)
        assert set(headers) <= set(trait["properties"])
        assert headers["ce_type"] in described["headers"]["properties"]["ce_type"]["enum"]
        assert fastavro.schemaless_reader(io.BytesIO(message.value[5:]), described["payload"]["schema"], None)


def test_topics_are_described_by_the_command_line() -> None:
    assert json_of(run_command("topics", "describe", "-o", "asyncapi"))["channels"] == TOPICS["channels"]
    table = run_command("topics", "describe").stdout
    assert all(topic.name in table for topic in CATALOGUE)
