"""One object: its constructor, its methods, how events interleave, how many may wait."""

import asyncio
from functools import partialmethod
from operator import attrgetter

import pytest

from tests.stepping import settle, soon
from workers import DurableObject
from workers.errors import ObjectReset, Overloaded, RemoteError, RoostError


class Room(DurableObject):
    """Whatever a test asks of an object."""

    made = 0

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        Room.made += 1
        self.log = []
        self.value = None
        self.gate = asyncio.Event()

    def add(self, *numbers, start=0):
        return sum(numbers, start)

    def remember(self, value):
        self.value = value
        return value

    async def recall(self):
        return self.value

    async def wait(self, name):
        self.log.append(f"{name} waits")
        await self.gate.wait()
        self.log.append(f"{name} goes on")
        return name

    async def read_and_write(self, name):
        self.log.append(f"{name} begins")
        value = await self.ctx.storage.get("n") or 0
        await self.ctx.storage.put("n", value + 1)
        self.log.append(f"{name} ends")
        return value + 1

    async def write_and_wait(self):
        await self.ctx.storage.put("n", 1)
        await self.gate.wait()

    def open(self):
        self.gate.set()

    def read_log(self):
        return self.log

    def fail(self, error):
        raise error

    def look_at(self, *names):
        return attrgetter(".".join(names))(self.ctx)

    def fail_to_look_at(self, name):
        return getattr(self, name)

    def same(self):
        return id(self)

    async def task_name(self):
        return type(asyncio.current_task()).__name__

    def identity(self):
        return str(self.ctx.id), self.ctx.id.name, type(self.env).__name__


@pytest.fixture
async def rooms(house):
    Room.made = 0
    return (await house(ROOMS=Room)).env.ROOMS


# --- methods ---------------------------------------------------------------------------------------


async def test_a_method_plain_or_async_answers_its_caller(rooms):
    room = rooms.getByName("a")
    assert await room.add(1, 2, start=3) == 6
    assert await room.remember([1]) == [1]
    assert await room.recall() == [1]
    assert await room.task_name() == "Task"
    assert await room.identity() == (str(room.id), "a", "Env")


async def test_an_object_is_made_once_by_its_first_event_and_never_by_a_stub(rooms):
    stubs = [rooms.getByName("a") for _ in range(3)]
    assert Room.made == 0
    assert len(set(await asyncio.gather(*(stub.same() for stub in stubs)))) == 1
    assert Room.made == 1
    await rooms.getByName("b").same()
    assert Room.made == 2


async def test_arguments_and_results_are_values_also_within_one_process(rooms):
    room, rows = rooms.getByName("a"), [1]
    got = await room.remember(rows)
    rows.append(2)
    got.append(3)
    assert await room.recall() == [1]


async def test_an_exception_goes_to_its_caller_and_the_instance_lives_on(rooms):
    room = rooms.getByName("a")
    before = await room.same()
    with pytest.raises(LookupError, match="no such row") as raised:
        await room.fail(LookupError("no such row"))
    assert raised.value.remote
    assert raised.value.durable_object_id == str(room.id)
    assert "in fail" in raised.value.remote_traceback
    assert not raised.value.durable_object_reset
    assert await room.same() == before


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_an_exit_in_a_method_ends_neither_host_nor_object(rooms, error):
    room = rooms.getByName("a")
    before = await room.same()
    with pytest.raises(RemoteError, match=type(error).__name__):
        await room.fail(error)
    assert await room.same() == before


async def test_an_error_of_the_engine_that_the_object_lets_through_keeps_its_facts(rooms):
    with pytest.raises(Overloaded) as raised:
        await rooms.getByName("a").fail(Overloaded("too much"))
    assert raised.value.overloaded


async def test_a_result_that_cannot_be_sent_is_a_type_error_and_the_object_lives_on(house):
    class Bad(DurableObject):
        def lock(self):
            return asyncio.get_running_loop()

        def fine(self):
            return 1

    bad = (await house(BAD=Bad)).env.BAD.getByName("a")
    with pytest.raises(TypeError, match="cannot be sent"):
        await bad.lock()
    assert await bad.fine() == 1


class Callable(DurableObject):
    class_value = 5
    hook = partialmethod(lambda self, n: n + 1, 1)

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.attribute = lambda: "no"

    def _private(self):
        return "private"

    def __mangled(self):
        return "no"

    def __call__(self):
        return "no"

    @staticmethod
    def static():
        return "static"

    @classmethod
    def of_class(cls):
        return cls.__name__

    @property
    def computed(self):
        return "no"


class Inherits(Callable):
    pass


async def test_what_is_a_method_can_be_called_wherever_it_was_defined(house):
    stub = (await house(OBJECTS=Inherits)).env.OBJECTS.getByName("a")
    assert await stub._private() == "private"
    assert await stub.static() == "static"
    assert await stub.of_class() == "Inherits"
    assert await stub.hook() == 2


@pytest.mark.parametrize(
    "name",
    [
        "nope",
        "attribute",
        "computed",
        "class_value",
        "mro",
        "register",
        "ctx",
        "env",
        "alarm",
        "storage",
        "__call__",
        "__init__",
        "__class__",
        "__mangled",
        "_Callable",
        "",
    ],
)
async def test_what_is_no_method_is_not_implemented(house, name):
    opened = await house(OBJECTS=Inherits)
    target = opened.env.OBJECTS.getByName("a")._target
    with pytest.raises(TypeError) as raised:
        await opened.caller.call(target, name, (), {})
    assert str(raised.value) == f'The RPC receiver does not implement the method "{name}".'
    assert raised.value.remote
    assert raised.value.durable_object_id == target[1].hex()


async def test_a_class_that_is_not_bound_here_is_named(house):
    opened = await house(ROOMS=Room)
    target = ("Lobby", opened.env.ROOMS.idFromName("a").raw, None)
    with pytest.raises(RoostError, match="no Durable Object class 'Lobby'"):
        await opened.caller.call(target, "add", (), {})


async def test_arguments_that_cannot_be_read_in_the_host_are_a_type_error(rooms):
    class Refuses:
        def __reduce__(self):
            return exit, (1,)

    room = rooms.getByName("a")
    with pytest.raises(TypeError, match=rf"arguments of remember\(\) of Room {room.id} \('a'\)"):
        await room.remember(Refuses())
    assert Room.made == 0


# --- interleaving ----------------------------------------------------------------------------------


async def test_events_start_in_the_order_of_their_calls(rooms):
    room = rooms.getByName("a")
    calls = [room.read_and_write(name) for name in "abcdef"]
    assert await asyncio.gather(*calls) == [1, 2, 3, 4, 5, 6]


async def test_another_event_starts_when_one_waits(rooms):
    room = rooms.getByName("a")
    first, second = room.wait("a"), room.wait("b")
    await settle()
    assert await room.read_log() == ["a waits", "b waits"]
    await room.open()
    assert await asyncio.gather(first, second) == ["a", "b"]
    assert await room.read_log() == ["a waits", "b waits", "a goes on", "b goes on"]


async def test_no_event_starts_while_another_uses_its_storage(rooms):
    room = rooms.getByName("a")
    results = await asyncio.gather(*(room.read_and_write(str(n)) for n in range(50)))
    assert results == list(range(1, 51))
    log = await room.read_log()
    assert [entry.split()[1] for entry in log] == ["begins", "ends"] * 50


async def test_an_object_may_call_itself_and_others(house):
    class Chain(DurableObject):
        async def down(self, n):
            if n == 0:
                return [self.ctx.id.name]
            name = self.ctx.id.name if n % 2 else f"object {n}"
            return [self.ctx.id.name, *await self.env.CHAIN.getByName(name).down(n - 1)]

    chain = (await house(CHAIN=Chain)).env.CHAIN
    expected = ["a", "object 4", "object 4", "object 2", "object 2"]
    assert await soon(chain.getByName("a").down(4)) == expected


async def test_a_cancelled_call_is_cancelled_where_it_waits(rooms):
    room = rooms.getByName("a")
    call = room.wait("a")
    await settle()
    call.cancel()
    await settle()
    await room.open()
    assert await room.read_log() == ["a waits"]


# --- constructors ----------------------------------------------------------------------------------


async def test_a_failed_constructor_fails_its_call_and_the_next_call_tries_again(house):
    class Shy(DurableObject):
        tries = 0

        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            Shy.tries += 1
            if Shy.tries < 3:
                raise LookupError(f"try {Shy.tries}")

        def hello(self):
            return "hello"

    opened = await house(SHY=Shy)
    shy = opened.env.SHY.getByName("a")
    for number in (1, 2):
        with pytest.raises(LookupError, match=f"try {number}") as raised:
            await shy.hello()
        assert raised.value.durable_object_reset
        assert raised.value.durable_object_id == str(shy.id)
        assert raised.value.remote
    assert await shy.hello() == "hello"


async def test_what_a_failed_constructor_wrote_is_void(house):
    class Writer(DurableObject):
        fails = True

        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            if Writer.fails:
                ctx.storage.put("k", 1)
                raise SystemExit("after the write")

        async def read(self):
            return await self.ctx.storage.get("k")

    writer = (await house(WRITER=Writer)).env.WRITER.getByName("a")
    with pytest.raises(RemoteError, match="after the write"):
        await writer.read()
    Writer.fails = False
    assert await writer.read() is None


async def test_calls_that_came_with_one_that_failed_in_the_constructor_run_the_constructor_again(
    house,
):
    class Shy(DurableObject):
        tries = 0

        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            Shy.tries += 1
            if Shy.tries == 1:
                raise LookupError("first")

        def hello(self):
            return Shy.tries

    shy = (await house(SHY=Shy)).env.SHY.getByName("a")
    results = await asyncio.gather(shy.hello(), shy.hello(), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError, int]


async def test_a_constructor_cannot_wait(house):
    class Slow(DurableObject):
        def __new__(cls, ctx, env):
            return asyncio.sleep(10)

        def hello(self):
            return 1

    with pytest.raises(TypeError, match="cannot be asynchronous"):
        await soon((await house(SLOW=Slow)).env.SLOW.getByName("a").hello())


async def test_abort_in_the_constructor_fails_the_call_with_its_reason(house):
    class Gone(DurableObject):
        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            ctx.abort("not today")

        def hello(self):
            return 1

    with pytest.raises(ObjectReset, match=r"^not today$") as raised:
        await (await house(GONE=Gone)).env.GONE.getByName("a").hello()
    assert raised.value.durable_object_reset


# --- how many may wait -----------------------------------------------------------------------------


async def test_an_object_with_too_many_events_answers_at_once_that_it_is_overloaded(house):
    rooms = (await house(ROOMS=Room, mailbox=3)).env.ROOMS
    room = rooms.getByName("a")
    waiting = [room.wait(str(n)) for n in range(3)]
    with pytest.raises(Overloaded) as raised:
        await soon(room.open())
    text = str(raised.value)
    assert text.startswith("Durable Object is overloaded. Too many requests queued.")
    assert f"Room {room.id}" in text
    assert raised.value.overloaded
    assert not raised.value.retryable
    assert raised.value.durable_object_id == str(room.id)
    assert await rooms.getByName("b").add(1) == 1  # no other object is
    waiting.pop().cancel()
    await settle()
    await room.open()
    assert await asyncio.gather(*waiting) == ["0", "1"]


async def test_a_closed_input_gate_lets_so_many_wait_and_no_more(house, disk):
    class Busy(DurableObject):
        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            self.gate = asyncio.Event()
            ctx.blockConcurrencyWhile(self.gate.wait)

        async def hello(self, n):
            return n

    opened = await house(BUSY=Busy, mailbox=3)
    busy = opened.env.BUSY.getByName("a")
    calls = [busy.hello(n) for n in range(5)]
    await settle()
    assert [call.done() for call in calls] == [False, False, False, True, True]
    assert all(isinstance(call.exception(), Overloaded) for call in calls[3:])
    calls[0].cancel()
    await settle()
    late = busy.hello(9)
    await settle()
    assert not late.done()
    opened.activation(busy).instance.gate.set()
    assert await asyncio.gather(*calls[1:3], late) == [1, 2, 9]


async def test_overload_is_answered_at_once_also_while_a_commit_is_under_way(house, disk):
    opened = await house(ROOMS=Room, mailbox=1)
    room = opened.env.ROOMS.getByName("a")
    disk.hold()
    waiting = room.write_and_wait()
    await disk.held()
    assert not opened.activation(room).output.open
    with pytest.raises(Overloaded):
        await soon(room.add(1))
    waiting.cancel()


async def test_a_caller_is_told_what_ctx_has_when_it_has_not_what_the_code_asked_for(house):
    stub = (await house(ROOMS=Room)).env.ROOMS.getByName("a")
    for name in ("getBookmark", "primary"):
        with pytest.raises(AttributeError, match=rf"ctx\.storage\.{name} does not exist.*getAlarm"):
            await stub.look_at("storage", name)
    with pytest.raises(AttributeError, match=r"ctx\.facets does not exist; ctx has id, storage"):
        await stub.look_at("facets")
    with pytest.raises(AttributeError, match=r"^'Room' object has no attribute 'facets'$"):
        await stub.fail_to_look_at("facets")
