"""How often a credential may call, and what every answer says about it."""

import pytest
from tests.api.test_door import is_problem

from keyturn.api.limits import Limits


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_bucket_lets_in_its_quota_and_then_one_at_a_time():
    """Sixty at once, then one a second: never a double burst at the edge of a window."""
    clock = Clock()
    limits = Limits(clock)
    assert [limits.take("a", "", 60).wait_s for _ in range(61)] == [0] * 60 + [1]
    clock.now += 0.5
    assert limits.take("a", "", 60).wait_s == 1
    clock.now += 0.5
    assert [limits.take("a", "", 60).wait_s for _ in range(2)] == [0, 1]
    clock.now += 59.0
    assert sum(limits.take("a", "", 60).wait_s == 0 for _ in range(100)) == 59
    assert limits.take("b", "", 60).wait_s == 0


def test_a_refused_call_costs_nothing():
    """Whoever keeps knocking gets in as soon as whoever waits."""
    clock = Clock()
    limits = Limits(clock)
    for _ in range(1000):
        limits.take("a", "", 2)
    clock.now += 30
    assert limits.take("a", "", 2).wait_s == 0


def test_headers():
    """What is left and when the bucket is full again."""
    clock = Clock()
    limits = Limits(clock)
    first = limits.take("a", "events:write", None, 400)
    assert first.headers == {
        "RateLimit-Policy": '"events";q=1000;w=60',
        "RateLimit": '"events";r=600;t=24',
    }
    full = limits.take("a", "events:write", None, 601)
    assert full.headers["RateLimit"] == '"events";r=600;t=24'
    assert full.headers["Retry-After"] == str(full.wait_s)
    assert limits.take("a", "", 0).headers == {}


def test_memory_is_bounded():
    """The oldest buckets are forgotten."""
    limits = Limits()
    for n in range(12_000):
        limits.take(str(n), "", None)
    assert len(limits._full_at) <= 10_000


def test_over_http(client, key):
    """429 as a problem, with the wait; another credential notices nothing."""
    headers = key(rate_per_minute="3")
    answers = [client.get("/api/v1/whoami", headers=headers) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["ratelimit"] for a in answers[:2]] == ['"own";r=2;t=20', '"own";r=1;t=40']
    assert answers[0].headers["ratelimit-policy"] == '"own";q=3;w=60'
    assert is_problem(answers[3], 429, "rate.limited").headers["retry-after"] == "20"
    assert client.get("/api/v1/whoami", headers=key(name="other")).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/connections", "/api/v1/events/refused"])
def test_every_answer_says_it(client, key, path):
    """Those of the framework's handlers too."""
    answer = client.get(path, headers=key())
    assert answer.headers["ratelimit-policy"] == '"default";q=600;w=60'
    assert "keyturn-credential-state" not in answer.headers, (
        "there is nothing to say about one that is in force"
    )
