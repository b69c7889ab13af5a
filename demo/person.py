"""The scripted person: reads tasks through the CLI, acts at the vendor's pages, answers through the CLI."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from demo.rows import AHA_USER
from keyturn_lab import people
from keyturn_lab.parts import oidc


class Person:
    """Answers every open task until told to stop. Sees only what the CLI prints and what the vendors' pages show."""

    def __init__(
        self,
        keyturn: Path,
        environment: Mapping[str, str],
        parts: Mapping[str, Any],
        systems: Mapping[str, str],
    ) -> None:
        self._keyturn, self._environment, self._parts = str(keyturn), dict(environment), parts
        self._systems = systems  # by connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="person", daemon=True)
        self.answered: list[str] = []
        self.trouble: list[str] = []

    def start(self) -> None:
        """Starts looking for tasks."""
        self._thread.start()

    def stop(self) -> None:
        """Goes home."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stop.is_set():
            for task in self._cli_json("tasks"):
                try:
                    self._do(task)
                except Exception as error:  # the demo shows what went wrong and goes on
                    self.trouble.append(f"{task.get('title')}: {type(error).__name__}: {error}"[:300])
                    time.sleep(1)
            self._stop.wait(0.4)

    def _do(self, task: Mapping[str, Any]) -> None:
        urls = {name: part["url"] for name, part in self._parts.items() if "url" in part}
        system = self._systems[task["connection"]]
        acts: dict[tuple[str, str], Callable[[], dict[str, str]]] = {
            ("freshdesk", "supply"): lambda: {
                "api_key": people.freshdesk_reset_key(urls["freshdesk"], "integration@acme.example")
            },
            ("aha", "supply"): lambda: self._new_aha_key(urls["aha"]),
            ("aha", "delete"): lambda: self._delete_aha_key(urls["aha"], task),
            ("jira", "consent"): lambda: {
                "callback_url": people.jira_consent(_url(task), "integration@acme.example", site="acme")
            },
            ("custom-rest", "consent"): lambda: {"callback_url": oidc.consent(_url(task), "ana@acme")},
        }
        answer = acts[(system, task["kind"])]()
        arguments = ["task", task["id"], "--claim"]
        environment = dict(self._environment)
        for number, (name, value) in enumerate(answer.items()):
            environment[f"ANSWER_{number}"] = value
            arguments += ["--submit", f"{name}=env:ANSWER_{number}"]
        if not answer:
            arguments += ["--done"]
        self._run_cli([*arguments, "--no-wait", "--json"], environment)
        self.answered.append(task["title"])

    def _new_aha_key(self, url: str) -> dict[str, str]:
        name = f"keyturn {os.urandom(3).hex()}"
        return {"api_key": people.aha_generate_key(url, AHA_USER, name), "key_name": name}

    def _delete_aha_key(self, url: str, task: Mapping[str, Any]) -> dict[str, str]:
        """Finds the row to delete by the name the instructions give, as a person would."""
        text = json.dumps(task["instructions"])
        known = people.aha_key_names(url, AHA_USER)
        named = [name for name in known if name in text]
        if len(named) != 1:
            raise LookupError(f"the instructions name {len(named)} of the keys {known}")
        people.aha_delete_key(url, AHA_USER, named[0])
        return {}

    def _cli_json(self, *arguments: str) -> list[dict[str, Any]]:
        said = self._run_cli([*arguments, "--json"], self._environment)
        found: list[dict[str, Any]] = json.loads(said or "[]")
        return found

    def _run_cli(self, arguments: list[str], environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            [self._keyturn, *arguments],
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode not in {0, 3}:
            raise RuntimeError(f"keyturn {arguments[0]} exit {done.returncode}: {done.stderr.strip()[-200:]}")
        return done.stdout


def _url(task: Mapping[str, Any]) -> str:
    return next(str(each["url"]) for each in task["instructions"] if each.get("url"))
