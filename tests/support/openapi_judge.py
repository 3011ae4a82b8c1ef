"""Judges a request by a vendor's OpenAPI document, without a process of its own.

Called by: our own simulators of gateways, so that they are no kinder than the vendor's document. Calls:
`jsonschema_rs`. The rules are those of Prism, which judges the same requests in `tests/contract`: path and method,
required parameters and headers with their schemas, the form of the credentials, media type and body. What a document
does not name is let through, as Prism does.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema_rs

FORM: Final = "application/x-www-form-urlencoded"
_SHOWN_CHARS = 240
_CREDENTIALS: Final[Mapping[str, str]] = {"basic": "basic ", "bearer": "bearer ", "oauth2": "bearer "}


class RequestJudge:
    """One document. What it has compiled is kept, so let `judge_of` make it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._paths: Mapping[str, Mapping[str, Any]] = document["paths"]
        self._security: Sequence[Mapping[str, object]] = document.get("security", [])
        self._components = _for_requests(document.get("components", {}))
        self._document = document
        old = document["openapi"].startswith("3.0")
        self._draft = jsonschema_rs.Draft4Validator if old else jsonschema_rs.Draft202012Validator
        self._validators: dict[str, jsonschema_rs.Validator] = {}

    def refusals(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> list[str]:
        """Return why this request does not fit the document; nothing means that it fits.

        Args:
            method: In any case.
            target: Path and query below the base URL, as sent.
            headers: Names in any case.
            body: As sent.
        """
        split = urlsplit(target)
        found = self._operation(method.lower(), split.path)
        if found is None:
            return [f"the document has no {method} {split.path}"]
        item, operation, in_path = found
        named = {name.lower(): value for name, value in headers.items()}
        given = {"path": in_path, "header": named, "query": dict(parse_qsl(split.query, keep_blank_values=True))}
        return [
            *self._judge_credentials(operation, named),
            *self._judge_parameters([*item.get("parameters", []), *operation.get("parameters", [])], given),
            *self._judge_body(operation, named.get("content-type", ""), body),
        ]

    def _operation(self, method: str, path: str) -> tuple[Mapping[str, Any], Mapping[str, Any], dict[str, str]] | None:
        """The path's item, its operation and what stands in the path. A path without variables goes first."""
        for template in sorted(self._paths, key=lambda each: each.count("{")):
            in_path = _matched(template, path)
            if in_path is not None and method in self._paths[template]:
                return self._paths[template], self._paths[template][method], in_path
        return None

    def _judge_credentials(self, operation: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
        ways = operation.get("security", self._security)
        schemes = self._components.get("securitySchemes", {})
        if ways and not any(all(_is_shown(schemes[name], headers) for name in way) for way in ways):
            yield f"no credentials of {' or '.join('+'.join(way) for way in ways)}"

    def _judge_parameters(
        self, parameters: Sequence[Mapping[str, Any]], given: Mapping[str, Mapping[str, str]]
    ) -> Iterator[str]:
        for each in map(self._resolved, parameters):
            place, name = each["in"], each["name"]
            value = given.get(place, {}).get(name.lower() if place == "header" else name)
            if value is None:
                if each.get("required"):
                    yield f"{place} {name} is missing"
            elif "schema" in each:
                schema = self._resolved(each["schema"])
                yield from self._judge_value(f"{place} {name}", schema, _read(value, schema.get("type")))

    def _judge_body(self, operation: Mapping[str, Any], content_type: str, body: bytes) -> Iterator[str]:
        wanted = self._resolved(operation.get("requestBody", {}))
        if not body:
            if wanted.get("required"):
                yield "the body is missing"
            return
        media_type = content_type.partition(";")[0].strip().lower()
        if not wanted:
            return
        if media_type not in wanted["content"]:
            yield f"the body is {media_type or 'of no type'}, not {' or '.join(wanted['content'])}"
            return
        try:
            value = dict(parse_qsl(body.decode())) if media_type == FORM else json.loads(body)
        except ValueError as broken:
            yield f"the body can not be read: {broken}"
            return
        yield from self._judge_value("body", wanted["content"][media_type].get("schema", {}), value)

    def _judge_value(self, place: str, schema: Mapping[str, Any], value: object) -> Iterator[str]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            whole = {"allOf": [_for_requests(schema)], "components": self._components}
            self._validators[key] = self._draft(whole, validate_formats=True)
        for error in self._validators[key].iter_errors(value):
            where = "".join(f"/{step}" for step in error.instance_path)
            yield f"{place}{where}: {error.message[:_SHOWN_CHARS]}"

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference leads to, within the document."""
        while "$ref" in node:
            at: Any = {**self._document, "components": self._components}
            for step in node["$ref"].removeprefix("#/").split("/"):
                at = at[unquote(step).replace("~1", "/").replace("~0", "~")]
            node = at
        return node


@functools.cache
def judge_of(document: Path) -> RequestJudge:
    """Return the judge by this document; the same one each time."""
    return RequestJudge(json.loads(document.read_bytes()))


def _matched(template: str, path: str) -> dict[str, str] | None:
    """What stands in place of a template's variables; None: the path is another one."""
    steps, given = template.strip("/").split("/"), path.strip("/").split("/")
    if len(steps) != len(given):
        return None
    found = {}
    for step, value in zip(steps, given, strict=True):
        if step.startswith("{") and value:
            found[step.strip("{}")] = unquote(value)
        elif step != value:
            return None
    return found


def _is_shown(scheme: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether the headers hold something of the scheme's form. No document can tell whether it is right."""
    if scheme["type"] == "apiKey":
        return scheme["in"] != "header" or bool(headers.get(scheme["name"].lower()))
    form = _CREDENTIALS[scheme.get("scheme", scheme["type"]).lower()]
    return headers.get("authorization", "").lower().startswith(form)


def _read(text: str, kind: object) -> object:
    """A parameter as its type has it; one that can not be read so stays a text, which its schema then refuses."""
    if kind in {"integer", "number", "boolean"}:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _for_requests(node: Any, *, names: bool = False) -> Any:
    """A copy in which a request may hold null where it is `nullable`, and lacks what is `readOnly`.

    Args:
        node: Any part of a document.
        names: Whether this part's keys are names of properties, and not words of the schema language.
    """
    if isinstance(node, list):
        return [_for_requests(each) for each in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _for_requests(value, names=not names and key == "properties") for key, value in node.items()}
    if names:
        return copy
    if copy.pop("nullable", None) is True and isinstance(copy.get("type"), str):
        copy["type"] = [copy["type"], "null"]
    if isinstance(copy.get("required"), list) and isinstance(copy.get("properties"), dict):
        own = copy["properties"]
        kept = [name for name in copy["required"] if not own.get(name, {}).get("readOnly")]
        copy["required"] = kept
        if not kept:
            del copy["required"]  # which no old draft may have empty
    return copy
