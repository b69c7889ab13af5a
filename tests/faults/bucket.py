"""Row 20 against a store of its own: moto's server, with every policy enforced. `python -m tests.faults.bucket`.

The shape of the bucket's row is in the matrix, where time leaps and the vendor misbehaves. Here the connector itself is
killed, with kill -9, at every place that issuing and rotating a key reach; a second process recovers; and the oracle
reads the users and keys from IAM, not from anything of the hub's. One story has a stranger's key in the second slot:
there the hub must stop, with nothing deleted, wherever it was killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keyturn import boundary
from keyturn.bootstrap import Keyturn, open_hub
from keyturn.contract.values import NetworkPolicy
from keyturn.engine.sweep import free_dead_holders
from keyturn.errors import NotFound
from keyturn.executor.executor import Executor
from keyturn.issued import kinds
from keyturn.model.plan import Goal
from keyturn.model.run import TERMINAL, Run, RunState
from keyturn.operations import audit, buckets, runs, tasks
from keyturn.operations.connections import find
from keyturn.settings import Settings
from keyturn.storage import debts, versions
from keyturn.vault.secrets import version_row
from keyturn_lab.parts.aws import AwsServer, Key
from tests.faults.bench import in_child
from tests.faults.crash import _dying, _fate, _files
from tests.faults.invariants import i9_no_secret_in_clear

NAME = "drop"
FAST = {"settle_create_s": 0.0, "settle_revoke_s": 0.0, "drain_min_s": 0.0, "soak_s": 0.0}
STORIES = ("rotated", "full")
NEVER = ("never", 0)
REST_S = 60.0
Place = tuple[str, int]


class Story:
    """One consumer's key, from its making to the rotation's end; can go on after a crash anywhere."""

    def __init__(self, aws: AwsServer, folder: Path, name: str) -> None:
        self.aws, self.folder, self.name = aws, folder, name
        self.user, self.prefix = f"matrix-{folder.name}", f"matrix/{folder.name}/"

    def open(self) -> Keyturn:
        """The hub on this story's disk."""
        home = self.folder / "home"
        settings = Settings(
            home=home,
            database=f"sqlite:///{home / 'keyturn.db'}",
            kek=f"file:{self.folder / 'kek'}",
            network=NetworkPolicy(frozenset({"127.0.0.1"})),
            patience=0.02,
            actor="matrix",
        )
        return open_hub(settings, create=not home.exists())

    def tell(self, hub: Keyturn) -> Run:
        """Issued, then rotated, each begun once. Returns the rotation at rest."""
        try:
            find(hub, NAME)
        except NotFound:
            buckets.issue(hub, kinds.BUCKET, NAME, self._values(), policy=FAST)
        first = runs.recent(hub, NAME, 1) or (runs.start(hub, NAME, Goal.RECONNECT),)
        if first[0].goal is Goal.RECONNECT:
            self._drive(hub, first[0].id)
        if self.name == "full" and len(self.keys()) < 2:
            self.aws.client("iam", self.aws.account.rotator).create_access_key(UserName=self.user)
        return self._drive(hub, runs.start(hub, NAME, Goal.ROTATE, trigger="matrix").id)

    def _values(self) -> dict[str, str]:
        steward = self.aws.account.steward
        return {
            "bucket": self.aws.account.hub_bucket,
            "prefix": self.prefix,
            "user_name": self.user,
            "contact": "data@acme.example",
            "admin_access_key_id": steward.access_key_id,
            "admin_secret_access_key": steward.secret_access_key,
            **{f"{service}_endpoint": self.aws.url for service in ("iam", "sts", "s3")},
        }

    def _drive(self, hub: Keyturn, run_id: str) -> Run:
        """To its rest; whoever is told about the new key says so at once."""
        until = time.monotonic() + REST_S
        while time.monotonic() < until:
            made = runs.get(hub, run_id)
            if made.state in TERMINAL or made.state is RunState.BLOCKED:
                return made
            for task in tasks.waiting(hub):
                if task.run_id == run_id and task.kind == "handover":
                    tasks.submit(hub, task.id, {})
            time.sleep(min(0.1, max(0.0, runs.get(hub, run_id).due_at - time.time())))
            Executor(hub.hub).advance(made.id)
        return runs.get(hub, run_id)

    # -- the oracle: IAM and S3, never the hub's own word --------------------------------------------------------------

    def keys(self) -> dict[str, str]:
        """What IAM holds for this consumer, by id: Active or Inactive."""
        held = (each for each in self.aws.records() if each["owner"] == self.user)
        return {each["id"]: status for each in held if (status := each["facts"]["status"]) != "Deleted"}

    def others(self) -> list[Any]:
        """Everybody else's keys, but for other stories'."""
        return [each for each in self.aws.records() if not str(each["owner"]).startswith("matrix-")]

    def opens(self, pair: Mapping[str, str], prefix: str) -> bool:
        """Whether a pair lists a prefix, by an unmodified client."""
        from botocore.exceptions import ClientError

        client = self.aws.client("s3", Key("", pair["access_key_id"], pair["secret_access_key"]))
        try:
            client.list_objects_v2(Bucket=self.aws.account.hub_bucket, Prefix=prefix)
        except ClientError:
            return False
        return True


def _pair(hub: Keyturn, version_id: str) -> dict[str, str]:
    material = hub.secrets.material(version_row(version_id))
    return {part: material[part] for part in ("access_key_id", "secret_access_key")}


def _serving(story: Story, hub: Keyturn) -> tuple[dict[str, str] | None, str]:
    """What serves, and what is wrong with it: whenever the hub says that a key serves, the store lets it in."""
    try:
        current = find(hub, NAME).current_version_id
    except NotFound:
        return None, ""
    if current is None:
        return None, ""
    pair = _pair(hub, current)
    return pair, "" if story.opens(pair, story.prefix) else "I1: what serves does not open the prefix"


def _first(story: Story, at: Place, tell: Callable[[Any], None]) -> None:
    hub, places = story.open(), []
    leaving = boundary.leaving

    def leaves(target: str) -> None:  # each single call of the connector's is a place of its own
        leaving(target)
        boundary.reach("leaves")

    boundary.leaving = leaves
    with _dying(*at, places):
        story.tell(hub)
    tell(places)
    hub.close()


def _second(story: Story, at: Place, tell: Callable[[Any], None]) -> None:
    """Looks at what the crash left, recovers, looks again."""
    hub = story.open()
    free_dead_holders(hub.store)
    before, at_crash = _serving(story, hub)
    wrong = [f"{at_crash} [at the crash]"] if at_crash else []
    made = story.tell(hub)
    wrong += _full(story, hub, made) if story.name == "full" else _rotated(story, hub, made, before)
    wrong += [f"I10: {each}" for each in audit.check(hub)]
    connection = find(hub, NAME)
    known = hub.store.read(lambda tx: versions.of_connection(tx, connection.id))
    secrets = [
        hub.secrets.material(version_row(each.id)).get("secret_access_key", "")
        for each in known
        if hub.secrets.find(version_row(each.id)) is not None
    ]
    hub.close()
    tell({"wrong": wrong, "secrets": [each for each in secrets if each], "state": made.state.value})


def _rotated(story: Story, hub: Keyturn, made: Run, before: dict[str, str] | None) -> list[str]:
    """One key is left, and it serves; the one before it is dead; what is owed is written down."""
    wrong = []
    if made.state is not RunState.COMPLETE:
        wrong.append(f"END: {made.state.value}: {made.waiting_for or made.outcome}")
    pair, said = _serving(story, hub)
    wrong += [said] if said else []
    assert pair is not None
    if story.keys() != {pair["access_key_id"]: "Active"}:
        owed = hub.store.read(lambda tx: debts.open_debts(tx, made.connection_id))
        wrong.append(f"I2: IAM holds {story.keys()}, {pair['access_key_id']} serves, owed: {owed}")
    if story.opens(pair, "matrix/") or story.opens(pair, ""):
        wrong.append("the key opens more than its prefix")
    is_old = before is not None and before != pair
    if is_old and story.opens(before or {}, story.prefix):
        wrong.append("I4: the old key still opens the prefix")
    return wrong


def _full(story: Story, hub: Keyturn, made: Run) -> list[str]:
    """Both slots are taken and one of them is nobody's: it stops, names both, and deletes neither."""
    wrong, keys = [], story.keys()
    if made.state is not RunState.BLOCKED or not all(each in made.waiting_for for each in keys):
        wrong.append(f"END: {made.state.value}: {made.waiting_for or made.outcome}")
    if sorted(keys.values()) != ["Active", "Active"]:
        wrong.append(f"I5: IAM holds {keys}")
    _, said = _serving(story, hub)
    return [*wrong, said] if said else wrong


def case(aws: AwsServer, folder: Path, name: str, at: Place) -> tuple[list[str], list[Place]]:
    """One story with one kill: what is wrong in the end, and the places that were reached."""
    folder.mkdir()
    story = Story(aws, folder, name)
    others = story.others()
    try:
        status, places = in_child(lambda tell: _first(story, at, tell), folder / "first.txt")
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if killed is (at == NEVER) or (status and not killed):
            return [_fate("the first process", status, folder / "first.txt")], []
        status, said = in_child(lambda tell: _second(story, at, tell), folder / "second.txt")
        if said is None:
            return [_fate("the recovering process", status, folder / "second.txt")], []
        wrong = list(said["wrong"])
        if story.others() != others:
            wrong.append("I5: somebody else's keys are not what they were")
        if leak := i9_no_secret_in_clear(said["secrets"], _files(folder)):
            wrong.append(f"I9: {leak}")
        return wrong, [(place, k) for place, k in places or ()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Exit status 0 only without violations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=0, help="so many places, by chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", default=[], help="story/place#k")
    chosen = parser.parse_args()
    count = violations = 0
    with AwsServer() as aws, tempfile.TemporaryDirectory() as base:

        def run(name: str, at: Place) -> list[Place]:
            nonlocal count, violations
            count += 1
            wrong, places = case(aws, Path(base) / f"{count:04}", name, at)
            violations += len(wrong)
            for each in wrong:
                sys.stdout.write(f"{name}/{at[0]}#{at[1]}\n    {each}\n")
            sys.stdout.flush()
            return places

        todo = [(name, at) for name in STORIES for at in run(name, NEVER)] if not chosen.case else []
        for each in chosen.case:
            name, _, rest = each.partition("/")
            place, _, k = rest.rpartition("#")
            todo.append((name, (place, int(k))))
        if chosen.sample:
            todo = random.Random(chosen.seed).sample(todo, min(chosen.sample, len(todo)))
        for name, at in todo:
            run(name, at)
    sys.stdout.write(json.dumps({"cases": count, "violations": violations}) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
