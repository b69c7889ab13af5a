"""Accounts, sessions, codes and tokens, without any page."""

import time
from dataclasses import replace

import pyotp
import pytest
from tests.web.conftest import LOCAL, PASSWORD

from keyturn.errors import Conflict, InvalidInput, NotFound, NotPermitted
from keyturn.operations import audit, events, factors, passwords, people, sessions
from keyturn.operations.rights import Role


def decisions(hub):
    return [line.facts["decision"] for line in reversed(events.latest(hub))]


def test_the_setup_link_works_once(idle):
    """It makes the first administrator; a second use, and any link later, is refused and on record."""
    code = people.setup_code(idle).reveal()
    made = people.set_up(idle, code, "Ada@Example.com ", "Ada", PASSWORD, address="192.0.2.1")
    assert made.login == "ada@example.com"
    assert people.get(idle, made.id).held == (("admin", "", "local"),)
    assert people.setup_code(idle) is None
    with pytest.raises(NotPermitted):
        people.set_up(idle, code, "eve", "", PASSWORD)
    assert decisions(idle) == ["hub_set_up", "link_refused"]
    assert events.latest(idle)[-1].facts["from"] == "192.0.2.1"


def test_a_new_setup_link_voids_the_old_one(idle):
    """Whoever starts the hub again has the only link that works."""
    first, second = people.setup_code(idle).reveal(), people.setup_code(idle).reveal()
    with pytest.raises(NotPermitted):
        people.set_up(idle, first, "eve", "", PASSWORD)
    people.set_up(idle, second, "ada", "", PASSWORD)


@pytest.mark.parametrize(
    "bad", ["short-one-1", "aaaaaaaaaaaaaaaa", "password1234", "ada-ada-ada-", "x" * 300]
)
def test_weak_passwords_are_refused(bad):
    """By length and by being easy to guess, not by classes of characters."""
    with pytest.raises(InvalidInput):
        passwords.check(bad, "ada@example.com")


def test_the_database_has_no_password_session_or_link(idle, person):
    """Only hashes and keyed digests."""
    account = person()
    signed = sessions.sign_in(idle, account.login, PASSWORD)
    rows = idle.store.read(
        lambda tx: [tx.all(f"SELECT * FROM {t}") for t in ("account", "session", "invitation", "journal")]
    )
    assert account.password.startswith("$argon2id$")
    for secret in (PASSWORD, signed.value):
        assert secret not in repr(rows)


def test_wrong_name_and_wrong_password_look_alike(idle, person):
    """The same words; what was typed as a name is not put on record when nobody has it."""
    account = person()
    said = []
    for login in (account.login, "my-secret-typed-wrongly"):
        with pytest.raises(NotPermitted) as caught:
            sessions.sign_in(idle, login, "wrong-wrong-wrong")
        said.append((caught.value.message, caught.value.hint))
    assert said[0] == said[1]
    lines = [line.facts for line in events.latest(idle) if line.facts["decision"] == "sign_in_refused"]
    assert {line["by"] for line in lines} == {account.login, "(unknown)"}
    assert "typed-wrongly" not in repr(lines)


def test_guessing_is_slowed_down(idle, person):
    """After five failures the right password waits too, from there; from elsewhere it does not."""
    account = person()
    for _ in range(5):
        with pytest.raises(NotPermitted):
            sessions.sign_in(idle, account.login, "wrong-wrong-wrong", address="198.51.100.1")
    with pytest.raises(NotPermitted) as caught:
        sessions.sign_in(idle, account.login, PASSWORD, address="198.51.100.1")
    assert 0 < caught.value.facts["wait_s"] <= 5
    assert sessions.sign_in(idle, account.login, PASSWORD, address="203.0.113.9").value


def test_one_address_cannot_try_many_names(idle):
    """Thirty failures over all names; an IPv6 network counts as one."""
    for n in range(30):
        with pytest.raises(NotPermitted):
            sessions.sign_in(idle, f"name{n}", "wrong-wrong-wrong", address=f"2001:db8::{n:x}")
    with pytest.raises(NotPermitted) as caught:
        sessions.sign_in(idle, "another", "wrong-wrong-wrong", address="2001:db8::ffff")
    assert caught.value.facts["wait_s"] > 0


def test_a_session_ends(idle, person, monkeypatch):
    """When it is idle for too long, and in any case after its longest time."""
    account = person()
    value = sessions.sign_in(idle, account.login, PASSWORD).value
    now = time.time()
    assert sessions.who(idle, value)[0].login == account.login
    clock = {"at": now + sessions.IDLE_S - 60}
    monkeypatch.setattr(time, "time", lambda: clock["at"])
    assert sessions.who(idle, value)
    clock["at"] += sessions.IDLE_S + 1
    assert sessions.who(idle, value) is None
    clock["at"] = now
    value = sessions.sign_in(idle, account.login, PASSWORD).value
    while clock["at"] < now + sessions.LONGEST_S - 3600:
        clock["at"] += 3600
        assert sessions.who(idle, value)
    clock["at"] = now + sessions.LONGEST_S + 1
    assert sessions.who(idle, value) is None


def test_sign_out_and_sign_out_everywhere(idle, person):
    """At once, here or on all devices."""
    account = person()
    first, second, third = (sessions.sign_in(idle, account.login, PASSWORD).value for _ in range(3))
    sessions.sign_out(idle, first, by=account.login)
    assert sessions.who(idle, first) is None
    assert len(sessions.of(idle, account.id)) == 2
    keep = sessions.digest(idle, third)
    assert sessions.sign_out_everywhere(idle, account.id, by=account.login, but=keep) == 1
    assert sessions.who(idle, second) is None
    assert sessions.who(idle, third)


def test_a_second_factor(idle, person):
    """The password alone opens nothing; a code works once; a recovery code works once."""
    account = person()
    offer = factors.offer(idle, account)
    totp = pyotp.TOTP(offer.secret)
    with pytest.raises(InvalidInput):
        factors.confirm(idle, account, "000000" if totp.now() != "000000" else "111111")
    codes = factors.confirm(idle, account, totp.now())
    assert len(set(codes)) == 10
    half = sessions.sign_in(idle, account.login, PASSWORD)
    assert half.needs_code
    assert sessions.who(idle, half.value) is None
    with pytest.raises(NotPermitted):
        sessions.finish(idle, half.value, totp.now())  # its step was used to confirm
    whole = sessions.finish(idle, half.value, totp.at(time.time() + 30))
    assert sessions.who(idle, whole.value)
    assert whole.value != half.value
    again = sessions.sign_in(idle, account.login, PASSWORD)
    with pytest.raises(NotPermitted):
        sessions.finish(idle, again.value, totp.at(time.time() + 30))
    assert sessions.who(idle, sessions.finish(idle, again.value, codes[0].upper()).value)
    last = sessions.sign_in(idle, account.login, PASSWORD)
    with pytest.raises(NotPermitted):
        sessions.finish(idle, last.value, codes[0])
    rows = idle.store.read(
        lambda tx: (tx.all("SELECT * FROM recovery_code"), tx.all("SELECT * FROM account"))
    )
    assert codes[1] not in repr(rows)
    assert offer.secret not in repr(rows)


def test_codes_cannot_be_guessed_on(idle, person):
    """Wrong codes count as failures."""
    account = person()
    factors.confirm(idle, account, pyotp.TOTP(factors.offer(idle, account).secret).now())
    half = sessions.sign_in(idle, account.login, PASSWORD)
    for _ in range(5):
        with pytest.raises(NotPermitted):
            sessions.finish(idle, half.value, "zzzz-zzzz-zzzz")
    with pytest.raises(NotPermitted) as caught:
        sessions.finish(idle, half.value, "zzzz-zzzz-zzzz")
    assert caught.value.facts["wait_s"] > 0


def test_a_new_link_ends_what_was_before(idle, person):
    """Sessions, authenticator and the old password; the new password works."""
    account = person()
    factors.confirm(idle, account, pyotp.TOTP(factors.offer(idle, account).secret).now())
    value = sessions.finish(
        idle,
        sessions.sign_in(idle, account.login, PASSWORD).value,
        factors.renew_codes(idle, people.get(idle, account.id).account)[0],
    ).value
    link = people.invite_again(idle, LOCAL, account.id)
    people.accept(idle, link.code.reveal(), "another-long-one-77")
    assert sessions.who(idle, value) is None
    assert not sessions.sign_in(idle, account.login, "another-long-one-77").needs_code
    with pytest.raises(NotPermitted):
        people.accept(idle, link.code.reveal(), PASSWORD)


def test_the_last_administrator_stays(idle, person):
    """Neither switched off nor made something else."""
    ada, ben = person(), person(Role.VIEWER)
    for attempt in (
        lambda: people.switch(idle, LOCAL, ada.id, on=False),
        lambda: people.set_roles(idle, LOCAL, ada.id, [("viewer", "")]),
        lambda: people.set_roles(idle, LOCAL, ada.id, [("admin", "billing")]),
    ):
        with pytest.raises(Conflict):
            attempt()
    assert people.get(idle, ada.id).account.disabled_at is None
    people.set_roles(idle, LOCAL, ben.id, [("admin", "")])
    people.switch(idle, LOCAL, ada.id, on=False)


def test_somebody_switched_off_is_out_at_once(idle, person):
    """Their session ends, and the next sign-in is refused like a wrong password."""
    person()
    ben = person(Role.OPERATOR)
    value = sessions.sign_in(idle, ben.login, PASSWORD).value
    people.switch(idle, LOCAL, ben.id, on=False)
    assert sessions.who(idle, value) is None
    with pytest.raises(NotPermitted):
        sessions.sign_in(idle, ben.login, PASSWORD)


def test_a_password_change_needs_the_old_one_and_ends_other_sessions(idle, person):
    account = person()
    mine, other = (sessions.sign_in(idle, account.login, PASSWORD).value for _ in range(2))
    who = sessions.who(idle, mine)[0]
    with pytest.raises(NotPermitted):
        people.change_password(idle, who, "wrong-wrong-wrong", "another-long-one-77")
    people.change_password(idle, who, PASSWORD, "another-long-one-77", keep=sessions.digest(idle, mine))
    assert sessions.who(idle, mine)
    assert sessions.who(idle, other) is None


def test_tokens_of_a_service_identity(idle, person):
    """Limited by scopes and roles; ended, expired or with its identity switched off it opens nothing."""
    person()
    robot = people.add_service(idle, LOCAL, "nightly", "Nightly job", [("operator", "")])
    made, value = people.make_token(idle, LOCAL, robot.id, "cron", ["read", "operate"])
    who = people.by_token(idle, value.reveal(), "192.0.2.7")
    assert (who.login, who.scopes) == ("nightly", {"read", "operate"})
    assert people.get(idle, robot.id).tokens[0].used_from == "192.0.2.7"
    assert value.reveal() not in repr(idle.store.read(lambda tx: tx.all("SELECT * FROM api_token")))
    assert people.by_token(idle, value.reveal()[:-1]) is None
    people.switch(idle, LOCAL, robot.id, on=False)
    assert people.by_token(idle, value.reveal()) is None
    people.switch(idle, LOCAL, robot.id, on=True)
    people.end_token(idle, LOCAL, robot.id, made.id)
    assert people.by_token(idle, value.reveal()) is None
    with pytest.raises(NotFound):
        people.end_token(idle, LOCAL, robot.id, made.id)
    with pytest.raises(InvalidInput):
        people.make_token(idle, LOCAL, robot.id, "x", ["everything"])


def test_persons_have_no_tokens_and_robots_no_password(idle, person):
    ada = person()
    with pytest.raises(Conflict):
        people.make_token(idle, LOCAL, ada.id, "x", ["read"])
    robot = people.add_service(idle, LOCAL, "nightly", "", [("viewer", "")])
    with pytest.raises(NotPermitted):
        sessions.sign_in(idle, "nightly", "")
    with pytest.raises(Conflict):
        people.invite_again(idle, LOCAL, robot.id)


def test_the_hubs_own_chain_is_part_of_the_audit(idle, person, tmp_path):
    """It is exported, signed and verified like any other; a changed line is found."""
    person()
    assert audit.check(idle) == []
    people.add_service(idle, LOCAL, "nightly", "", [("viewer", "")])
    exported = audit.export(idle, tmp_path / "audit.jsonl")
    assert exported.lines == 3
    assert audit.verify(tmp_path / "audit.jsonl").is_whole
    idle.store.write(
        lambda tx: tx.run("UPDATE journal SET facts = '{}' WHERE connection_id = 'hub' AND number = 2")
    )
    assert "the hub line 2 does not follow" in audit.check(idle)


def test_an_unknown_role_in_a_row_gives_nothing(idle, person):
    account = person(Role.VIEWER)
    idle.store.write(lambda tx: tx.run("UPDATE held_role SET role = 'emperor'"))
    assert sessions.as_who(idle, replace(account)).held == ()
