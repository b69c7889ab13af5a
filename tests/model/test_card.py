"""Grades of proof, identities, places and policies, as tables of cases."""

import itertools

import pytest

from keyturn.errors import InvalidInput
from keyturn.model.card import Card, GapClass, Hands, Proof, Strategy
from keyturn.model.credential import Ref
from keyturn.model.policy import Policy
from keyturn.model.verdict import Verdict, accepted, mismatch, rejected, unknown

CARD = Card(
    Strategy.MANY_IDS,
    Hands.AUTOMATIC,
    GapClass.Z0,
    Proof.D2,
    settle_create_s=3.0,
    settle_revoke_s=4.0,
    call_deadline_s=5.0,
    apply_lag_s=6.0,
)
WEAK_TO_STRONG = (Proof.D0, Proof.DA, Proof.D1, Proof.D2, Proof.D3)


@pytest.mark.parametrize(("have", "wanted"), list(itertools.product(Proof, Proof)))
def test_a_grade_reaches_itself_and_all_weaker_ones(have, wanted):
    """A person's word is worth more than the vendor's acceptance and less than any observation."""
    assert have.reaches(wanted) is (WEAK_TO_STRONG.index(have) >= WEAK_TO_STRONG.index(wanted))


@pytest.mark.parametrize(
    ("pin", "seen", "differ"),
    [
        ({}, {"principal": "anybody"}, ()),
        ({"principal": "a"}, {"principal": "a"}, ()),
        ({"principal": "a"}, {"principal": "b"}, ("principal",)),
        ({"principal": "a"}, {}, ("principal",)),
        ({"principal": "a", "tenant": "t"}, {"principal": "a"}, ("tenant",)),
        ({"principal": "a"}, {"principal": "a", "tenant": "new"}, ()),
        ({"principal": "a", "principal_label": "Ann"}, {"principal": "a", "principal_label": "Bo"}, ()),
        ({"principal": "a", "rights_label": "x y"}, {"principal": "a"}, ()),
        ({"principal": "A"}, {"principal": "a"}, ("principal",)),
        ({"principal": "a", "tenant": "t"}, {"principal": "b", "tenant": "u"}, ("principal", "tenant")),
    ],
)
def test_only_what_was_pinned_is_compared_and_labels_never(pin, seen, differ):
    """What is missing counts as different, what is new does not, and a person may change their name."""
    assert mismatch(pin, seen) == differ


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Ref(id="1"), Ref(id="1"), True),
        (Ref(id="1"), Ref(id="2"), False),
        (Ref(id="1", fingerprint="a"), Ref(id="1", fingerprint="b"), True),
        (Ref(id="1", slot="a"), Ref(id="1", slot="b"), False),
        (Ref(id="1"), Ref(), False),
        (Ref(), Ref(), False),
        (Ref(label="keyturn"), Ref(label="keyturn"), False),
        (Ref(slot="a", fingerprint="f"), Ref(slot="a", fingerprint="f"), True),
        (Ref(slot="a", fingerprint="f"), Ref(slot="a", fingerprint="g"), False),
        (Ref(slot="a", fingerprint="f"), Ref(slot="b", fingerprint="f"), False),
        (Ref(fingerprint="f"), Ref(fingerprint="f"), True),
        (Ref(slot="a"), Ref(id="x", slot="a"), False),
    ],
)
def test_the_same_place_is_told_by_id_then_by_slot_and_fingerprint(one, other, same):
    """Two credentials without any handle are never taken for one."""
    assert one.same_place(other) is same
    assert other.same_place(one) is same


@pytest.mark.parametrize(
    "ref", [Ref(), Ref(id="1"), Ref("1", "a", "f", "l", {"region": "eu"}), Ref(fingerprint="f")]
)
def test_a_place_survives_the_journal(ref):
    """What is stored of a place reads back as the same place, without empty fields."""
    assert Ref.from_json(ref.as_json()) == ref
    assert "" not in ref.as_json().values()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"prof": "D2"}, "prof"),
        ({"proof": "D9"}, "proof"),
        ({"proof": 2}, "proof"),
        ({"drain_min_s": -1}, "drain_min_s"),
        ({"drain_max_s": "long"}, "drain_max_s"),
        ({"soak_s": None}, "soak_s"),
        ({"retention_s": []}, "retention_s"),
        ({"max_age_days": float("-inf")}, "max_age_days"),
    ],
)
def test_a_wrong_policy_is_refused_by_the_name_of_its_key(data, field):
    """The error names the key, so that a form can show it in place."""
    with pytest.raises(InvalidInput) as caught:
        Policy.read(data)
    assert caught.value.facts["field"] == field


def test_an_empty_policy_takes_the_cards_word():
    """What the owner does not say, the card does; what they say wins, zero included."""
    empty, own = (
        Policy.read({}),
        Policy.read(
            {
                "proof": "D1",
                "settle_create_s": 0,
                "settle_revoke_s": 1,
                "call_deadline_s": 2,
                "apply_lag_s": 0,
            }
        ),
    )
    assert (empty.grade(CARD), own.grade(CARD)) == (Proof.D2, Proof.D1)
    assert (empty.settle_create(CARD), empty.settle_revoke(CARD)) == (3.0, 4.0)
    assert (empty.deadline(CARD), empty.lag(CARD)) == (5.0, 6.0)
    assert (own.settle_create(CARD), own.settle_revoke(CARD), own.deadline(CARD), own.lag(CARD)) == (
        0,
        1,
        2,
        0,
    )


@pytest.mark.parametrize(
    ("probe", "verdict", "facts"),
    [
        (
            accepted("ann", tenant="t", site="s"),
            Verdict.ACCEPTED,
            {"verdict": "accepted", "identity": {"principal": "ann", "tenant": "t", "site": "s"}},
        ),
        (rejected("401", "no"), Verdict.REJECTED, {"verdict": "rejected", "code": "401", "detail": "no"}),
        (unknown("timeout", wait_s=3), Verdict.UNKNOWN, {"verdict": "unknown", "code": "timeout"}),
    ],
)
def test_a_probe_tells_the_journal_what_it_saw(probe, verdict, facts):
    """Verdict, identity, code and words; nothing empty."""
    assert probe.verdict is verdict
    assert probe.as_facts() == facts
