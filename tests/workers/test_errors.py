"""Errors carry their facts as attributes, across processes too."""

import pickle
import traceback

import pytest

from workers import errors
from workers.errors import (
    ConfigError,
    DataDirInUse,
    HostLost,
    InvalidId,
    ObjectReset,
    Overloaded,
    RemoteError,
    RoostError,
    attach_remote,
)

ALL = [getattr(errors, name) for name in errors.__all__]
TREE = [kind for kind in ALL if isinstance(kind, type) and issubclass(kind, RoostError)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_survives_pickling_with_all_its_attributes(kind):
    error = kind("it broke")
    error.durable_object_id = "ab" * 32
    error.retryable = True
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "it broke"
    assert vars(copy) == vars(error)


def test_constructor_attributes_survive_pickling():
    error = pickle.loads(
        pickle.dumps(
            RemoteError("no", type_name="shop.Sold", retryable=True, durable_object_id="00")
        )
    )
    assert (error.type_name, error.retryable, error.durable_object_id) == ("shop.Sold", True, "00")
    config = pickle.loads(pickle.dumps(ConfigError("x", file="wrangler.toml", key="main")))
    assert (config.file, config.key) == ("wrangler.toml", "main")
    assert pickle.loads(pickle.dumps(DataDirInUse("x", pid=7))).pid == 7


def test_defaults_say_what_the_caller_may_do():
    assert (ObjectReset("x").retryable, ObjectReset("x").durable_object_reset) == (True, True)
    assert (Overloaded("x").retryable, Overloaded("x").overloaded) == (False, True)
    assert (HostLost("x").retryable, HostLost("x").durable_object_reset) == (True, False)
    assert not ObjectReset("x", retryable=False).retryable
    plain = RoostError("x")
    flags = (plain.retryable, plain.overloaded, plain.remote, plain.durable_object_reset)
    assert flags == (False, False, False, False)
    assert plain.durable_object_id is None


def test_the_original_spellings_read_the_same_attributes():
    error = RoostError("x", durable_object_reset=True, durable_object_id="ab")
    assert (error.durableObjectReset, error.durableObjectId) == (True, "ab")


def test_an_invalid_id_is_a_type_error_and_a_roost_error():
    assert isinstance(InvalidId("x"), TypeError)
    assert isinstance(InvalidId("x"), RoostError)


def test_a_remote_exception_of_any_type_gets_the_attributes():
    error = ValueError("bad")
    attach_remote(error, "Traceback: far away\n", "ab" * 32)
    assert error.remote is True
    assert (error.retryable, error.overloaded, error.durable_object_reset) == (False, False, False)
    assert error.durable_object_id == error.durableObjectId == "ab" * 32
    assert error.remote_traceback == "Traceback: far away\n"


def test_a_remote_exception_keeps_what_it_says_of_itself():
    error = ObjectReset("gone")
    attach_remote(error, "text", "ab")
    assert (error.retryable, error.durableObjectReset, error.durableObjectId) == (True, True, "ab")
    error = KeyError("x")
    error.retryable = True
    attach_remote(error, "text", "ab")
    assert error.retryable is True


def test_a_printed_traceback_shows_the_remote_one_whole():
    error = ValueError("bad")
    attach_remote(error, 'File "room.py", line 3, in score\n', "ab")
    assert 'File "room.py", line 3, in score' in "".join(traceback.format_exception(error))


def test_an_exception_that_refuses_attributes_is_left_as_it_is():
    class Stubborn(Exception):  # noqa: N818
        @property
        def retryable(self):
            raise LookupError("who knows")

        durable_object_reset = retryable

        def __setattr__(self, name, value):
            raise AttributeError(name)

    error = Stubborn("x")
    attach_remote(error, "text", "ab")
    assert not hasattr(error, "remote")
    assert error.__cause__ is None
