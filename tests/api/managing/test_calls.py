"""The calls one by one: what they do, what they leave in the journal, and what they never say."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from tests.api.managing.conftest import LOCAL, is_problem
from tests.faults import shapes_connector as shapes
from tests.faults import world
from tests.issued.conftest import open_test_hub
from tests.waiting import wait_for

from keyturn.api.app import create_app
from keyturn.contract.capabilities import Capabilities
from keyturn.contract.manifest import Field, GuideStep, Method, System
from keyturn.model.card import Card, GapClass, Hands, Proof, Strategy
from keyturn.model.plan import Goal
from keyturn.model.secret import Material
from keyturn.model.verdict import accepted, rejected, unknown
from keyturn.operations import connections, issued, people, projects, register, runs, tasks
from keyturn.storage import journal

CONNECTABLE = "two_slots"


def form(vendor, name, method=CONNECTABLE):
    """The values that connect a fresh account of this test."""
    made = shapes.provision(vendor.client, method, name)
    known = {f.name for f in shapes.system().method(method).fields}
    every = {**made.settings, **dict(made.material), **dict(made.admin or {})}
    return made, {k: v for k, v in every.items() if k in known}


def secrets_of(made):
    return [*made.material.secrets(), *(made.admin.secrets() if made.admin else ())]


@pytest.fixture
def admin(token):
    return token("admin")


# -- systems and connecting --------------------------------------------------------------------------------------------


def test_systems_and_one_of_them(client, admin):
    """Rows with their cards; a page with its fields."""
    rows = client.get("systems", headers=admin).json()["items"]
    assert {"shapes/two_slots", "hub-api/access_key"} <= {f"{r['system']}/{r['method']}" for r in rows}
    page = client.get("systems/hub-api", headers=admin).json()
    assert page["methods"][0]["fields"][0]["name"]
    is_problem(client.get("systems/none", headers=admin), 404)


def test_test_before_save_then_connect(client, admin, vendor, idle, request):
    """A test keeps nothing; connecting does, and no answer shows a secret."""
    made, values = form(vendor, f"fresh-{abs(hash(request.node.nodeid)) % 10**8}")
    body = {"system": "shapes", "method": CONNECTABLE, "name": "fresh", "values": values, "owner": "sam"}
    checked = client.post("connections/test", json=body, headers=admin)
    assert checked.json()["verdict"] == "accepted"
    assert checked.json()["negative_control"] == "refused"
    assert not connections.every(idle)
    done = client.post("connections", json={**body, "project": "billing"}, headers=admin)
    assert done.status_code == 201, done.text
    found = done.json()
    assert (found["name"], found["owner"], found["project"], found["version"]) == (
        "fresh",
        "sam",
        "billing",
        1,
    )
    for each in secrets_of(made):
        assert each not in checked.text + done.text + client.get("connections/fresh", headers=admin).text
    is_problem(client.post("connections", json=body, headers=admin), 409, "conflict")


def test_nothing_is_kept_of_a_refused_credential(client, admin, vendor, idle, request):
    """502 with the vendor's class of reason; what was typed is not repeated."""
    _, values = form(vendor, f"bad-{abs(hash(request.node.nodeid)) % 10**8}")
    secret = next(
        f.name for f in shapes.system().method(CONNECTABLE).fields if f.secret and f.group != "admin"
    )
    values[secret] = "wrong-on-purpose-7Hq2"
    body = {"system": "shapes", "method": CONNECTABLE, "name": "bad", "values": values}
    answer = client.post("connections", json=body, headers=admin)
    is_problem(answer, 502, "credential_rejected")
    assert "7Hq2" not in answer.text
    assert not connections.every(idle)


def test_lists_are_filtered_sorted_and_paged(client, admin, connect):
    """A cursor is opaque, signed, and of one list with its filters."""
    for name in ("beta", "alpha", "gamma"):
        connect(name=name)
    names = lambda answer: [c["name"] for c in answer.json()["items"]]  # noqa: E731
    first = client.get("connections?limit=2", headers=admin)
    assert names(first) == ["alpha", "beta"]
    after = first.json()["next"]
    assert names(client.get("connections", params={"limit": 2, "after": after}, headers=admin)) == ["gamma"]
    assert names(client.get("connections?text=amm", headers=admin)) == ["gamma"]
    assert names(client.get("connections?name=alpha", headers=admin)) == ["alpha"]
    assert names(client.get("connections?sort=name&down=true", headers=admin)) == ["gamma", "beta", "alpha"]
    assert names(client.get("connections?system=none", headers=admin)) == []
    for wrong in (after[:-2] + "AA", "x", after + "AAAA", "ü"):
        problem = is_problem(client.get("connections", params={"after": wrong}, headers=admin), 422)
        assert problem["field"] == "after"
    other = client.get("connections", params={"after": after, "sort": "due"}, headers=admin)
    is_problem(other, 422)
    is_problem(client.get("runs", params={"after": after}, headers=admin), 422)


def test_a_page_never_shows_twice_what_comes_meanwhile(client, admin, connect, idle):
    """Runs that begin between two pages do not move the second."""
    connect()
    started = []
    for _ in range(5):
        run = runs.start(idle, "orders", Goal.ROTATE)
        runs.cancel(idle, run.id)
        started.append(run.id)
    first = client.get("runs?limit=2", headers=admin).json()
    assert [r["id"] for r in first["items"]] == started[:2:-1]
    run = runs.start(idle, "orders", Goal.ROTATE)
    runs.cancel(idle, run.id)
    rest = client.get("runs", params={"limit": 2, "after": first["next"]}, headers=admin).json()
    assert [r["id"] for r in rest["items"]] == started[2:0:-1]
    found = client.get("runs?state=aborted_clean&goal=rotate&connection=orders", headers=admin).json()
    assert len(found["items"]) == 6
    assert client.get("runs?state=blocked", headers=admin).json()["items"] == []


# -- editing -----------------------------------------------------------------------------------------------------------


def test_edit_owner_policy_and_project(client, admin, connect, idle):
    """What is not named stays; null takes a policy back; the journal has both values."""
    found = connect()
    body = {"owner": "sam", "policy": {"max_age_days": 30, "retention_s": None}, "project": "billing"}
    answer = client.patch("connections/orders", json=body, headers=admin)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert (page["owner"], page["project"], page["policy"]) == (
        "sam",
        "billing",
        {"max_age_days": 30, "drain_min_s": 0.02},
    )
    lines = idle.store.read(lambda tx: journal.of_connection(tx, found.id))
    edited = next(line.facts for line in lines if line.facts.get("decision") == "edited")
    assert edited["by"] == "admin--robot"
    assert edited["changed"]["policy.max_age_days"] == [None, 30]
    assert edited["changed"]["owner"] == ["ada", "sam"]
    is_problem(client.patch("connections/orders", json={"policy": {"nonsense": 1}}, headers=admin), 422)
    is_problem(client.patch("connections/orders", json={"nonsense": 1}, headers=admin), 422)
    count = len(lines)
    client.patch("connections/orders", json={"owner": "sam"}, headers=admin)
    assert len(idle.store.read(lambda tx: journal.of_connection(tx, found.id))) == count


def test_settings_are_tested_before_they_are_kept(client, admin, connect, idle):
    """A field that names the account, or is the credential, is not edited; a setting that breaks it is not kept."""
    connect()
    method = idle.catalog.row_of(connections.find(idle, "orders")).method
    secret = next(f.name for f in method.fields if f.secret and f.group != "admin")
    for name in (*method.principal, secret):
        problem = is_problem(
            client.patch("connections/orders", json={"values": {name: "x"}}, headers=admin), 422
        )
        assert problem["field"] == name
    is_problem(client.patch("connections/orders", json={"values": {"none": "x"}}, headers=admin), 422)
    before = connections.find(idle, "orders").settings
    answer = client.patch("connections/orders", json={"values": {"by": "another"}}, headers=admin)
    assert answer.json()["settings"] == {**before, "by": "another"}


class Picky:
    """Answers by what the role is called."""

    def verify(self, access, material):
        role = access.settings.get("role", "")
        if "bogus" in str(dict(material)) or role == "refuses":
            return rejected("401")
        return unknown("away") if role == "away" else accepted("somebody-else" if role == "other" else "me")

    def bogus(self, material):
        return Material(dict.fromkeys(material, "bogus"))


@pytest.mark.parametrize(
    ("role", "status", "code"),
    [
        ("refuses", 502, "credential_rejected"),
        ("away", 503, "vendor_unavailable"),
        ("other", 409, "wrong_account"),
    ],
)
def test_settings_that_do_not_pass_are_not_kept(tmp_path, role, status, code):
    """Refused, no answer, another account: nothing is changed, and nothing is put on record as changed."""
    fields = (Field("role", "Role"), Field("key", "Key", secret=True, part=True))
    card = Card(Strategy.SUPPLIED, Hands.GUIDED, GapClass.Z0, Proof.D0)
    steps = (GuideStep("make one"),)
    method = Method("key", "Key", "outbound", "", fields, card, (), create_steps=steps)
    picky = SimpleNamespace(
        system=lambda: System("picky", "Picky", "", (), (method,)),
        capabilities=lambda _name, _settings: Capabilities(Picky()),
    )
    hub = open_test_hub(tmp_path, picky=picky)
    try:
        made = connections.connect(hub, "picky", "key", "it", {"role": "good", "key": "k-123456"}).connection
        robot = people.add_service(hub, LOCAL, "robot", "", [("admin", "")])
        _, value = people.make_token(hub, LOCAL, robot.id, "x", ["connect"])
        headers = {"Authorization": f"Bearer {value.reveal()}"}
        with TestClient(create_app(hub), base_url="http://hub.test/api/v1/") as client:
            is_problem(
                client.patch("connections/it", json={"values": {"role": role}}, headers=headers), status, code
            )
            assert connections.find(hub, "it").settings == made.settings
            good = client.patch("connections/it", json={"values": {"role": "better"}}, headers=headers)
            assert good.json()["settings"]["role"] == "better"
        said = [
            line.facts.get("decision")
            for line in hub.store.read(lambda tx: journal.of_connection(tx, made.id))
        ]
        assert said.count("edited") == 1
    finally:
        hub.close()


def test_settings_wait_for_a_run(client, admin, connect, idle):
    """A run works with the settings it started with."""
    connect()
    run = runs.start(idle, "orders", Goal.ROTATE)
    answer = client.patch("connections/orders", json={"values": {"by": "another"}}, headers=admin)
    problem = is_problem(answer, 409)
    assert problem["run"] == run.id
    assert client.patch("connections/orders", json={"owner": "sam"}, headers=admin).status_code == 200


def test_an_issued_keys_scopes_are_edited(client, admin, idle):
    """They count from the next call on."""
    key = client.post(
        "issued", json={"kind": "api-key", "name": "partner", "values": {"scopes": "read"}}, headers=admin
    ).json()["value"]
    assert client.get("connections", headers={"AccessKey": key}).status_code == 200
    answer = client.patch("connections/partner", json={"values": {"scopes": "lease"}}, headers=admin)
    assert answer.status_code == 200, answer.text
    is_problem(client.get("connections", headers={"AccessKey": key}), 403, "cred.scope")


def test_where_an_issued_key_is_used_is_told_before_it_is_changed(client, admin, idle):
    """Holders, callers by slot with address and agent, what is odd; and the agent beside the last use."""
    asked = {"kind": "api-key", "name": "partner", "values": {"scopes": "read"}}
    key = client.post("issued", json=asked, headers=admin).json()["value"]
    register.hold(idle, "partner", "Acme", contact="ops@acme.example", place="their vault")
    assert client.get("connections", headers={"AccessKey": key, "User-Agent": "etl/1"}).status_code == 200

    def told():
        page = client.get("issued/partner/where-used", headers=admin).json()
        return page if page["callers"] else None

    found = wait_for(told)
    assert [(c["slot"], c["agent"], c["uses"]) for c in found["callers"]] == [("A", "etl/1", 1)]
    assert [(h["name"], h["place"], h["owed"]) for h in found["holders"]] == [("Acme", "their vault", True)]
    assert found["findings"] == ["nobody to tell: it has no contact"]
    assert client.get("issued/partner", headers=admin).json()["secrets"][0]["last_used_agent"] == "etl/1"
    is_problem(client.get("issued/nobody/where-used", headers=admin), 404)


# -- looking -----------------------------------------------------------------------------------------------------------


def test_test_discover_history_consumers(client, admin, connect):
    """The same as the commands."""
    connect()
    assert client.post("connections/orders/test", headers=admin).json()["verdict"] == "accepted"
    assert client.post("connections/orders/discover", headers=admin).json()["items"]
    history = client.get("connections/orders/history", headers=admin).json()
    assert history["versions"][0]["state"] == "current"
    assert history["journal"][0]["number"] == 1
    used = client.post(
        "connections/orders/consumers", json={"name": "job", "kind": "cached", "ttl_s": 60}, headers=admin
    ).json()["items"]
    assert (used[0]["name"], used[0]["ttl_s"]) == ("job", 60)
    assert client.get("connections/orders/consumers", headers=admin).json()["items"] == used
    is_problem(
        client.post("connections/orders/consumers", json={"name": "job", "kind": "cached"}, headers=admin),
        422,
    )


def test_leases_by_a_token(client, token, connect):
    """Taken, seen, prolonged, given back."""
    connect()
    headers = token("operator")
    taken = client.post("leases", json={"connection": "orders", "consumer": "etl"}, headers=headers)
    assert taken.status_code == 201, taken.text
    held = client.get("connections/orders/leases", headers=headers).json()["items"]
    assert [(h["id"], h["consumer"], h["version"]) for h in held] == [(taken.json()["id"], "etl", 1)]
    path = f"leases/{taken.json()['id']}"
    assert client.post(f"{path}/extend", json={"ttl_s": 60}, headers=headers).json()["ttl_s"] == 60
    assert client.delete(path, headers=headers).status_code == 204
    assert client.get("connections/orders/leases", headers=headers).json()["items"] == []


# -- plans and runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "goal", ["rotate", "disconnect", "contain", "reconnect", "revoke", "reauthorize", "refresh"]
)
def test_a_plan_for_every_goal(client, admin, connect, idle, goal):
    """The same plan as the operation's, or its refusal; nothing is started."""
    connect()
    answer = client.get(f"connections/orders/plan/{goal}", headers=admin)
    if answer.status_code == 200:
        made = runs.plan(idle, "orders", Goal(goal))
        assert answer.json()["steps"] == json.loads(json.dumps(made.as_json()["steps"]))
        assert len(answer.json()["digest"]) == 64
    else:
        is_problem(answer, answer.status_code)
        assert answer.status_code in {409, 422}
    assert not runs.recent(idle)


def test_dry_run_then_exactly_that(client, admin, connect, hub, ended):
    """A dry run starts nothing; its digest starts that plan, and another digest starts none."""
    connect()
    dry = client.post("connections/orders/rotate", json={"dry_run": True}, headers=admin)
    assert (dry.status_code, dry.json()["goal"]) == (200, "rotate")
    assert not runs.recent(hub)
    is_problem(client.post("connections/orders/rotate", json={"plan": "0" * 64}, headers=admin), 409)
    assert not runs.recent(hub)
    run = client.post(
        "connections/orders/rotate", json={"plan": dry.json()["digest"], "reason": "quarterly"}, headers=admin
    )
    assert run.status_code == 202, run.text
    assert ended(run.json()["id"]).state.value == "complete"
    found = client.get(f"runs/{run.json()['id']}", headers=admin).json()
    assert (found["state"], found["reason"], found["ended"]) == ("complete", "quarterly", True)
    assert all(step["state"] == "done" for step in found["steps"])
    lines = client.get(f"runs/{found['id']}/lines?limit=3", headers=admin).json()
    rest = client.get(
        f"runs/{found['id']}/lines", params={"after": lines["next"], "limit": 500}, headers=admin
    ).json()
    assert lines["items"] + rest["items"] == found["lines"]
    assert client.get("runs?connection=orders", headers=admin).json()["items"][0]["id"] == found["id"]


def test_every_goal_that_ends_or_begins_anew(client, admin, connect, hub, ended):
    """Disconnect, reconnect, contain: the same runs as the commands start."""
    connect()
    for goal in ("contain", "disconnect"):
        answer = client.post(f"connections/orders/{goal}", headers=admin)
        assert answer.status_code == 202, answer.text
        assert ended(answer.json()["id"]).state.value == "complete", goal
    assert client.get("connections/orders", headers=admin).json()["state"] == "disconnected"
    answer = client.post("connections/orders/reconnect", headers=admin)
    assert answer.status_code == 202, answer.text
    wait_for(lambda: client.get("tasks?connection=orders", headers=admin).json()["items"])


def test_a_risk_is_accepted_in_the_words_of_the_plan(client, admin, connect, idle):
    """Alone or among several; the journal keeps who said what, and a refused start leaves nothing."""
    connect("regenerate")
    plan = client.post("connections/orders/rotate", json={"dry_run": True}, headers=admin).json()
    assert "answer is lost" in plan["risk"]
    assert plan["accept"] == "orders may be lost"
    for said in ([], ["yes"], ["billing may be lost"]):
        answer = client.post("connections/orders/rotate", json={"accept": said}, headers=admin)
        assert is_problem(answer, 422)["field"] == "accept"
    several = {"connections": ["orders"]}
    assert client.post("runs/rotate", json=several, headers=admin).json()["failed"] == 1
    assert not runs.recent(idle)
    said = {**several, "accept": [plan["accept"]]}
    run = client.post("runs/rotate", json=said, headers=admin).json()["items"][0]["run"]
    start = runs.lines(idle, run)[0]
    assert start.facts["accepted"] == plan["accept"]
    assert start.facts["risk"] == plan["risk"]


def test_several_at_once(client, admin, connect, hub, ended):
    """One answer each; one that cannot start keeps no other back; a dry run starts none."""
    connect(name="one")
    connect(name="two")
    body = {"connections": ["one", "nowhere", "two", "one"], "reason": "all"}
    dry = client.post("runs/rotate", json={**body, "dry_run": True}, headers=admin).json()
    assert [i.get("plan", {}).get("goal") for i in dry["items"]] == ["rotate", None, "rotate"]
    assert (dry["started"], dry["failed"]) == (0, 1)
    found = client.post("runs/rotate", json=body, headers=admin).json()
    assert (found["started"], found["failed"]) == (2, 1)
    assert found["items"][1]["problem"]["code"] == "not_found"
    for item in (found["items"][0], found["items"][2]):
        assert ended(item["run"]).state.value == "complete"


def test_retry_cancel_rollback(client, admin, connect, idle):
    """The verbs, and their refusals with the run's id."""
    connect()
    run = client.post("connections/orders/rotate", headers=admin).json()["id"]
    busy = is_problem(client.post("connections/orders/rotate", headers=admin), 409)
    assert busy["run"] == run
    assert client.post(f"runs/{run}/retry", headers=admin).json()["id"] == run
    assert client.post(f"runs/{run}/cancel", headers=admin).json()["state"] == "aborted_clean"
    for verb in ("cancel", "rollback", "retry"):
        is_problem(client.post(f"runs/{run}/{verb}", headers=admin), 409)
    by = [
        line.facts.get("by")
        for line in runs.lines(idle, run)
        if line.facts.get("decision") in {"started", "ended"}
    ]
    assert by == ["admin--robot", "admin--robot"]


def test_a_task_from_the_list_to_its_check(client, admin, connect, hub, vendor, request, ended):
    """Claimed, handed in write-only, checked: returned with a reason, then done."""
    made = connect(method="supplied", name="paste")
    run = client.post("connections/paste/rotate", headers=admin).json()["id"]
    task = wait_for(lambda: client.get("tasks?connection=paste", headers=admin).json()["items"])[0]
    assert (task["run"], task["state"], task["result"]) == (run, "open", "")
    assert client.post(f"tasks/{task['id']}/claim", headers=admin).json()["claimed_by"] == "admin--robot"
    login = connect.logins["paste"]
    wrong = {f["name"]: "wrong-value-3Kd9" for f in task["fields"]}
    answer = client.post(f"tasks/{task['id']}/submit", json={"values": wrong}, headers=admin)
    assert answer.status_code in {202, 422}
    assert "3Kd9" not in answer.text
    if answer.status_code == 202:
        wait_for(lambda: client.get(f"tasks/{task['id']}", headers=admin).json()["result"] == "RETURNED", 20)
        task = wait_for(lambda: client.get("tasks?connection=paste", headers=admin).json()["items"])[0]
    value = shapes.pasted(shapes.person_supplies(vendor.client, login))
    good = client.post(f"tasks/{task['id']}/submit", json={"values": value}, headers=admin)
    assert good.status_code == 202, good.text
    assert not any(v in good.text for v in value.values() if len(v) > 12)
    for _ in range(3):  # tell, delete: whatever else the plan asks a person
        left = [t for t in tasks.waiting(hub) if t.connection_id == made.id]
        if left and left[0].kind != "supply":
            world.person(vendor.client, hub, login)(left[0])
        if wait_for(lambda: runs.get(hub, run).state.value != "waiting_human" or tasks.waiting(hub)):
            continue
    assert client.get(f"tasks/{task['id']}", headers=admin).json()["result"] == "DONE"
    is_problem(client.post(f"tasks/{task['id']}/submit", json={"values": value}, headers=admin), 409)


def test_many_are_ended_at_once(client, admin, token, hub):
    """Shown first; then refused when it answers. Only in the caller's projects; a moment that is none is named."""
    keys = {
        name: client.post("issued", json={"kind": "api-key", "name": name}, headers=admin).json()["value"]
        for name in ("a", "b")
    }
    projects.move(hub, issued.get(hub, "b").connection.id, "billing")
    asked = {"kind": "api-key", "dry_run": True}
    shown = client.post("issued/revoke", json=asked, headers=admin).json()
    assert (shown["dry_run"], [each["name"] for each in shown["items"]]) == (True, ["a", "b"])
    assert all(client.get("whoami", headers={"AccessKey": each}).status_code == 200 for each in keys.values())
    assert client.post("issued/revoke", json={"before": "2020-01-01"}, headers=admin).json()["items"] == []
    is_problem(client.post("issued/revoke", json={"before": "soon"}, headers=admin), 422)
    is_problem(client.post("issued/revoke", json={}, headers=admin), 422)
    narrow = token("admin", "billing")
    done = client.post("issued/revoke", json={"kind": "api-key"}, headers=narrow).json()
    assert [each["name"] for each in done["items"]] == ["b"]
    assert client.get("whoami", headers={"AccessKey": keys["a"]}).status_code == 200
    is_problem(client.get("whoami", headers={"AccessKey": keys["b"]}), 401, "cred.revoked")
    done = client.post("issued/revoke", json={"before": "2100-01-01"}, headers=admin).json()
    assert [(each["name"], bool(each["run"])) for each in done["items"]] == [("a", True)]
    is_problem(client.get("whoami", headers={"AccessKey": keys["a"]}), 401, "cred.revoked")


def test_when_a_clients_secret_expires(client, admin, idle):
    """`client_secret_expires_at` as RFC 7591 has it: epoch seconds, 0 for never, null for what is no OAuth client."""
    ask = {"kind": "m2m", "name": "etl", "values": {"expires_in_days": "2"}}
    made = client.post("issued", json=ask, headers=admin).json()
    ends = issued.get(idle, "etl").secrets[0].ends_at
    assert made["client_secret_expires_at"] == int(ends)
    again = client.post("issued/etl/reveal", json={"version": made["version"]}, headers=admin).json()
    page = client.get("issued/etl", headers=admin).json()
    assert again["client_secret_expires_at"] == page["client_secret_expires_at"] == int(ends)
    never = client.post("issued", json={**ask, "name": "b", "values": {}}, headers=admin).json()
    assert never["client_secret_expires_at"] == 0
    key = client.post("issued", json={"kind": "api-key", "name": "c"}, headers=admin).json()
    assert key["client_secret_expires_at"] is None


def test_one_made_for_later_over_the_api(client, admin, idle):
    """`starts_in_s` on issuing and reissuing; the list says when."""
    idle.engine.start()
    asked = {"kind": "api-key", "name": "partner", "values": {"scopes": "read"}, "starts_in_s": 3600}
    value = client.post("issued", json=asked, headers=admin).json()["value"]
    is_problem(client.get("whoami", headers={"AccessKey": value}), 401, "cred.not_yet_active")
    assert client.get("issued/partner", headers=admin).json()["secrets"][0]["starts"]
    idle.store.write(lambda tx: tx.run("UPDATE issued_secret SET starts_at = 1"))
    answers = [client.get("whoami", headers={"AccessKey": value}) for _ in range(2)]
    assert [answer.json()["state"] for answer in answers] == ["live", "live"]
    assert "keyturn-credential-state" not in answers[0].headers
    second = client.post("issued/partner/reissue", json={"starts_in_s": 60}, headers=admin).json()["value"]
    is_problem(client.get("whoami", headers={"AccessKey": second}), 401, "cred.not_yet_active")
    is_problem(client.post("issued", json={**asked, "starts_in_s": -1}, headers=admin), 422)


# -- issued ------------------------------------------------------------------------------------------------------------


def test_issue_reissue_revoke(client, admin, hub):
    """The value is in one answer; the list never has it."""
    made = client.post(
        "issued",
        json={"kind": "api-key", "name": "partner", "values": {"scopes": "read"}, "owner": "sam"},
        headers=admin,
    )
    assert made.status_code == 201, made.text
    assert made.headers["cache-control"] == "no-store"
    key = made.json()["value"]
    assert client.get("whoami", headers={"AccessKey": key}).status_code == 200
    listed = client.get("issued", headers=admin)
    assert (listed.json()["items"][0]["name"], listed.json()["items"][0]["owner"]) == ("partner", "sam")
    second = client.post("issued/partner/reissue", json={"overlap_s": 3600}, headers=admin).json()
    assert second["value"] != key
    assert second["slot"] == "B"
    for each in (key, second["value"]):
        assert each not in listed.text + client.get("issued/partner", headers=admin).text
    again = client.post("issued/partner/reveal", json={"version": second["version"]}, headers=admin)
    assert again.json()["value"] == second["value"]
    is_problem(client.post("issued/partner/reissue", headers=admin), 409)
    ended = client.post("issued/partner/revoke", json={"slot": "A"}, headers=admin)
    assert ended.status_code == 200, ended.text
    is_problem(client.get("whoami", headers={"AccessKey": key}), 401, "cred.revoked")
    assert client.get("whoami", headers={"AccessKey": second["value"]}).status_code == 200
    is_problem(client.post("connections/partner/rotate", headers=admin), 409)
    is_problem(client.post("issued", json={"kind": "none", "name": "x"}, headers=admin), 404)


# -- audit, definitions, people, hub -----------------------------------------------------------------------------------


def test_audit_search_export_check_verify(client, admin, connect, tmp_path):
    """Found by words, kind and time; taken away whole; a changed export is seen."""
    connect()
    client.patch("connections/orders", json={"owner": "sam"}, headers=admin)
    found = client.get("audit", params={"text": "edited sam", "connection": "orders"}, headers=admin).json()
    assert [line["facts"]["decision"] for line in found["items"]] == ["edited"]
    assert client.get("audit?text=50%25_!x", headers=admin).json()["items"] == []
    first = client.get("audit?limit=1", headers=admin).json()
    second = client.get("audit", params={"limit": 1, "after": first["next"]}, headers=admin).json()
    assert first["items"] != second["items"]
    own = client.get("audit?connection=hub&kind=DECISION", headers=admin).json()["items"]
    assert {line["connection_id"] for line in own} == {"hub"}
    later = client.get("audit?since=2999-01-01T00:00:00Z", headers=admin).json()
    assert later["items"] == []
    assert client.get("audit/check", headers=admin).json() == {"ok": True, "broken": []}
    export = client.get("audit/export", headers=admin)
    assert export.headers["content-type"].startswith("application/jsonl")
    good = client.post("audit/verify", json={"export": export.text}, headers=admin).json()
    assert good["ok"], good
    assert good["lines"] > 3
    bad = client.post(
        "audit/verify", json={"export": export.text.replace("sam", "eve")}, headers=admin
    ).json()
    assert not bad["ok"]
    key = client.get("audit/key", headers=admin).json()["public_key"]
    pinned = client.post(
        "audit/verify", json={"export": export.text, "public_key": key}, headers=admin
    ).json()
    assert pinned["signed"]
    is_problem(client.post("audit/verify", json={"export": "nonsense"}, headers=admin), 422)


def test_definitions(client, admin):
    """Checked without being kept; kept; listed; taken back."""
    from tests.docs.pages import ROOT

    text = next((ROOT / "tests/definitions/samples").glob("*.yaml")).read_text()
    assert client.post("definitions/check", json={"text": text}, headers=admin).json()["usable"]
    bad = client.post("definitions/check", json={"text": "schema: rest-credential/v1"}, headers=admin).json()
    assert not bad["usable"]
    assert bad["findings"][0]["fix"]
    is_problem(client.post("definitions", json={"text": "schema: rest-credential/v1"}, headers=admin), 422)
    added = client.post("definitions", json={"text": text}, headers=admin)
    assert (added.status_code, added.json()["new"]) == (201, True)
    assert client.post("definitions", json={"text": text}, headers=admin).json()["new"] is False
    listed = client.get("definitions", headers=admin).json()["items"]
    assert [d["hash"] for d in listed] == [added.json()["hash"]]
    assert client.delete(f"definitions/{added.json()['hash']}", headers=admin).status_code == 204
    is_problem(client.delete(f"definitions/{added.json()['hash']}", headers=admin), 404)


def test_people_services_and_tokens(client, admin, idle):
    """A service identity and its token, made and ended over the API; a person gets a link."""
    role = [{"role": "viewer", "project": ""}]
    robot = client.post("services", json={"login": "ci", "roles": role}, headers=admin).json()
    made = client.post(
        f"people/{robot['id']}/tokens", json={"name": "x", "scopes": ["read"]}, headers=admin
    ).json()
    headers = {"Authorization": f"Bearer {made['value']}"}
    assert client.get("connections", headers=headers).status_code == 200
    shown = client.get(f"people/{robot['id']}", headers=admin)
    assert shown.json()["tokens"][0]["id"] == made["id"]
    assert made["value"] not in shown.text
    assert client.delete(f"people/{robot['id']}/tokens/{made['id']}", headers=admin).status_code == 204
    is_problem(client.get("connections", headers=headers), 401)
    is_problem(client.delete(f"people/{robot['id']}/tokens/{made['id']}", headers=admin), 404)
    invited = client.post("people", json={"login": "sam", "roles": role}, headers=admin).json()
    assert "/join#" in invited["link"]
    people.accept(idle, invited["link"].partition("#")[2], "plum-orbit-kettle-42")
    changed = client.patch(
        f"people/{invited['id']}", json={"roles": [{"role": "admin"}], "on": True}, headers=admin
    ).json()
    assert changed["roles"] == [{"role": "admin", "project": ""}]
    is_problem(client.patch(f"people/{invited['id']}", json={"on": False}, headers=admin), 409)
    assert client.get("people", headers=admin).json()["items"][0]["login"] == "sam"
    assert client.post(f"people/{invited['id']}/sign-out", headers=admin).status_code == 200
    assert "link" in client.post(f"people/{invited['id']}/link", headers=admin).json()


def test_today_and_doctor(client, admin, connect):
    """What needs somebody, and whether the hub is well."""
    connect()
    today = client.get("today", headers=admin).json()
    assert (today["connections"], today["quiet"]) == (1, True)
    found = client.get("doctor", headers=admin).json()
    assert {check["name"] for check in found["checks"]} >= {"audit trail", "clock", "vault"}


def test_what_is_sent_cannot_trip_the_hub(client, admin, connect):
    """NUL characters, half characters, numbers that are none, unknown names: 422, never 500."""
    connect()
    for body in (
        '{"name": "a\\u0000b"}',
        '{"owner": "\\ud800"}',
        '{"policy": {"max_age_days": NaN}}',
        '{"policy": {"max_age_days": 1e400}}',
        '{"policy": {"max_age_days": "soon"}}',
        '{"unknown": 1}',
        "[]",
        "",
        "{",
    ):
        answer = client.patch(
            "connections/orders", content=body, headers={**admin, "Content-Type": "application/json"}
        )
        is_problem(answer, 422)
    assert client.get("connections/or%00ders", headers=admin).status_code == 422
    assert client.get("connections?text=%00", headers=admin).status_code == 422
    assert client.get("connections/%ff%fe", headers=admin).status_code == 404


def test_jobs_projects_and_sources(client, admin, token, connect, idle):
    """A job is kept untested where nothing can be read; a source names the connection it reads through."""
    connect(project="billing")
    body = {"connection": "orders", "name": "nightly", "schedule": "daily 03:00", "untested": True}
    answer = client.post("jobs", json=body, headers=admin)
    if answer.status_code != 201:  # this vendor's row has no reader
        is_problem(answer, 422)
        assert client.get("jobs?connection=orders", headers=admin).json() == {"items": []}
    else:
        assert client.get("jobs", headers=admin).json()["items"][0]["name"] == "nightly"
        assert client.patch("jobs/nightly", json={"paused": True}, headers=admin).json()["state"] == "paused"
        assert client.get("jobs/nightly", headers=admin).json()["results"] == []
        assert client.delete("jobs/nightly", headers=admin).status_code == 204
    is_problem(client.get("jobs/none", headers=admin), 404)
    label = "billing/orders/daily"
    made = client.post("sources", json={"label": label, "connection": "orders"}, headers=admin)
    assert made.status_code == 201, made.text
    assert client.get("connections/orders", headers=admin).json()["used_by"] == [label]
    found = client.get("projects", headers=admin).json()["items"]
    assert found[0]["objects"][0]["sources"][0]["connection"] == "orders"
    limited = token("admin", "billing")
    other = {"label": "else/orders/daily", "connection": "orders"}
    is_problem(client.post("sources", json=other, headers=limited), 403)
    edited = client.patch("sources", json={"label": label, "reads": "x", "untested": True}, headers=limited)
    assert edited.json()["reads"] == "x"
    assert client.delete(f"sources?label={label}", headers=limited).status_code == 204
    is_problem(client.delete(f"sources?label={label}", headers=admin), 404)
    is_problem(client.delete("projects/none", headers=admin), 404)


def test_a_source_that_cannot_be_kept_leaves_no_project_behind(client, admin, token, connect):
    """Project, object and source are made together or not at all; a project is added by who may add projects."""
    connect(project="billing")
    for label in ("new/orders/" + "x" * 200, "new/\u0007/daily", "bil\u0007ling/orders/daily"):
        is_problem(client.post("sources", json={"label": label, "connection": "orders"}, headers=admin), 422)
    assert client.get("projects", headers=admin).json()["items"] == []
    body = {"label": " new /  big   orders/daily", "connection": "orders"}
    assert client.post("sources", json=body, headers=admin).json()["label"] == "new/big orders/daily"
    is_problem(client.post("sources", json=body, headers=admin), 409)


def test_a_source_is_reauthorized_where_it_is(client, admin, token, connect):
    """One consent for the connection behind it, whose plan names every source; where there is none it says so."""
    connect("grant", "tracker", "billing")
    connect(project="billing")
    for label, connection in (
        ("billing/a/s", "tracker"),
        ("billing/b/s", "tracker"),
        ("billing/c/s", "orders"),
    ):
        made = client.post("sources", json={"label": label, "connection": connection}, headers=admin)
        assert made.status_code == 201, made.text
    call = "sources/reauthorize"
    is_problem(client.post(call, json={"label": "billing/a/s"}, headers=token("viewer", "billing")), 403)
    is_problem(client.post(call, json={"label": "billing/a/s"}, headers=token("operator", "else")), 403)
    is_problem(client.post(call, json={"label": "billing/c/s"}, headers=admin), 422)
    is_problem(client.post(call, json={"label": "billing/x/s"}, headers=admin), 404)
    asked = client.post(
        call, json={"label": "billing/a/s", "reason": "ends"}, headers=token("operator", "billing")
    )
    assert asked.status_code == 202, asked.text
    run = asked.json()
    assert (run["goal"], run["connection"], run["reason"]) == ("reauthorize", "tracker", "ends")
    plan = client.get("connections/tracker/plan/reauthorize", headers=admin).json()
    assert plan["used_by"] == ["billing/a/s", "billing/b/s"]
    is_problem(client.post(call, json={"label": "billing/b/s"}, headers=admin), 409)
