"""Ending an issued credential takes two commits; whoever dies between them asks again."""

import pytest
from tests.waiting import wait_for

from keyturn import boundary
from keyturn.errors import Conflict
from keyturn.executor.executor import Executor
from keyturn.model.credential import ConnectionState
from keyturn.model.plan import Goal
from keyturn.model.run import RunState
from keyturn.operations import connections, issued, runs


@pytest.fixture
def reissued(idle, book):
    """Two keys in their overlap, the old one and the new one, and the run."""
    old = issued.issue(idle, "api-key", "crm", {"scopes": "read"}).value.reveal()
    handed = issued.reissue(idle, "crm", 3600)
    new = handed.value.reveal()
    book.check(new)
    return old, new, handed.run


def cut_off(hub, *how):
    """A revocation that dies right after its first commit."""

    def die(place):
        if place == "commit:after":
            raise KeyboardInterrupt

    boundary.listen(die)
    try:
        with pytest.raises(KeyboardInterrupt):
            issued.revoke(hub, "crm", *how)
    finally:
        boundary.listen(None)


def finish(hub, run):
    def ended():
        Executor(hub.hub).advance(run.id)
        return runs.get(hub, run.id).ended_at

    wait_for(ended)
    return runs.get(hub, run.id)


def test_ending_the_new_one_again_turns_the_rotation_around(idle, book, reissued):
    """The new key is refused since the first commit; without the second one the run would wait for its use for ever."""
    old, new, run = reissued
    cut_off(idle, "B")
    assert not book.look(new).accepted
    assert runs.get(idle, run.id).track.value == "forward"
    assert issued.revoke(idle, "crm", "B").id == run.id
    assert finish(idle, run).state is RunState.ABORTED_CLEAN
    assert book.look(old).accepted
    with pytest.raises(Conflict):
        issued.revoke(idle, "crm", "B")


def test_ending_all_again_marks_the_credential_ended(idle, book, reissued):
    """Both keys are refused since the first commit; the second call ends the run and says so of the credential."""
    old, new, run = reissued
    cut_off(idle)
    assert not book.look(old).accepted
    assert not book.look(new).accepted
    last = issued.revoke(idle, "crm")
    assert last.goal is Goal.REVOKE
    assert issued.revoke(idle, "crm").id == last.id
    assert finish(idle, last).state is RunState.COMPLETE
    assert runs.get(idle, run.id).state is RunState.ABORTED_CLEAN
    assert connections.find(idle, "crm").state is ConnectionState.REVOKED
