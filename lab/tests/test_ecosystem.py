"""The pretended Ecosystems behaves as its settings say; there is no sheet of the real one."""

from collections.abc import Iterator

import httpx2
import pytest

from keyturn_lab.people import Refused
from keyturn_lab.standin import running
from keyturn_lab.vendors.ecosystem import STANDIN, people


@pytest.fixture
def url() -> Iterator[str]:
    with running(STANDIN.create_app()) as address:
        lab(address, "dials", {"settle_s": 0, "latency_s": 0})
        yield address


def lab(url: str, what: str, body: object) -> None:
    httpx2.post(f"{url}/_lab/{what}", json=body).raise_for_status()


def read(url: str, key: str, header: str = "Authorization", prefix: str = "Bearer ") -> httpx2.Response:
    return httpx2.get(f"{url}/v1/value-drivers", headers={header: f"{prefix}{key}"})


def test_one_key_is_reset(url: str) -> None:
    """With one key at a time a new one ends the old, and only the new is alive."""
    old, new = (people.make_key(url, "acme", name) for name in ("a", "b"))
    assert [read(url, key).status_code for key in (old, new)] == [401, 200]
    assert [each["value"] for each in httpx2.get(f"{url}/_lab/alive").json()] == [new]


def test_several_keys_overlap(url: str) -> None:
    """With several, each is ended by itself; the name tells which."""
    lab(url, "settings", {"several_keys": True})
    old, new = (people.make_key(url, "acme", name) for name in ("a", "b"))
    assert [read(url, key).status_code for key in (old, new)] == [200, 200]
    with pytest.raises(Refused):
        people.end_key(url, "acme")
    people.end_key(url, "acme", "a")
    assert [read(url, key).status_code for key in (old, new)] == [401, 200]
    assert people.key_names(url, "acme") == ["b"]


def test_both_edges_lag(url: str) -> None:
    """A new key needs a moment to be known, and an ended one works a moment longer."""
    lab(url, "dials", {"settle_s": 30})
    key = people.make_key(url, "acme", "a")
    assert read(url, key).status_code == 401
    lab(url, "clock", {"advance_s": 30})
    assert read(url, key).json()["account"] == "acme"
    people.end_key(url, "acme")
    assert read(url, key).status_code == 200
    lab(url, "clock", {"advance_s": 30})
    assert read(url, key).status_code == 401


def test_the_shape_can_be_another(url: str) -> None:
    """Header, status of a refusal and the account's name are switches; accounts are apart."""
    key = people.make_key(url, "globex", "a")
    assert read(url, key).json()["account"] == "globex"
    lab(
        url,
        "settings",
        {"header": "X-Api-Key", "prefix": "", "refused_with": 403, "names_account": False},
    )
    assert read(url, key).status_code == 403
    answer = read(url, key, "X-Api-Key", "")
    assert answer.status_code == 200
    assert set(answer.json()) == {"valueDrivers"}


def test_keys_are_for_the_administrator(url: str) -> None:
    """Without signing in nothing is made."""
    stranger = people.Browser(url)
    assert "Password" in stranger.post("/accounts/acme/keys", {"name": "a"})
    assert httpx2.get(f"{url}/_lab/alive").json() == []
