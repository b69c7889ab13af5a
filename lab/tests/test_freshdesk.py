"""Freshdesk's stand-in behaves as its sheet says."""

from collections.abc import Iterator

import httpx2
import pytest

from keyturn_lab import people
from keyturn_lab.standin import running
from keyturn_lab.vendors.freshdesk import STANDIN

AGENT, ADMIN, STANDBY = "integration@acme.example", "admin@acme.example", "standby@acme.example"
NEW_AGENT = {"email": "second@acme.example", "name": "Second", "ticket_scope": 1}


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        lab(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def lab(url: str, what: str, body: object) -> None:
    httpx2.post(f"{url}/_lab/{what}", json=body).raise_for_status()


def call(url: str, key: str, path: str = "agents/me", method: str = "GET", **more: object) -> httpx2.Response:
    return httpx2.request(method, f"{url}/api/v2/{path}", auth=(key, "X"), **more)


def test_key_is_the_user_name(url: str) -> None:
    """The key goes in as user name with any password; swapped, it is refused."""
    key = people.freshdesk_view_key(url, AGENT)
    assert call(url, key).json()["contact"]["email"] == AGENT
    assert httpx2.get(f"{url}/api/v2/agents/me", auth=(key, "anything")).status_code == 200
    swapped = httpx2.get(f"{url}/api/v2/agents/me", auth=("X", key))
    assert swapped.status_code == 401
    assert swapped.json()["code"] == "invalid_credentials"


def test_reset_kills_at_once(url: str) -> None:
    """A reset ends the old key at once, and the vendor's list of live keys shows only the new one."""
    old = people.freshdesk_view_key(url, AGENT)
    new = people.freshdesk_reset_key(url, AGENT)
    assert (call(url, old).status_code, call(url, new).status_code) == (401, 200)
    alive = httpx2.get(f"{url}/_lab/alive").json()
    assert [each["value"] for each in alive if each["owner"] == AGENT] == [new]


def test_agents_keys_are_apart(url: str) -> None:
    """Resetting one agent's key leaves another agent's alone, though both have the same role."""
    first, second = (people.freshdesk_view_key(url, who) for who in (AGENT, STANDBY))
    assert call(url, first).json()["role_ids"] == call(url, second).json()["role_ids"]
    third = people.freshdesk_reset_key(url, STANDBY)
    assert [call(url, key).status_code for key in (first, second, third)] == [200, 401, 200]


def test_new_key_settles() -> None:
    """By default the new key is unknown for a moment after the old one died."""
    with running(STANDIN.create_app()) as url:
        lab(url, "dials", {"settle_s": 60})
        new = people.freshdesk_reset_key(url, AGENT)
        assert call(url, new).status_code == 401
        lab(url, "clock", {"advance_s": 60})
        assert call(url, new).status_code == 200


def test_reset_needs_captcha_and_confirmation(url: str) -> None:
    """Neither the captcha nor the confirmation can be skipped."""
    before = people.freshdesk_view_key(url, AGENT)
    person = people.Browser(url)
    person.post("/support/login", {"email": AGENT, "password": people.DEMO_PASSWORD})
    assert "Captcha" in person.post("/a/profiles/api_key/reset", {"confirm": "yes"})
    person.post("/a/profiles/api_key", {"captcha": people.CAPTCHA})
    with pytest.raises(people.Refused):
        person.post("/a/profiles/api_key/reset", {})
    assert people.freshdesk_view_key(url, AGENT) == before


def test_no_reset_by_api(url: str) -> None:
    """The API has no way to reset a key; such paths are an HTML 404."""
    key = people.freshdesk_view_key(url, ADMIN)
    answer = call(url, key, "agents/me/reset_api_key", "POST")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_tenants_are_apart(url: str) -> None:
    """A key of one account is refused by another, and an unknown sub-domain is an HTML 404."""
    key = people.freshdesk_view_key(url, AGENT)
    assert call(url, key, headers={"Host": "globex.freshdesk.com"}).status_code == 401
    assert call(url, key, headers={"Host": "nobody.freshdesk.com"}).status_code == 404
    other = people.freshdesk_view_key(url, "integration@globex.example", host="globex.freshdesk.com")
    assert call(url, other, headers={"Host": "globex.freshdesk.com"}).status_code == 200
    assert call(f"{url}/tenants/globex", other).status_code == 200
    assert call(f"{url}/tenants/globex", key).status_code == 401


def test_roles(url: str) -> None:
    """Only an administrator lists agents; a plain agent reads its tickets and the helpdesk settings."""
    agent, admin = (people.freshdesk_view_key(url, who) for who in (AGENT, ADMIN))
    assert call(url, agent, "agents").json()["code"] == "access_denied"
    assert {each["contact"]["email"] for each in call(url, admin, "agents").json()} == {AGENT, ADMIN, STANDBY}
    assert call(url, agent, "settings/helpdesk").json()["primary_language"] == "en"
    assert call(url, agent, "tickets").status_code == 200


def test_new_agent_has_no_key_until_activated(url: str) -> None:
    """Creating an agent gives no key; the activation page does."""
    admin = people.freshdesk_view_key(url, ADMIN)
    made = call(url, admin, "agents", "POST", json=NEW_AGENT)
    assert made.status_code == 201
    assert call(url, admin, "agents", "POST", json=NEW_AGENT).json()["errors"][0]["code"] == "duplicate_value"
    with pytest.raises(people.Refused):
        people.freshdesk_view_key(url, NEW_AGENT["email"])
    people.Browser(url).post(f"/register/{made.json()['id']}", {"password": "chosen"})
    key = people.freshdesk_view_key(url, NEW_AGENT["email"], password="chosen")
    assert call(url, key).status_code == 200


@pytest.mark.parametrize("by_api", [True, False])
def test_leaving_ends_the_key(url: str, by_api: bool) -> None:
    """Deleting an agent by API or deactivating it by hand ends its key."""
    key, admin = (people.freshdesk_view_key(url, who) for who in (AGENT, ADMIN))
    agent_id = call(url, key).json()["id"]
    if by_api:
        assert call(url, admin, f"agents/{agent_id}", "DELETE").status_code == 204
    else:
        boss = people.Browser(url)
        boss.post("/support/login", {"email": ADMIN, "password": people.DEMO_PASSWORD})
        boss.post(f"/a/admin/agents/{agent_id}/deactivate", {})
    assert call(url, key).status_code == 401
    assert call(url, admin).status_code == 200


def test_dead_key_locks_the_agent_out(url: str) -> None:
    """Hammering with a dead key locks its owner out, the new key included, until the time is over."""
    lab(url, "settings", {"lockout_after": 3})
    old = people.freshdesk_view_key(url, AGENT)
    new = people.freshdesk_reset_key(url, AGENT)
    assert [call(url, old).status_code for _ in range(4)] == [401, 401, 401, 403]
    assert call(url, new).status_code == 403
    lab(url, "clock", {"advance_s": 301})
    assert call(url, new).status_code == 200


def test_rate_limit_is_shared_by_the_account(url: str) -> None:
    """All keys of an account use up one limit, refused calls included; the three headers count down."""
    lab(url, "settings", {"rate_per_minute": 3})
    agent, admin = (people.freshdesk_view_key(url, who) for who in (AGENT, ADMIN))
    now = httpx2.post(f"{url}/_lab/clock", json={"advance_s": 0}).json()["now"]
    lab(url, "clock", {"advance_s": 61 - now % 60})
    assert call(url, agent).headers["X-RateLimit-Remaining"] == "2"
    assert call(url, "nonsense").headers["X-RateLimit-Total"] == "3"
    assert call(url, admin).headers["X-RateLimit-Used-CurrentRequest"] == "1"
    refused = call(url, admin)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_pages_are_linked(url: str) -> None:
    """A list that has more carries a `Link` to the next page; a silly page size is a 400."""
    key = people.freshdesk_view_key(url, ADMIN)
    first = call(url, key, "agents?per_page=2")
    assert len(first.json()) == 2
    following = httpx2.get(first.links["next"]["url"], auth=(key, "X"))
    assert first.json() != following.json()
    assert "Link" not in following.headers
    assert call(url, key, "agents?per_page=1000").json()["description"] == "Validation failed"


def test_another_identity_on_demand(url: str) -> None:
    """The wrong-identity fault makes a good key answer as somebody else, once."""
    key = people.freshdesk_view_key(url, AGENT)
    lab(url, "faults", [{"op": "agents_me", "kind": "wrong_identity"}])
    assert [call(url, key).json()["contact"]["email"] for _ in range(2)] == [ADMIN, AGENT]


def test_lost_reset_really_happened(url: str) -> None:
    """A reset whose answer is lost has happened: the person finds the new key on the page."""
    old = people.freshdesk_view_key(url, AGENT)
    lab(url, "faults", [{"op": "reset_key", "kind": "answer_lost"}])
    with pytest.raises(OSError, match="closed connection"):
        people.freshdesk_reset_key(url, AGENT)
    assert call(url, old).status_code == 401
    assert call(url, people.freshdesk_view_key(url, AGENT)).status_code == 200
