"""The scripted person: reads tasks through the CLI, acts at the vendor's pages, answers through the CLI."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from demo import given, rows
from demo.callers import Caller

_HANDS = 3  # two colleagues help


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
        self._in_hand: set[str] = set()
        self.handovers: dict[str, tuple[str, Caller]] = {}  # by connection: who gets it, and their program

    def start(self) -> None:
        """Starts looking for tasks."""
        self._thread.start()

    def stop(self) -> None:
        """Goes home."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        with ThreadPoolExecutor(_HANDS) as hands:
            while not self._stop.is_set():
                for task in self._open_ones():
                    self._in_hand.add(task["id"])
                    hands.submit(self._try, task)
                self._stop.wait(0.4)

    def _open_ones(self) -> list[dict[str, Any]]:
        taken = set(self._in_hand)  # as of now: one that is answered meanwhile may be in the list as open
        try:
            return [task for task in self._cli_json("tasks") if task["id"] not in taken]
        except (RuntimeError, subprocess.TimeoutExpired) as error:  # on a busy machine: looked at again
            self.trouble.append(f"tasks: {type(error).__name__}"[:300])
            return []

    def _try(self, task: Mapping[str, Any]) -> None:
        try:
            self._do(task)
        except Exception as error:  # the demo shows what went wrong and goes on
            self.trouble.append(f"{task.get('title')}: {type(error).__name__}: {error}"[:300])
            time.sleep(1)
        finally:
            self._in_hand.discard(task["id"])

    def _do(self, task: Mapping[str, Any]) -> None:
        if task["kind"] == "handover":
            holder, caller = self.handovers[task["connection"]]
            said = self._run_cli(
                ["handover", task["connection"], "--to", holder, "--json"], self._environment
            )
            given.follow(json.loads(said)["url"], caller)  # their word answers the task
            self.answered.append(task["title"])
            return
        answer = rows.act(self._parts, self._systems[task["connection"]], task)
        arguments = ["task", task["id"], "--claim"]
        environment = dict(self._environment)
        for number, (name, value) in enumerate(answer.items()):
            environment[f"ANSWER_{number}"] = value
            arguments += ["--submit", f"{name}=env:ANSWER_{number}"]
        if not answer:
            arguments += ["--done"]
        self._run_cli([*arguments, "--no-wait", "--json"], environment)
        self.answered.append(task["title"])

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
