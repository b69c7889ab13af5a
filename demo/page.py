"""The demo's report as one page to click through: the table, and every row's journal as a timeline."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keyturn.model.moment import iso

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --good: #0a7a3c; --bad: #b3261e; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.complete { color: var(--good); font-weight: 600; } .other { color: var(--bad); font-weight: 600; }
details { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem; margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: .2rem; overflow-wrap: anywhere; }
"""
_WORDS = {
    "Z0": "nobody noticed",
    "Z1": "one retry at once",
    "Z2": "consumers were paused",
    "Z3": "consumers were refused",
}


def write(path: Path, report: Mapping[str, Any], journals: Mapping[str, list[Mapping[str, Any]]]) -> None:
    """Writes the page; it needs no server and loads nothing from elsewhere."""
    rows = "".join(_row(row) for row in report["rows"])
    timelines = "".join(_timeline(row, journals.get(row["name"], [])) for row in report["rows"])
    done = sum(row["state"] == "complete" for row in report["rows"])
    audit = "verified" if report["audit_ok"] else "BROKEN"
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Keyturn: what the demo did</title><style>{_STYLE}</style></head>
<body><main><h1>What the demo did</h1>
<p>{done} of {len(report["rows"])} rows are complete after {report["seconds"]:.0f} seconds, while a consumer
of each kept logging in. The audit trail is {audit}.</p>
<table><caption>One line per row</caption><thead><tr><th scope="col">Connection</th><th scope="col">Row</th>
<th scope="col">Strategy</th><th scope="col">State</th><th scope="col">Consumers</th><th scope="col">Logins</th>
<th scope="col">Refused</th><th scope="col">Proof of death</th><th scope="col">Seconds</th></tr></thead>
<tbody>{rows}</tbody></table>
<h2>Timelines</h2><p>Every line of the journal, as the audit trail holds it. No line holds a secret.</p>
{timelines}</main></body></html>
""",
        encoding="utf-8",
    )


def _row(row: Mapping[str, Any]) -> str:
    state = "complete" if row["state"] == "complete" else "other"
    note = f"<br>{_safe(row['note'])}" if row["note"] else ""
    return (
        f'<tr><th scope="row"><a href="#{_anchor(row)}">{_safe(row["name"])}</a></th>'
        f"<td>{_safe(row['system'])}/{_safe(row['method'])}</td><td>{_safe(row['strategy'])}</td>"
        f'<td class="{state}">{_safe(row["state"])}{note}</td>'
        f"<td>{_safe(row['gap_class'])}: {_WORDS.get(row['gap_class'], '')}</td>"
        f'<td class="number">{row["consumer_logins"]}</td><td class="number">{row["consumer_failures"]}</td>'
        f'<td>{_safe(row["proof"])}</td><td class="number">{row["seconds"]}</td></tr>'
    )


def _timeline(row: Mapping[str, Any], journal: list[Mapping[str, Any]]) -> str:
    lines = "".join(
        f"<tr><td>{line['number']}</td><td>{_safe(str(iso(line['at']))[11:19])}</td><td>{_safe(line['step'])}</td>"
        f"<td>{_safe(line['kind'])}</td><td><code>{_safe(json.dumps(line['facts'], sort_keys=True))}</code></td></tr>"
        for line in journal
    )
    return (
        f'<details id="{_anchor(row)}"><summary>{_safe(row["name"])}: {len(journal)} lines</summary>'
        '<table><thead><tr><th scope="col">No</th><th scope="col">At</th><th scope="col">Step</th>'
        f'<th scope="col">What</th><th scope="col">Facts</th></tr></thead><tbody>{lines}</tbody></table></details>'
    )


def _anchor(row: Mapping[str, Any]) -> str:
    return "row-" + "".join(c if c.isalnum() else "-" for c in str(row["name"]))


def _safe(text: object) -> str:
    return html.escape(str(text))
