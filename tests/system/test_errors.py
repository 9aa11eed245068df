"""What goes wrong in an object reaches its caller, whole, and nobody else."""

import asyncio
import contextlib
import ctypes
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from runtime import Runtime
from workers import DurableObject
from workers.errors import HostLost, RemoteError

MEGABYTE = 1 << 20


class UnsendableError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Clumsy(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.calls = 0

    def pid(self):
        return os.getpid()

    def count(self):
        self.calls += 1
        return self.calls

    def parse(self, text):
        try:
            return int(text)
        except ValueError as cause:
            raise LookupError(f"no number: {text}") from cause

    async def load(self, path):
        await self.ctx.storage.get("x")
        return await asyncio.to_thread(Path(path).read_text)

    def decode(self, data):
        return data.decode()

    def hold(self, value):
        raise UnsendableError(value)

    def end(self, error):
        raise error("from within")

    def recurse(self):
        return self.recurse()

    def lock(self):
        return threading.Lock()

    def take(self, value):
        return type(value).__name__

    def double(self, array):
        assert array.nbytes == 100 * MEGABYTE
        return array * 2

    def exit(self, code):
        os._exit(code)

    def crash(self):
        ctypes.string_at(0)


@pytest.fixture(scope="module")
def rt(house, tmp_path_factory):
    data = tmp_path_factory.mktemp("errors") / "data"
    with Runtime(objects={"CLUMSY": Clumsy}, data_dir=data, hosts=2) as rt:
        yield rt


@pytest.fixture
def stub(rt, request):
    return rt.env.CLUMSY.getByName(request.node.name)


def test_an_exception_keeps_type_message_causes_and_the_whole_traceback(stub):
    with pytest.raises(LookupError, match="no number: x") as raised:
        stub.parse("x")
    error = raised.value
    assert "ValueError: invalid literal for int() with base 10: 'x'" in error.remote_traceback
    assert "The above exception was the direct cause" in error.remote_traceback
    assert f'File "{__file__}", line ' in error.remote_traceback
    assert "in parse\n    return int(text)" in error.remote_traceback
    assert (error.remote, error.retryable, error.overloaded) == (True, False, False)
    assert error.durable_object_id == error.durableObjectId == str(stub.id)
    assert error.remote_traceback.strip() in str(error.__cause__)


def test_exceptions_with_facts_of_their_own_keep_them(stub):
    with pytest.raises(FileNotFoundError) as missing:
        stub.load("/nothing/here")
    assert (missing.value.errno, missing.value.filename) == (2, "/nothing/here")
    with pytest.raises(UnicodeDecodeError) as undecodable:
        stub.decode(b"ok\xff")
    assert (undecodable.value.object, undecodable.value.start) == (b"ok\xff", 2)


def test_an_exception_that_cannot_travel_says_what_it_was(stub):
    with pytest.raises(RemoteError, match="held") as raised:
        stub.hold("held")
    assert raised.value.type_name.endswith("UnsendableError")
    assert "in hold" in raised.value.remote_traceback


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_an_exception_that_ends_programs_ends_neither_side(stub, error):
    pid = stub.pid()
    with pytest.raises(Exception, match="from within") as raised:
        stub.end(error)
    assert error.__name__ in f"{type(raised.value).__name__} {raised.value}"
    assert stub.pid() == pid


def test_endless_recursion_is_an_error_like_any_other(stub):
    with pytest.raises(RecursionError):
        stub.recurse()
    assert stub.count() == 1


def test_what_cannot_be_sent_is_refused_by_name_on_either_side(stub):
    stub.count()
    with pytest.raises(TypeError, match=r"^lock cannot be sent"):
        stub.take(threading.Lock())
    with pytest.raises(TypeError, match=r"^lock cannot be sent"):
        stub.take([1], value=threading.Lock())
    with pytest.raises(TypeError, match="lock cannot be sent"):
        stub.lock()
    with pytest.raises(TypeError, match=r"cannot be sent.*lock"):
        stub.take.submit([threading.Lock()])
    assert stub.count() == 2  # the object lives on


@pytest.mark.parametrize("submitted", [False, True])
def test_arrays_of_100_megabytes_go_both_ways(stub, submitted):
    array = np.arange(100 * MEGABYTE // 8, dtype=np.float64)
    result = stub.double.submit(array).result(60) if submitted else stub.double(array)
    assert result.nbytes == array.nbytes
    assert np.array_equal(result[:: MEGABYTE // 16], 2 * array[:: MEGABYTE // 16])
    assert result[-1] == 2 * array[-1]


@pytest.mark.parametrize(("method", "args"), [("exit", (7,)), ("crash", ())])
@pytest.mark.parametrize("submitted", [False, True])
def test_a_method_that_ends_its_process_fails_its_callers_and_no_other_host(
    rt, stub, method, args, submitted
):
    pid = stub.pid()
    others = [rt.env.CLUMSY.getByName(f"other{n}") for n in range(20)]
    elsewhere = next(other for other in others if other.pid() != pid)
    before = elsewhere.count()
    call = getattr(stub, method)
    with pytest.raises(HostLost, match=f"{method}.*{stub.id}") as raised:
        call.submit(*args).result(30) if submitted else call(*args)
    assert raised.value.retryable
    assert elsewhere.count() == before + 1  # its memory is what it was
    answered = None
    while answered is None:
        with contextlib.suppress(HostLost):  # sent before the death was known
            answered = stub.pid()
    assert answered != pid


PRINTING = """
import sys
from runtime import Runtime
from workers import DurableObject

class Loud(DurableObject):
    def shout(self):
        print("to standard output")
        print("to standard error", file=sys.stderr)

with Runtime(objects={"LOUD": Loud}, data_dir=sys.argv[1], hosts=1) as rt:
    rt.env.LOUD.getByName("a").shout()
    print("ready")
"""


def test_what_a_method_prints_is_seen_where_the_program_prints(run, house, tmp_path):
    program = run("-c", PRINTING, tmp_path / "data")
    assert program.ended() == 0
    assert program.out.whole() == "to standard output\nready"
    assert program.err.whole() == "to standard error"
