"""Makes a row do everything its capabilities say, as a hub would over the years, so that every call is sent at least once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from keyturn.errors import KeyturnError, PermissionMissing
from keyturn.model.verdict import Verdict
from keyturn.testing import RowUnderTest


def everything(row: RowUnderTest) -> None:
    """One of each, in an order in which all can succeed; the credential and then the account are ended last."""
    can, access = row.can, row.access
    _looks(row)
    made = row.stage()
    row.becomes(made.material, Verdict.ACCEPTED)
    if can.disabler is not None:
        can.disabler.disable(access, made.ref)
        can.disabler.enable(access, made.ref)
    if can.authorizer is not None:
        can.authorizer.read(access, can.authorizer.refresh(access, made.material), made.material)
    if can.revoker is not None:
        for _ in range(2):  # the second time it is gone, which some rows look up
            can.revoker.revoke(access, made.ref, made.material)
    _by_itself(row)
    if can.dropper is not None and access.admin is not None:
        if can.revoker is not None and can.locator is not None:
            can.revoker.revoke(access, can.locator.locate(access, row.good), row.good)
        with suppress(PermissionMissing):  # few administrators of the lab may
            can.dropper.drop(access)


def _looks(row: RowUnderTest) -> None:
    """What changes nothing."""
    can, access = row.can, row.access
    assert row.verify(row.good).verdict is Verdict.ACCEPTED
    assert row.verify(can.verifier.bogus(row.good)).verdict is Verdict.REJECTED
    if can.lister is not None:
        can.lister.list(access)
    if can.locator is not None:
        can.locator.locate(access, row.good)
    if can.discoverer is not None:
        can.discoverer.discover(access)
    if can.reader is not None and row.reads is not None:
        for what in (row.reads.what, *row.reads.more):
            can.reader.read_sample(access, row.good, what, 5)


def _by_itself(row: RowUnderTest) -> None:
    """The same without the administrator, where the credential has the rights or is told that it lacks them."""
    if row.access.admin is None or row.can.authorizer is not None:
        return
    alone = replace(row.access, admin=None, acting=row.good)
    for look in (row.can.lister and row.can.lister.list, row.can.discoverer and row.can.discoverer.discover):
        with suppress(KeyturnError):
            if look:
                look(alone)
