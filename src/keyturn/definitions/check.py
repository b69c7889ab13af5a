"""`keyturn definitions check FILE`: everything wrong with a document at once, and what the hub makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.contract.manifest import System
from keyturn.contract.values import NetworkPolicy
from keyturn.definitions.document import Malformed, parse
from keyturn.definitions.findings import REFUSE, Finding, Log, refuse
from keyturn.definitions.lint import lint
from keyturn.definitions.model import Definition
from keyturn.definitions.reader import collect_definition
from keyturn.definitions.system import SCHEMA as SYSTEM_SCHEMA
from keyturn.definitions.system import collect_system


@dataclass(frozen=True)
class Report:
    """The findings in the order of lines, and what was read if nothing stood in the way."""

    where: str
    findings: tuple[Finding, ...]
    definition: Definition | None = None
    system: System | None = None

    @property
    def usable(self) -> bool:
        """Whether nothing was refused."""
        return not any(f.level == REFUSE for f in self.findings)


def check(text: str, where: str, network: NetworkPolicy | None = None) -> Report:
    """Reads and lints a definition or a system's file. Never raises for what the text says."""
    log = Log(where)
    if _schema(text) == SYSTEM_SCHEMA:
        system = collect_system(text, log)
        if not log.refused:
            for method in system.methods:
                if isinstance(method.rest, Definition):
                    _lint(method.rest, log, network, method.name)
        return Report(where, _ordered(log), system=None if log.refused else system)
    definition = collect_definition(text, log)
    if definition is not None and not log.refused:
        lint(definition, log, network)
    return Report(where, _ordered(log), definition=None if log.refused else definition)


def accept(text: str, where: str, network: NetworkPolicy | None = None) -> Definition:
    """The user's definition, read and linted. Raises: InvalidInput naming file, line, field and fix."""
    report = check(text, where, network)
    if report.definition is None:
        refused = tuple(f for f in report.findings if f.level == REFUSE)
        refuse(
            where,
            refused or (Finding(REFUSE, 1, "schema", "is not rest-credential/v1", "Correct the schema."),),
        )
    return report.definition


def _lint(definition: Definition, log: Log, network: NetworkPolicy | None, method: str) -> None:
    inner = Log(log.where)
    lint(definition, inner, network)
    prefix = f"methods.{method}.rest."
    log.findings += [Finding(f.level, f.line, prefix + f.field, f.message, f.fix) for f in inner.findings]


def _schema(text: str) -> str:
    try:
        top = parse(text)
    except Malformed:
        return ""
    item = top.value.get("schema") if isinstance(top.value, dict) else None
    return str(item.value) if item is not None else ""


def _ordered(log: Log) -> tuple[Finding, ...]:
    return tuple(sorted(dict.fromkeys(log.findings), key=lambda f: (f.line, f.field)))
