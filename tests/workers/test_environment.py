"""Module-level `env` and `wait_until` act for whichever event is running."""

import asyncio
import copy
import pickle
import warnings
from types import SimpleNamespace

import pytest

import workers
from workers import env, patch_env, wait_until
from workers.current import current_event, default_env, set_default_env


class FakeEvent:
    def __init__(self, **bindings):
        self.env = SimpleNamespace(**bindings)
        self.kept = []

    def wait_until(self, awaitable):
        self.kept.append(awaitable)

    def confirm(self):
        return None


@pytest.fixture
def default():
    before = default_env()
    set_default_env(SimpleNamespace(COLOR="default", ONLY="default"))
    yield
    set_default_env(before)


@pytest.fixture
def event():
    event = FakeEvent(COLOR="event")
    token = current_event.set(event)
    yield event
    current_event.reset(token)


def test_outside_of_events_the_default_env_is_read(default):
    assert env.COLOR == "default"


def test_inside_an_event_its_env_is_read_and_nothing_else(default, event):
    assert env.COLOR == "event"
    assert not hasattr(env, "ONLY")


def test_patches_win_nest_and_end(default, event):
    with patch_env(COLOR="patched", EXTRA=1):
        assert (env.COLOR, env.EXTRA) == ("patched", 1)
        with patch_env({"COLOR": "inner"}):
            assert (env.COLOR, env.EXTRA) == ("inner", 1)
        with patch_env([("COLOR", "pairs")], EXTRA=2):
            assert (env.COLOR, env.EXTRA) == ("pairs", 2)
        assert env.COLOR == "patched"
        assert dir(env) == ["COLOR", "EXTRA"]
    assert env.COLOR == "event"


async def test_a_patch_is_seen_by_its_own_tasks_only(default):
    async def read():
        await asyncio.sleep(0)
        return env.COLOR

    outside = asyncio.create_task(read())
    with patch_env(COLOR="patched"):
        inside = asyncio.create_task(read())
    assert [await outside, await inside] == ["default", "patched"]


def test_a_missing_binding_says_how_to_declare_it(event):
    with pytest.raises(AttributeError) as caught:
        _ = env.SETTINGS
    message = str(caught.value)
    assert "env has no binding 'SETTINGS' (it has: COLOR)" in message
    assert 'kv_namespaces = [{ binding = "SETTINGS"' in message
    assert 'bindings = [{ name = "SETTINGS", class_name = "..." }]' in message
    assert "[vars]" in message
    assert "wrangler.toml" in message


def test_without_a_worker_the_error_says_so():
    with pytest.raises(AttributeError, match=r"outside of a running worker.*patch_env"):
        _ = env.SETTINGS


def test_bindings_cannot_be_set(default):
    with pytest.raises(AttributeError, match=r"declared in wrangler\.toml.*patch_env\(COLOR"):
        env.COLOR = "mine"


def test_env_is_one_object_also_when_copied_or_pickled():
    assert copy.copy(env) is env
    assert pickle.loads(pickle.dumps(env)) is env
    assert workers.env is env


async def test_wait_until_hands_the_awaitable_to_the_event(event):
    future = asyncio.get_running_loop().create_future()
    wait_until(future)
    workers.waitUntil(future)
    assert event.kept == [future, future]


def test_wait_until_outside_of_an_event_is_an_error_and_leaves_no_warning():
    async def work():
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="outside of an event"):
            wait_until(work())
