"""Who may use a data directory, and when: one instance at a time, of its owner, with any number of hosts."""

import os
import signal
import stat

import pytest

from runtime import Runtime, connect
from runtime.directories import run_directory
from workers import DurableObject
from workers.errors import ConfigError, DataDirInUse, RuntimeClosed

from .conftest import PROGRAMS, ROOST, WRANGLER

SCRIPT = (PROGRAMS / "worker.py").read_text()


class Keeper(DurableObject):
    async def keep(self, value):
        await self.ctx.storage.put("value", value)
        await self.env.KV.put(self.ctx.id.name, value)

    async def kept(self):
        return await self.ctx.storage.get("value"), os.getpid()


def open_at(data, hosts=2, **options):
    return Runtime(objects={"KEEPERS": Keeper}, kv=["KV"], data_dir=data, hosts=hosts, **options)


@pytest.fixture(scope="module")
def used(house, tmp_path_factory):
    with open_at(tmp_path_factory.mktemp("used") / "data", hosts=1) as rt:
        yield rt


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "worker.py").write_text(SCRIPT)
    (tmp_path / "wrangler.toml").write_text(WRANGLER.replace("src/", ""))
    return tmp_path


def refused(run, worker, data):
    """Have the command refuse a data directory; returns its one line."""
    program = run(ROOST, "serve", worker, "--port", "0", "--data-dir", data)
    assert program.ended() == 1
    assert program.out.whole() == ""
    [line] = program.err.whole().splitlines()
    return line


def test_a_data_directory_in_use_is_refused_with_the_pid_of_its_user(used, run, worker):
    data = used._instance.data
    with pytest.raises(DataDirInUse, match="in use") as raised:
        open_at(data)
    assert raised.value.pid == used._instance.process.pid
    assert f"pid {raised.value.pid}" in str(raised.value)
    assert f"(pid {raised.value.pid})" in refused(run, worker, data)
    used.env.KEEPERS.getByName("a").kept()  # it was not disturbed


def test_another_name_of_the_directory_does_not_deceive_it(used, tmp_path):
    (tmp_path / "other").symlink_to(used._instance.data)
    with pytest.raises(DataDirInUse):
        open_at(tmp_path / "other")
    used.env.KEEPERS.getByName("a").kept()


def test_a_data_directory_that_others_can_write_is_refused(house, run, worker, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o770)
    with pytest.raises(PermissionError, match=r"can be written by others.*chmod 700"):
        open_at(data)
    assert "can be written by others" in refused(run, worker, data)
    data.chmod(0o755)
    open_at(data, hosts=1).close()
    data.chmod(0o757)
    with pytest.raises(PermissionError):
        connect(data)


def test_a_file_in_the_place_of_the_data_directory_is_refused(house, run, worker, tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(ConfigError, match="is no directory"):
        open_at(tmp_path / "data")
    assert "Directory" in refused(run, worker, tmp_path / "data")


def test_the_number_of_hosts_may_change_and_nothing_else_does(house, tmp_path):
    names = [f"k{n}" for n in range(40)]
    for hosts in (1, 3, 2):
        with open_at(tmp_path / "data", hosts=hosts) as rt:
            stubs = [rt.env.KEEPERS.getByName(name) for name in names]
            kept = [call.result(30) for call in [stub.kept.submit() for stub in stubs]]
            if hosts > 1:
                assert [value for value, _ in kept] == names
                assert {str(record.id) for record in rt.objects()} == {str(s.id) for s in stubs}
                assert [rt.env.KV.get(name) for name in names] == names
            assert len({pid for _, pid in kept}) == hosts
            for call in [s.keep.submit(name) for s, name in zip(stubs, names, strict=True)]:
                call.result(30)


def test_the_number_of_slots_may_not_change(house, tmp_path):
    open_at(tmp_path / "data", hosts=1, slots=4).close()
    with pytest.raises(ConfigError, match="made with 4 slots"):
        open_at(tmp_path / "data", hosts=1, slots=8)
    with pytest.raises(ConfigError, match="5 hosts need as many slots"):
        open_at(tmp_path / "data", hosts=5)
    open_at(tmp_path / "data", hosts=4).close()


def test_the_next_start_waits_for_the_remains_of_a_killed_instance(house, tmp_path):
    data = tmp_path / "data"
    for _ in range(3):
        rt = open_at(data)
        rt.env.KEEPERS.getByName("a").keep("kept")
        os.kill(rt._instance.process.pid, signal.SIGKILL)
        with open_at(data, hosts=1) as again:  # at once: its hosts may still be dying
            assert again.env.KEEPERS.getByName("a").kept()[0] == "kept"
            rt.close()
            assert run_directory(data).is_dir()
            assert again.env.KEEPERS.getByName("a").kept()[0] == "kept"


def is_private(path, top):
    """Whether a file, or a folder above it, keeps others out."""
    return any(
        stat.S_IMODE(part.lstat().st_mode) & 0o077 == 0
        for part in (path, *path.parents)
        if part.is_relative_to(top) and part != top
    )


def test_nothing_that_an_instance_makes_can_be_read_by_others(house, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)  # the user's own doing
    before = os.umask(0o022)
    try:
        with open_at(data) as rt:
            for n in range(20):
                rt.env.KEEPERS.getByName(f"k{n}").keep("x" * 100_000)
            run = rt._connection.run
            made = [path for path in data.rglob("*") if not is_private(path, data)]
            made += [path for path in run.rglob("*") if not is_private(path, run)]
            assert {"control", "roster", "h0.1"} <= {path.name for path in run.iterdir()}
            assert stat.S_IMODE(run.stat().st_mode) == 0o700
    finally:
        os.umask(before)
    assert [path.name for path in made] == []


def test_there_is_nothing_to_connect_to_where_nothing_runs(house, tmp_path):
    with pytest.raises(RuntimeClosed, match="no Roost runs on"):
        connect(tmp_path)
    open_at(tmp_path / "data", hosts=1).close()
    with pytest.raises(RuntimeClosed, match="no Roost runs on"):
        connect(tmp_path / "data")
