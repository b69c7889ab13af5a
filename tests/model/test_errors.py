"""Every error we raise: survives pickling with all its fields, and shows nothing it was not given."""

import inspect
import pickle

import pytest

from keyturn import errors
from keyturn.errors import KeyturnError, Retry, unexpected

EVERY = sorted(
    (each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, KeyturnError)),
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_survives_pickling_with_all_fields(kind, protocol):
    """A worker process can hand it on."""
    error = kind("what happened", hint="what to do", field="host", wait_s=2.5, more={"a": [1, None]})
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert (again.message, again.hint, dict(again.facts)) == (error.message, error.hint, dict(error.facts))
    assert (str(again), again.retry, again.exit_code) == ("what happened", kind.retry, kind.exit_code)


@pytest.mark.parametrize("kind", EVERY)
def test_it_says_what_it_means_and_what_the_engine_does(kind):
    """A docstring for the page of errors, a retry class and an exit code that the faces know; no 'Error' in its name."""
    assert kind.__doc__
    assert kind.retry in Retry
    assert kind.exit_code in {1, 2}
    assert kind is KeyturnError or not kind.__name__.endswith("Error")


def test_only_what_promises_that_nothing_changed_is_retried_blindly():
    """Retry.LATER repeats the same call; anything less certain looks first."""
    assert {e.__name__ for e in EVERY if e.retry is Retry.LATER} == {
        "StoreUnavailable",
        "VendorThrottled",
        "VendorUnavailable",
    }
    assert {e.__name__ for e in EVERY if e.retry is Retry.LOOK} == {"OutcomeUnknown", "UnexpectedAnswer"}


def test_of_a_foreign_exception_only_the_type_is_told():
    """Its text may hold a request, headers included."""
    assert unexpected(ValueError("token=ktlab")) == "internal error (ValueError)"
    assert unexpected(errors.Conflict("busy")) == "busy"
