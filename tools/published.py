"""Takes from vendors' packages what they publish about the calls we make: tests/published/documents/*.json.

The packages are far too large to be installed for it (googleapiclient 110 MB, msgraph 240 MB), so they are downloaded
by pip into a folder of their own, read and thrown away. Nothing of them is run. `tools/published.py` writes all.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

DOCUMENTS = Path(__file__).parents[1] / "tests" / "published" / "documents"

GOOGLE = {
    "iam.v1": (
        "iam.projects.serviceAccounts.list",
        "iam.projects.serviceAccounts.disable",
        "iam.projects.serviceAccounts.keys.list",
        "iam.projects.serviceAccounts.keys.create",
        "iam.projects.serviceAccounts.keys.delete",
        "iam.projects.serviceAccounts.keys.disable",
        "iam.projects.serviceAccounts.keys.enable",
    ),
    "bigquery.v2": ("bigquery.jobs.query", "bigquery.datasets.get", "bigquery.tabledata.list"),
    "oauth2.v2": ("oauth2.userinfo.get",),
    "analyticsdata.v1beta": ("analyticsdata.properties.runReport",),
}

# Builders that we need, by the folder that holds them, with the methods of each.
GRAPH = {
    "applications": "get",
    "applications_with_app_id": "get patch delete",
    "applications/item/add_key": "post",
    "applications/item/remove_key": "post",
    "applications/item/add_password": "post",
    "applications/item/remove_password": "post",
    "service_principals": "get",
}
GRAPH_BETA = {"reports/app_credential_sign_in_activities": "get"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        google(_wheel("google-api-python-client", Path(folder)))
        graph(_wheel("msgraph-sdk", Path(folder)), _wheel("msgraph-beta-sdk", Path(folder)))


def google(wheel: zipfile.ZipFile) -> None:
    """Discovery documents: https://developers.google.com/discovery/v1/reference/apis."""
    calls: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for document, wanted in GOOGLE.items():
        read = json.loads(wheel.read(f"googleapiclient/discovery_cache/documents/{document}.json"))
        found = {each["id"]: each for each in _methods(read)}
        for name in wanted:
            calls[name] = _google_call(read, found[name])
        _follow(
            _named(calls, wanted), lambda name, read=read: _google_schema(read["schemas"].get(name)), schemas
        )
    _write("google", [_told(wheel)], calls, schemas)


def _methods(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from node.get("methods", {}).values()
    for each in node.get("resources", {}).values():
        yield from _methods(each)


def _google_call(document: dict[str, Any], method: dict[str, Any]) -> dict[str, Any]:
    given = {**document.get("parameters", {}), **method.get("parameters", {})}
    at = {name: each for name, each in given.items() if each["location"] == "path"}
    return {
        "method": method["httpMethod"],
        "host": document["rootUrl"].removeprefix("https://").rstrip("/"),
        "path": f"/{document['servicePath']}{method['path'].replace('{+', '{')}",
        "where": {name: each.get("pattern", "^[^/]+$").strip("^$") for name, each in at.items()},
        "query": {
            name: {"list": _google_type(each)} if each.get("repeated") else _google_type(each)
            for name, each in given.items()
            if each["location"] == "query"
        },
        "needs": [n for n, each in given.items() if each["location"] == "query" and each.get("required")],
        "request": method.get("request", {}).get("$ref", ""),
        "answer": method.get("response", {}).get("$ref", ""),
    }


def _google_schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    return schema and {name: _google_type(each) for name, each in schema.get("properties", {}).items()}


def _google_type(node: dict[str, Any]) -> Any:
    if "$ref" in node:
        return {"ref": node["$ref"]}
    if "enum" in node:
        return {"enum": node["enum"]}
    match node.get("type"):
        case "array":
            return {"list": _google_type(node["items"])}
        case "object" if "additionalProperties" in node:
            return {"map": _google_type(node["additionalProperties"])}
        case "string" if node.get("format") in {"int64", "uint64"}:
            return "int64"
        case "string" if node.get("format") in {"byte", "google-datetime"}:
            return {"byte": "base64", "google-datetime": "instant"}[node["format"]]
        case "string" | "integer" | "number" | "boolean" as plain:
            return plain
    return "any"


def graph(*wheels: zipfile.ZipFile) -> None:
    """Kiota's request builders and models: the URL templates and fields of Graph's own OpenAPI description."""
    calls: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for wheel, builders in zip(wheels, (GRAPH, GRAPH_BETA), strict=True):
        package = "msgraph" if builders is GRAPH else "msgraph_beta"
        version = "v1.0" if builders is GRAPH else "beta"
        read = _Kiota(wheel, package)
        here = {
            f"{folder.replace('/item/', '.').replace('/', '.')}.{method}": read.call(folder, method, version)
            for folder, methods in builders.items()
            for method in methods.split()
        }
        calls |= here
        _follow(_named(calls, here), read.schema, schemas)
    _write("graph", [_told(wheel) for wheel in wheels], calls, schemas)


class _Kiota:
    """One of Graph's Python SDKs, read as text."""

    def __init__(self, wheel: zipfile.ZipFile, package: str) -> None:
        self._wheel, self._root = wheel, f"{package}/generated"
        self._files = {
            "".join(word.title() for word in name.rsplit("/", 1)[1].removesuffix(".py").split("_")): name
            for name in wheel.namelist()
            if name.startswith(self._root) and name.endswith(".py")
        }

    def call(self, folder: str, method: str, version: str) -> dict[str, Any]:
        """One method of the builder in a folder."""
        name = folder.rsplit("/", 1)[-1]
        tree = ast.parse(self._wheel.read(f"{self._root}/{folder}/{name}_request_builder.py"))
        template = next(
            node.args[1].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and len(node.args) == 3
            and isinstance(node.args[1], ast.Constant)
            and str(node.args[1].value).startswith("{+baseurl}")
        )
        path, _, options = str(template).removeprefix("{+baseurl}").partition("{?")
        function = next(
            node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == method
        )
        body = next((each for each in function.args.args if each.arg == "body"), None)
        return {
            "method": method.upper(),
            "host": "graph.microsoft.com",
            "path": f"/{version}{unquote(path)}",
            "where": dict.fromkeys(re.findall(r"\{([^}]+)\}", unquote(path)), "[^/()']+"),
            "query": dict.fromkeys(filter(None, unquote(options).strip("}").split(",")), "string"),
            "needs": [],
            "request": ast.unparse(body.annotation) if body is not None and body.annotation else "",
            "answer": _class_in(function.returns),
        }

    def schema(self, name: str) -> dict[str, Any] | None:
        """The fields of a model with those it inherits; only a few models are followed further."""
        if name not in self._files:
            return None
        tree = ast.parse(self._wheel.read(self._files[name]))
        owner = next(node for node in tree.body if isinstance(node, ast.ClassDef))
        found: dict[str, Any] = {}
        for base in owner.bases:
            if isinstance(base, ast.Name) and base.id != name:
                found |= self.schema(base.id) or {}
        reader = next(n for n in ast.walk(owner) if getattr(n, "name", "") == "get_field_deserializers")
        for node in ast.walk(reader):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Lambda):
                        found[str(key.value)] = _kiota_type(value)
        return found


FOLLOWED = {
    "Application",
    "AppCredentialSignInActivity",
    "KeyCredential",
    "PasswordCredential",
    "ServicePrincipal",
    "SignInActivity",
}


def _kiota_type(reader: ast.Lambda) -> Any:
    """What `lambda n: setattr(self, 'x', n.get_..._value())` reads."""
    assert isinstance(reader.body, ast.Call)
    get = reader.body.args[2]
    assert isinstance(get, ast.Call)
    assert isinstance(get.func, ast.Attribute)
    kind = get.func.attr.removeprefix("get_").removesuffix("_value").removesuffix("_values")
    inner = ast.unparse(get.args[0]) if get.args else ""
    plain = {"str": "string", "uuid": "uuid", "datetime": "instant", "bool": "boolean", "int": "integer"}
    plain |= {"bytes": "base64", "float": "number"}
    match kind:
        case "object":
            return {"ref": inner} if inner in FOLLOWED else "any"
        case "collection_of_object":
            return {"list": {"ref": inner} if inner in FOLLOWED else "any"}
        case "collection_of_primitive":
            return {"list": plain.get(inner.lower(), "any")}
    return plain.get(kind, "any")


def _class_in(returns: ast.expr | None) -> str:
    """`Optional[Thing]` is Thing; None is nothing."""
    if isinstance(returns, ast.Subscript):
        return ast.unparse(returns.slice)
    return ""


def _named(calls: dict[str, Any], some: Iterable[str]) -> set[str]:
    """The schemas that some of the calls send and are answered with."""
    return {calls[name][way] for name in some for way in ("request", "answer")}


def _follow(names: set[str], read: Callable[[str], dict[str, Any] | None], into: dict[str, Any]) -> None:
    """The named schemas and all that they name."""
    waiting = [name for name in names if name]
    while waiting:
        name = waiting.pop()
        schema = read(name)
        if schema is None or into.get(name) == schema:
            continue
        if name in into:
            sys.exit(f"two documents describe {name} differently: the excerpt needs a name for each")
        into[name] = schema
        waiting += re.findall(r'"ref": "([^"]+)"', json.dumps(schema))


def _wheel(package: str, folder: Path) -> zipfile.ZipFile:
    into = folder / package
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*argv, "--dest", str(into), package], check=True)
    return zipfile.ZipFile(next(into.glob("*.whl")))


def _told(wheel: zipfile.ZipFile) -> dict[str, str]:
    """Name, version and licence as the package says them."""
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    head = wheel.read(path).decode().partition("\n\n")[0]
    said = dict(re.findall(r"^(Name|Version|License|License-Expression): (.+)$", head, re.MULTILINE))
    said |= dict(re.findall(r"^Classifier: (License) :: .*:: (.+)$", head, re.MULTILINE))
    licence = said.get("License-Expression") or said.get("License") or "see the package's LICENSE file"
    return {"package": f"{said['Name']} {said['Version']}", "licence": licence}


def _write(name: str, sources: list[dict[str, str]], calls: dict[str, Any], schemas: dict[str, Any]) -> None:
    """A line for each call and schema: what changed at the vendor is seen in the diff."""
    taken = datetime.now(UTC).date().isoformat()
    lines = [f'  "sources": {json.dumps(sources)},', f'  "taken": "{taken}",']
    for part, entries in (("calls", calls), ("schemas", schemas)):
        rows = ",\n".join(f"    {json.dumps(key)}: {json.dumps(entries[key])}" for key in sorted(entries))
        lines.append(f'  "{part}": {{\n{rows}\n  }}' + ("," if part == "calls" else ""))
    (DOCUMENTS / f"{name}.json").write_text("{\n" + "\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
