"""Stateless functions on the hosts: run, submit, the Executor; sync and async."""

import asyncio
import os
import signal
from concurrent import futures

import numpy as np
import pytest

from runtime import Runtime, aconnect
from runtime.wire.runs import FUNCTIONS
from workers.errors import HostLost, RuntimeClosed


def square(n):
    return n * n


def refuse(n):
    raise LookupError(f"not {n}")


async def slowly(n):
    await asyncio.sleep(0)
    return n + 1


def die(path):
    """Kill the process at the first call, which a file remembers."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second"
    return os.kill(os.getpid(), signal.SIGKILL)


def test_run_yields_in_the_order_of_the_items(rt):
    assert list(rt.run(square, range(3000))) == [n * n for n in range(3000)]


def test_run_takes_lambdas_closures_and_coroutine_functions(rt):
    base = 100
    assert list(rt.run(lambda n: n + base, range(5))) == [100, 101, 102, 103, 104]
    assert list(rt.run(slowly, range(5))) == [1, 2, 3, 4, 5]


def test_run_uses_all_hosts_and_pickles_the_function_once(rt):
    class Counted:
        pickled = 0

        def __call__(self, _n):
            return os.getpid()

        def __getstate__(self):
            Counted.pickled += 1
            return {}

    pids = set(rt.run(Counted(), range(2000), ordered=False))
    assert pids == {status.pid for status in rt.status()}
    assert Counted.pickled == 1


def test_what_run_stored_is_removed_when_it_ends(rt):
    directory = rt._connection.run / FUNCTIONS
    results = rt.run(square, range(10))
    assert len(list(directory.iterdir())) == 1
    assert next(results) == 0
    results.close()
    assert list(directory.iterdir()) == []


def test_run_hands_errors_over_as_map_does(rt):
    with pytest.raises(LookupError, match="not 0"):
        list(rt.run(refuse, range(3)))
    assert [type(e) for e in rt.run(refuse, range(3), errors="collect")] == [LookupError] * 3
    failed = []
    assert (
        list(rt.run(refuse, [7], errors=lambda item, error: failed.append((item, str(error)))))
        == []
    )
    assert failed == [(7, "not 7")]


def test_run_tries_again_when_a_host_dies(rt, tmp_path):
    assert list(rt.run(die, [str(tmp_path / "mark")])) == ["second"]


def test_submit_returns_a_future(rt):
    future = rt.submit(pow, 2, 10, mod=1000)
    assert isinstance(future, futures.Future)
    assert future.result(10) == 24
    with pytest.raises(LookupError, match="not 1"):
        rt.submit(refuse, 1).result(10)


def test_submit_fails_with_a_retryable_error_when_its_host_dies(rt, tmp_path):
    with pytest.raises(HostLost, match="while it ran a function; call again") as lost:
        rt.submit(die, str(tmp_path / "mark")).result(30)
    assert lost.value.retryable


def test_what_cannot_be_sent_is_refused_at_the_door(rt):
    with pytest.raises(TypeError, match="cannot be sent"):
        rt.submit(square, (n for n in range(3)))
    with pytest.raises(TypeError, match="a function is needed"):
        rt.run(3, [1])
    with pytest.raises(TypeError, match="an iterable"):
        rt.run(square, 3)


def test_the_executor_is_one(rt):
    with rt.executor() as executor:
        assert list(executor.map(square, range(10))) == [n * n for n in range(10)]
        assert list(executor.map(pow, range(10), [2] * 10, chunksize=3)) == [
            n**2 for n in range(10)
        ]
        waiting = [executor.submit(square, n) for n in range(10)]
        done, _ = futures.wait(waiting)
        assert {future.result() for future in done} == {n * n for n in range(10)}
        assert {f.result() for f in futures.as_completed([executor.submit(square, 3)])} == {9}
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    assert rt.submit(square, 4).result(10) == 16


async def test_the_executor_serves_asyncio(rt):
    loop = asyncio.get_running_loop()
    with rt.executor() as executor:
        found = await asyncio.gather(*(loop.run_in_executor(executor, square, n) for n in range(5)))
    assert found == [0, 1, 4, 9, 16]


async def test_an_asyncio_program_has_them_too(rt):
    connected = await aconnect(rt._instance.data)
    try:
        assert [n async for n in connected.run(square, range(100))] == [n * n for n in range(100)]
        assert await connected.submit(square, 12) == 144
    finally:
        await connected.close()


def test_a_large_array_is_mapped_from_shared_memory_and_not_sent(rt, accounts, is_mapped):
    large = np.ones(8 << 20)  # 64 MiB
    assert rt.submit(is_mapped, large).result()
    with rt.executor() as pool:
        assert pool.submit(is_mapped, large).result()
    assert list(rt.run(is_mapped, [large, large])) == [True, True]
    assert dict(accounts.map("is_mapped", [large], key=lambda _: "a")) == {"a": True}
    assert accounts.getByName("a").is_mapped.once("an array", large)


def test_a_large_array_is_sent_as_it_was_at_the_call(rt):
    array = np.ones(1 << 20)
    sums = []
    for _ in range(3):
        sums.append(rt.submit(np.sum, array))
        array += 1
    assert [future.result() for future in sums] == [1 << 20, 2 << 20, 3 << 20]


def test_an_executor_tells_how_many_workers_it_has_as_those_of_the_standard_library_do(rt):
    assert rt.executor()._max_workers == 2


def test_run_after_the_end_says_so(tmp_path):
    with Runtime(data_dir=tmp_path, hosts=1) as ended:
        assert list(ended.run(square, [2])) == [4]
    with pytest.raises(RuntimeClosed, match="the instance has ended"):
        ended.run(square, [2])
