"""The entry classes hold ctx and env, with and without a constructor of the user's."""

import pytest

from workers import DurableObject, WorkerEntrypoint


@pytest.mark.parametrize("base", [DurableObject, WorkerEntrypoint])
def test_ctx_and_env_are_set_by_the_base(base):
    class Plain(base):
        pass

    class Own(base):
        def __init__(self, state, env):
            super().__init__(state, env)
            self.ready = True

    for kind in (Plain, Own):
        instance = kind("ctx", "env")
        assert (instance.ctx, instance.env) == ("ctx", "env")


def test_the_base_has_no_handlers_so_that_a_missing_one_is_noticed():
    for base in (DurableObject, WorkerEntrypoint):
        assert not [name for name in dir(base) if not name.startswith("_")]
