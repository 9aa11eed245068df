"""Classes of an embedding program travel by reference where hosts can import them, else by value."""

import pickle
import pickletools
import sys
import types

import cloudpickle
import pytest

from runtime.client.instance import _pickle, importable
from runtime.client.options import DATA, options
from workers import DurableObject, WorkerEntrypoint
from workers.errors import ConfigError


@pytest.fixture
def module(monkeypatch):
    """A module that only this process has, with a class and a helper."""
    made = types.ModuleType("only_in_this_test")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    source = (
        "from workers import DurableObject\n"
        "def helper():\n    return 'helped'\n"
        "class Room(DurableObject):\n    def help(self):\n        return helper()\n"
    )
    exec(source, made.__dict__)
    return made


def names_in(pickled):
    return {arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, str)}


def test_classes_of_a_module_that_hosts_lack_travel_whole(module, monkeypatch):
    pickled = _pickle({"Room": module.Room}, None)
    monkeypatch.delitem(sys.modules, module.__name__)
    objects, entrypoint = pickle.loads(pickled)
    assert objects["Room"].help(None) == "helped"
    assert entrypoint is None


def test_several_classes_of_a_module_that_hosts_lack_travel_together(module):
    exec("class Hall(Room):\n    pass\n", module.__dict__)
    objects, _ = pickle.loads(_pickle({"Room": module.Room, "Hall": module.Hall}, None))
    assert issubclass(objects["Hall"], objects["Room"])


def test_a_module_that_the_program_registered_to_travel_by_value_stays_so(module):
    cloudpickle.register_pickle_by_value(module)
    try:
        _pickle({"Room": module.Room}, None)
        assert module.__name__ in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_classes_that_hosts_can_import_travel_by_name():
    pickled = _pickle({"DurableObject": DurableObject}, WorkerEntrypoint)
    assert {"workers.durable_object", "workers.entrypoint"} <= names_in(pickled)
    assert len(pickled) < 300


def test_classes_made_in_a_function_travel_whole():
    class Local(DurableObject):
        def hello(self):
            return "hello"

    objects, _ = pickle.loads(_pickle({"Local": Local}, None))
    assert objects["Local"].hello(None) == "hello"


def test_classes_that_cannot_be_sent_are_told(module):
    module.Room.lock = __import__("threading").Lock()
    with pytest.raises(
        TypeError, match=r"classes given to Runtime\(\) cannot be sent to the hosts"
    ):
        _pickle({"Room": module.Room}, None)


@pytest.mark.parametrize(
    ("name", "can_be"),
    [("json.decoder", True), ("sys", True), ("only_in_this_test", False), ("json.nothing", False)],
)
def test_what_a_fresh_process_can_import_is_known(module, name, can_be):
    assert importable(name) is can_be


# --- options ---------------------------------------------------------------------------------------


def asked(worker=None, **given):
    defaults = {
        "objects": None,
        "kv": (),
        "vars": None,
        "entrypoint": None,
        "name": "worker",
        "data_dir": None,
        "hosts": None,
        "env": None,
        "log_level": "warning",
        "settings": {},
    }
    return options(worker, **(defaults | given))


def test_data_stands_beside_the_configuration_or_where_the_program_runs(tmp_path, monkeypatch):
    (tmp_path / "wrangler.toml").write_text('name = "w"\n')
    for worker in (tmp_path, tmp_path / "wrangler.toml", str(tmp_path)):
        assert asked(worker).data == tmp_path / DATA
    monkeypatch.chdir(tmp_path)
    assert asked(objects={"ROOMS": DurableObject}).data == tmp_path / DATA
    assert asked(data_dir=tmp_path / "other").data == tmp_path / "other"


def test_the_number_of_hosts_is_what_was_asked_for_or_configured_or_one_a_core(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("runtime.client.options.os.cpu_count", lambda: 6)
    assert asked().hosts == 6
    assert asked(hosts=3).hosts == 3
    (tmp_path / "wrangler.toml").write_text('name = "w"\n[roost]\nhosts = 2\n')
    assert asked(tmp_path).hosts == 2
    assert asked(tmp_path, hosts=4).hosts == 4


def test_a_worker_and_its_parts_are_not_both_given(tmp_path):
    for parts in ({"objects": {"ROOMS": DurableObject}}, {"kv": ["N"]}, {"settings": {"slots": 4}}):
        with pytest.raises(TypeError, match="takes either a worker's folder or file, or objects="):
            asked(tmp_path, **parts)


def test_settings_are_checked_before_anything_starts():
    with pytest.raises(ConfigError):
        asked(settings={"durability": "maybe"})
    with pytest.raises(ConfigError):
        asked(objects={"not a name": DurableObject})
