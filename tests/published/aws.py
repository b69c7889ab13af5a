"""AWS calls as they came over the wire, held against botocore's service models; the answers of the stand-in too.

botocore wrote the requests itself, so what is judged is that our parameters arrived as the model has them, and that the
stand-in answers in the model's own shape, field by field, and not only as far as botocore cares to read.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import datetime
from functools import cache
from typing import Any

from botocore.loaders import create_loader
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

from tests.published.description import NotPublished
from tests.published.tap import Exchange

# What the SDK adds to each request and no model lists. Source: botocore/handlers.py and signers.py.
_SDKS_OWN = frozenset({"x-id"})


@cache
def model(service: str) -> ServiceModel:
    """A service as botocore describes it."""
    return ServiceModel(create_loader().load_service_model(service, "service-2"), service)


def judge(exchange: Exchange) -> str:
    """The call as `service:Operation`, once request and answer are as described. Raises: NotPublished."""
    service = _service(exchange)
    operation = _by_uri(service, exchange) if service == "s3" else _by_action(service, exchange)
    name = f"{service}:{operation.name}"
    given = _rest(operation, exchange) if service == "s3" else _query(operation, exchange)
    problems = ParamValidator().validate(given, operation.input_shape) if operation.input_shape else None
    if problems is not None and problems.has_errors():
        raise NotPublished(f"{name}: {problems.generate_report()}")
    if exchange.status < 300:
        _answer(name, operation, exchange)
    return name


def _service(exchange: Exchange) -> str:
    """The service for which the request is signed."""
    found = re.search(
        r"Credential=[^/]+/\d{8}/[a-z0-9-]+/([a-z0-9]+)/aws4_request", exchange.header("authorization")
    )
    if found is None:
        raise NotPublished(f"{exchange.method} {exchange.path} is not signed")
    return found.group(1)


def _by_action(service: str, exchange: Exchange) -> OperationModel:
    form = exchange.form()
    if exchange.path != "/" or form.get("Version") != model(service).api_version:
        raise NotPublished(f"{service} is not asked at / with the model's version")
    if form["Action"] not in model(service).operation_names:
        raise NotPublished(f"{service} has no {form['Action']}")
    operation = model(service).operation_model(form["Action"])
    if operation.http["method"] != exchange.method:
        raise NotPublished(f"{operation.name} is a {operation.http['method']}")
    return operation


def _query(operation: OperationModel, exchange: Exchange) -> dict[str, Any]:
    """The parameters in a form of the query protocol; ours are all plain texts."""
    given = {name: value for name, value in exchange.form().items() if name not in {"Action", "Version"}}
    members = operation.input_shape.members if operation.input_shape else {}
    if unknown := set(given) - set(members):
        raise NotPublished(f"{operation.name} knows no {sorted(unknown)}")
    return {name: _value(members[name], value, f"{operation.name}.{name}") for name, value in given.items()}


def _by_uri(service: str, exchange: Exchange) -> OperationModel:
    """The operation whose method and request URI these are; an operation with more fixed parameters comes first."""
    found = [
        (len(wanted), name)
        for name, method, pattern, wanted in _uris(service)
        if method == exchange.method
        and pattern.fullmatch(exchange.path)
        and wanted.items() <= dict(exchange.query).items()
    ]
    if not found:
        raise NotPublished(f"{service} has nothing at {exchange.method} {exchange.path}")
    return model(service).operation_model(max(found)[1])


@cache
def _uris(service: str) -> list[tuple[str, str, re.Pattern[str], dict[str, str]]]:
    """Each operation's name, method, path and fixed parameters."""
    found = []
    for name in model(service).operation_names:
        http = model(service).operation_model(name).http
        path, _, fixed = http["requestUri"].partition("?")
        pattern = re.escape(path).replace(r"\{Bucket\}", "[^/]+").replace(r"\{Key\+\}", ".+")
        wanted = dict(each.partition("=")[::2] for each in fixed.split("&") if each)
        found.append((name, http["method"], re.compile(pattern), wanted))
    return found


def _rest(operation: OperationModel, exchange: Exchange) -> dict[str, Any]:
    """The parameters in a request of the REST protocol: one bucket in the path, the rest in the query."""
    assert operation.input_shape is not None
    path, _, fixed = operation.http["requestUri"].partition("?")
    given: dict[str, Any] = {"Bucket": exchange.path.split("/")[1]} if "{Bucket}" in path else {}
    by_name = {
        shape.serialization.get("name", name): (name, shape)
        for name, shape in operation.input_shape.members.items()
        if shape.serialization.get("location") == "querystring"
    }
    for key, value in exchange.query:
        if key in _SDKS_OWN or key in {each.partition("=")[0] for each in fixed.split("&")}:
            continue
        if key not in by_name:
            raise NotPublished(f"{operation.name} knows no parameter {key}")
        name, shape = by_name[key]
        given[name] = _value(shape, value, f"{operation.name}.{name}")
    if exchange.body and operation.input_shape.serialization.get("payload") is None:
        raise NotPublished(f"{operation.name} takes no body")
    return given


def _answer(name: str, operation: OperationModel, exchange: Exchange) -> None:
    if "xml" not in exchange.answered_kind:
        raise NotPublished(f"{name} is answered with XML, not {exchange.answered_kind!r}")
    root = ET.fromstring(exchange.answer)
    shape = operation.output_shape
    if shape is None:
        return
    if wrapper := shape.serialization.get("resultWrapper"):
        if _tag(root) != f"{operation.name}Response":
            raise NotPublished(f"{name} is answered with {operation.name}Response, not {_tag(root)}")
        root = next((each for each in root if _tag(each) == wrapper), ET.Element("none"))
    in_body = {n: s for n, s in shape.members.items() if s.serialization.get("location") is None}
    _structure(root, in_body, set(shape.required_members), f"{name} answer")


def _structure(node: ET.Element, members: dict[str, Shape], needs: set[str], where: str) -> None:
    by_tag = {shape.serialization.get("name", name): (name, shape) for name, shape in members.items()}
    met = set()
    for child in node:
        if _tag(child) not in by_tag:
            raise NotPublished(f"{where}: the model knows no {_tag(child)}")
        name, shape = by_tag[_tag(child)]
        met.add(name)
        _element(child, shape, f"{where}.{name}")
    if missing := needs & set(members) - met:
        raise NotPublished(f"{where} lacks {sorted(missing)}")


def _element(node: ET.Element, shape: Shape, where: str) -> None:
    if isinstance(shape, ListShape):
        if shape.serialization.get("flattened"):
            _element(node, shape.member, f"{where}[]")
            return
        for child in node:
            if _tag(child) != shape.member.serialization.get("name", "member"):
                raise NotPublished(f"{where} is a list of members, not of {_tag(child)}")
            _element(child, shape.member, f"{where}[]")
        return
    if isinstance(shape, StructureShape):
        _structure(node, dict(shape.members), set(shape.required_members), where)
        return
    _value(shape, node.text or "", where)


def _value(shape: Shape, text: str, where: str) -> Any:
    """A text as its shape has it. Raises: NotPublished."""
    try:
        if shape.type_name in {"integer", "long"}:
            return int(text)
        if shape.type_name == "timestamp":
            return datetime.fromisoformat(text)
    except ValueError:
        raise NotPublished(f"{where} is no {shape.type_name}") from None
    if shape.type_name == "boolean":
        if text not in {"true", "false"}:
            raise NotPublished(f"{where} is no boolean")
        return text == "true"
    if (words := getattr(shape, "enum", None)) and text not in words:
        raise NotPublished(f"{where} is none of {words}")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.search(f"^(?:{pattern})$", text):
        raise NotPublished(f"{where} does not fit {pattern}")
    return text


def _tag(node: ET.Element) -> str:
    return node.tag.rpartition("}")[2]
