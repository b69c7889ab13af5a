"""databricks-sdk's own source as a description: its service classes name each path, parameter, field and answer."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from databricks.sdk.service import catalog, iam, oauth2, settings, sql

from tests.published.description import Call, Description

_MODULES = (oauth2, iam, settings, sql, catalog)
_PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def published() -> Description:
    """Every call of the services that we use; the SDK leaves out what has no value, and so may an answer."""
    calls: dict[str, Call] = {}
    schemas: dict[str, dict[str, Any]] = {}
    seen: set[tuple[str, str]] = set()
    for module in _MODULES:
        classes = {
            n.name: n for n in ast.parse(inspect.getsource(module)).body if isinstance(n, ast.ClassDef)
        }
        schemas |= {
            f"{_short(module)}.{name}": found
            for name, node in classes.items()
            if (found := _fields(node, module))
        }
        for owner in classes.values():
            for function in owner.body:
                for call in _calls(function, classes, module):
                    # The SDK has several classes, old and new, over one address.
                    place = (call.method, re.sub(r"\{[^}]*\}", "{}", call.path))
                    if place not in seen:
                        seen.add(place)
                        name = f"{_short(module)}.{owner.name}.{getattr(function, 'name', '')}"
                        schemas |= {f"{name}.body": dict(call.form or {})}
                        calls[name] = _as_json(call, f"{name}.body")
    return Description(calls, schemas)


def _as_json(call: Call, body: str) -> Call:
    """The fields that `_calls` found are a JSON object's."""
    return Call(
        call.method,
        call.path,
        query=call.query,
        request=body if call.form else "",
        answer=call.answer,
        may_be_empty=True,
    )


def _calls(function: ast.stmt, classes: dict[str, ast.ClassDef], module: ModuleType) -> Iterator[Call]:
    """`self._api.do("METHOD", path, ...)` with what the function puts into body and query, and what it reads."""
    if not isinstance(function, ast.FunctionDef):
        return
    types = {
        each.arg: _type(each.annotation, module) for each in (*function.args.args, *function.args.kwonlyargs)
    }
    for node in ast.walk(function):
        is_call = isinstance(node, ast.Call) and ast.unparse(node.func) == "self._api.do"
        if is_call and isinstance(node.args[0], ast.Constant):
            yield Call(
                str(node.args[0].value),
                _template(node.args[1]),
                query=_given(function, "query", types),
                form=_given(function, "body", types),
                answer=f"{_short(module)}.{name}" if (name := _answer(function, classes)) else "",
            )


def _given(function: ast.FunctionDef, holder: str, types: dict[str, Any]) -> dict[str, Any]:
    """`body["name"] = name`: the fields and the types that the function's own arguments have."""
    found: dict[str, Any] = {}
    for node in ast.walk(function):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(target, ast.Subscript) or ast.unparse(target.value) != holder:
            continue
        if isinstance(node, ast.Assign) and isinstance(target.slice, ast.Constant):
            names = [each.id for each in ast.walk(node.value) if isinstance(each, ast.Name)]
            known = [types[name] for name in names if name in types]
            found.setdefault(str(target.slice.value), known[0] if known else "any")
    return found


def _answer(function: ast.FunctionDef, classes: dict[str, ast.ClassDef]) -> str:
    """The class that the answer is read into; for a list in pages the one that holds key and element."""
    read = re.findall(r"(\w+)\.from_dict\((\w+)\)", ast.unparse(function))
    whole = [name for name, argument in read if argument in {"res", "json"}]
    if whole:
        return str(whole[0])
    pages = re.search(r"for v in json\['(\w+)'\]:\s+yield (\w+)\.from_dict\(v\)", ast.unparse(function))
    if pages is None:
        return ""
    wanted = f"_repeated_dict(d, '{pages[1]}', {pages[2]})"
    return next((name for name, node in classes.items() if wanted in _source(node)), "")


@cache
def _source(node: ast.ClassDef) -> str:
    return ast.unparse(node)


def _fields(node: ast.ClassDef, module: ModuleType) -> dict[str, Any]:
    """Wire names and types of a dataclass, from its `from_dict`."""
    types = {
        ast.unparse(each.target): _type(each.annotation, module)
        for each in node.body
        if isinstance(each, ast.AnnAssign)
    }
    read = next((n for n in node.body if getattr(n, "name", "") == "from_dict"), None)
    if read is None:
        return {}
    found: dict[str, Any] = {}
    for keyword in (k for call in ast.walk(read) if isinstance(call, ast.Call) for k in call.keywords):
        name = re.search(r"\(\w*,? ?'(\w+)'", ast.unparse(keyword.value).replace("(d, ", "("))
        if name and keyword.arg:
            found[name[1]] = types[keyword.arg]
    return found


def _type(annotation: ast.expr | None, module: ModuleType) -> Any:
    """`Optional[List[Thing]]` as a list of things; enumerations are open, for the SDK keeps what it does not know."""
    text = re.sub(r"^Optional\[(.*)\]$", r"\1", ast.unparse(annotation)) if annotation else ""
    if inner := re.fullmatch(r"List\[(.*)\]", text):
        return {"list": _plain_or_ref(inner[1], module)}
    return _plain_or_ref(text, module)


def _plain_or_ref(name: str, module: ModuleType) -> Any:
    name = name.strip("'\"")
    if name in _PLAIN:
        return _PLAIN[name]
    is_record = hasattr(getattr(module, name, None), "from_dict")
    return {"ref": f"{_short(module)}.{name}"} if is_record else "any"


def _template(path: ast.expr) -> str:
    if isinstance(path, ast.Constant):
        return str(path.value)
    assert isinstance(path, ast.JoinedStr)
    return "".join(
        str(piece.value)
        if isinstance(piece, ast.Constant)
        else "{" + ast.unparse(piece.value).rpartition(".")[2] + "}"
        for piece in path.values
        if isinstance(piece, ast.Constant | ast.FormattedValue)
    )


def _short(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
