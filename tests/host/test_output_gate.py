"""What an object says after a write waits until the write is durable, and is never said if it fails."""

import asyncio

import pytest

from runtime.ids import slot_of
from runtime.wire.caller import Caller
from tests.stepping import settle, soon, until
from workers import DurableObject, Request, Response
from workers.errors import ObjectReset, StorageError
from workers.fetch import fetch


class Ledger(DurableObject):
    """Writes, and then says something in every way there is."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.heard = []

    async def put(self, key, value):
        await self.ctx.storage.put(key, value)
        return value

    async def get(self, key):
        return await self.ctx.storage.get(key)

    def peek(self):
        return "peeked"

    async def put_and_fail(self, key):
        await self.ctx.storage.put(key, 1)
        raise LookupError("after the write")

    async def write_unconfirmed(self, method, *args):
        storage = self.ctx.storage
        await getattr(storage, method)(*args, allowUnconfirmed=True)
        return "written"

    async def put_both(self):
        await self.ctx.storage.put("quick", 1, {"allow_unconfirmed": True})
        await self.ctx.storage.put("k", 1)
        return "both"

    async def put_unconfirmed_and_sync(self):
        await self.ctx.storage.put({"k": 1, "l": 2}, allow_unconfirmed=True)
        await self.ctx.storage.sync()
        return "durable"

    async def sync(self):
        await self.ctx.storage.sync()

    async def put_unconfirmed_and_begin(self):
        await self.ctx.storage.put("k", 1, allow_unconfirmed=True)

        async def fail(txn):
            await txn.put("k", 2)
            raise LookupError

        try:
            await self.ctx.storage.transaction(fail)
        except LookupError:
            return await self.ctx.storage.get("k")

    async def alarm(self):
        pass

    async def put_many(self, key):
        await self.ctx.storage.put(key, 1)
        return [1, {"a": bytearray(100_000)}]

    async def put_and_call(self, name, *texts):
        await self.ctx.storage.put("k", 1)
        other = self.env.LEDGERS.getByName(name)
        return await asyncio.gather(*(other.hear(text) for text in texts))

    async def call_around_a_put(self, name):
        other = self.env.LEDGERS.getByName(name)
        calls = [other.hear("before")]
        await self.ctx.storage.put("k", 1)
        calls += [other.hear("after"), other.hear("later")]
        return await asyncio.gather(*calls)

    async def put_and_give_up_calling(self, name):
        await self.ctx.storage.put("k", 1)
        call = self.env.LEDGERS.getByName(name).hear("never")
        call.cancel()
        return "gave up"

    async def put_and_use_kv(self, operation):
        await self.ctx.storage.put("k", 1)
        if operation == "put":
            await self.env.NOTES.put("note", "text")
        else:
            await self.env.NOTES.delete("old")

    async def put_and_fetch(self, seen):
        await self.ctx.storage.put("k", 1)

        async def fetcher(request):
            return Response(request.url)

        response = await fetch("http://outside/", fetcher=fetcher)
        return await response.text()

    async def put_and_sync(self):
        await self.ctx.storage.put("k", 1)
        await self.ctx.storage.sync()
        self.heard.append("synced")

    def hear(self, text):
        self.heard.append(text)
        return len(self.heard)

    def all_heard(self):
        return self.heard

    async def fetch(self, request):
        await self.ctx.storage.put("k", 1)
        if request.url.endswith("/stream"):
            return Response(self.pieces())
        return Response("written")

    async def pieces(self):
        yield b"one "
        await self.ctx.storage.put("k", 2)
        yield b"two"


@pytest.fixture
async def opened(house):
    return await house(LEDGERS=Ledger, kv=["NOTES"])


@pytest.fixture
async def ledgers(opened):
    return opened.env.LEDGERS


# --- waiting ---------------------------------------------------------------------------------------


async def test_a_result_waits_until_its_write_is_durable(ledgers, disk):
    ledger = ledgers.getByName("a")
    for value, syncs in ((1, 2), (2, 1)):  # the first has the host's journal start
        disk.syncs = 0
        disk.hold()
        call = ledger.put("k", value)
        await disk.held()
        assert not call.done()
        disk.release()
        assert await soon(call) == value
        assert disk.syncs == syncs


@pytest.mark.parametrize(
    "write",
    [
        ("put", "k", 1),
        ("put", {"k": 1}),
        ("delete", "there"),
        ("delete", ["there"]),
        ("deleteAll",),
        ("setAlarm", 4_000_000_000_000),
        ("deleteAlarm",),
    ],
    ids=str,
)
async def test_nothing_waits_for_an_unconfirmed_write_but_the_object_stays_until_it_is_durable(
    opened, ledgers, disk, write
):
    ledger = ledgers.getByName("a")
    await soon(ledger.put("there", 1))
    await soon(ledger.write_unconfirmed("setAlarm", 5_000_000_000_000))
    await opened.durable(ledger)
    disk.hold()
    assert await soon(ledger.write_unconfirmed(*write)) == "written"
    assert await soon(ledger.peek()) == "peeked"
    await disk.held()
    assert not opened.activation(ledger).idle
    disk.release()
    await opened.durable(ledger)
    assert opened.activation(ledger).idle


async def test_a_confirmed_write_waits_also_behind_an_unconfirmed_one(ledgers, disk):
    ledger = ledgers.getByName("a")
    await soon(ledger.put("k", 1))
    for other_first in (False, True):
        disk.hold()
        if other_first:  # its commit is under way
            await soon(ledger.write_unconfirmed("put", "k", 2))
            await disk.held()
        call = ledger.put_both()
        await disk.held()
        assert not call.done()
        disk.release()
        assert await soon(call) == "both"


async def test_sync_waits_for_unconfirmed_writes(ledgers, disk):
    ledger = ledgers.getByName("a")
    await soon(ledger.put("k", 1))
    disk.hold()
    call = ledger.put_unconfirmed_and_sync()
    await disk.held()
    assert not call.done()
    disk.release()
    assert await soon(call) == "durable"
    disk.hold()
    await soon(ledger.write_unconfirmed("put", "k", 3))
    await disk.held()
    call = ledger.sync()  # the commit is under way already
    await settle()
    assert not call.done()
    disk.release()
    await soon(call)


async def test_an_unconfirmed_write_before_a_transaction_is_not_undone_with_it(ledgers):
    assert await soon(ledgers.getByName("a").put_unconfirmed_and_begin()) == 1


async def test_an_unconfirmed_write_that_fails_resets_the_object(opened, ledgers):
    ledger = ledgers.getByName("a")
    await soon(ledger.put("k", 1))
    opened.break_commits(ledger)
    before = opened.activation(ledger)
    assert await soon(ledger.write_unconfirmed("put", "k", 2)) == "written"
    await until(lambda: before.reset_by is not None)
    opened.mend_commits(ledger)
    assert await soon(ledger.get("k")) == 1


async def test_so_does_every_kind_of_answer_but_not_those_of_other_objects(ledgers, disk):
    await ledgers.getByName("other").peek()
    disk.hold()
    calls = [
        ledgers.getByName("a").put("k", 1),
        ledgers.getByName("a").peek(),  # it may have seen what was written
        ledgers.getByName("b").put_and_fail("k"),
        ledgers.getByName("c").put_many("k"),
        ledgers.getByName("d").fetch("http://x/"),
    ]
    await disk.held()
    assert not any(call.done() for call in calls)
    assert await soon(ledgers.getByName("other").peek()) == "peeked"
    assert await soon(ledgers.getByName("other").get("k")) is None
    disk.release()
    results = await soon(asyncio.gather(*calls, return_exceptions=True))
    assert results[:2] == [1, "peeked"]
    assert str(results[2]) == "after the write"
    assert len(results[3][1]["a"]) == 100_000
    assert await results[4].text() == "written"


async def test_a_failed_event_keeps_what_it_wrote(ledgers):
    ledger = ledgers.getByName("a")
    with pytest.raises(LookupError):
        await ledger.put_and_fail("k")
    assert await ledger.get("k") == 1


async def test_calls_to_other_objects_wait_and_keep_their_order(ledgers, disk):
    disk.hold()
    call = ledgers.getByName("a").call_around_a_put("b")
    await disk.held()
    assert await soon(ledgers.getByName("b").all_heard()) == ["before"]
    disk.release()
    assert await soon(call) == [1, 2, 3]
    assert await ledgers.getByName("b").all_heard() == ["before", "after", "later"]


async def test_a_call_given_up_behind_the_gate_is_never_made(ledgers):
    assert await soon(ledgers.getByName("a").put_and_give_up_calling("b")) == "gave up"
    await settle()
    assert await ledgers.getByName("b").all_heard() == []


@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_writes_to_kv_wait(opened, ledgers, disk, operation):
    await opened.env.NOTES.put("old", "text")
    disk.hold()
    call = ledgers.getByName("a").put_and_use_kv(operation)
    await disk.held()
    assert await opened.env.NOTES.get("note") is None
    assert await opened.env.NOTES.get("old") == "text"
    disk.release()
    await soon(call)
    note, old = await opened.env.NOTES.get("note"), await opened.env.NOTES.get("old")
    assert (note, old) == (("text", "text") if operation == "put" else (None, None))


async def test_an_outgoing_request_waits(ledgers, disk):
    disk.hold()
    call = ledgers.getByName("a").put_and_fetch([])
    await disk.held()
    assert not call.done()
    disk.release()
    assert await soon(call) == "http://outside/"


async def test_sync_waits_for_what_was_written_before_it(ledgers, disk):
    ledger = ledgers.getByName("a")
    disk.hold()
    call = ledger.put_and_sync()
    await disk.held()
    assert not call.done()
    disk.release()
    await soon(call)
    assert await ledger.all_heard() == ["synced"]


async def test_each_piece_of_a_streamed_response_waits_for_the_writes_before_it(ledgers, disk):
    response = await soon(ledgers.getByName("a").fetch("http://x/stream"))
    pieces = aiter(response.body)
    disk.hold()
    assert await soon(anext(pieces)) == b"one "
    second = asyncio.ensure_future(anext(pieces))
    await disk.held()
    assert not second.done()
    disk.release()
    assert await soon(second) == b"two"


async def test_writes_of_one_tick_share_a_sync_and_those_that_come_meanwhile_the_next(
    ledgers, disk
):
    ledger = ledgers.getByName("a")
    await ledger.put("k", 0)
    disk.syncs = 0
    disk.hold()
    first = [ledger.put(key, 1) for key in "abc"]
    await disk.held()
    second = [ledger.put(key, 2) for key in "abc"]
    await settle()
    disk.release()
    await soon(asyncio.gather(*first, *second))
    assert disk.syncs == 2


async def test_what_is_said_between_two_commits_waits_for_the_first_only(ledgers, disk):
    ledger = ledgers.getByName("a")
    disk.hold()
    first = ledger.put("k", 1)
    await disk.held()
    peek = ledger.peek()
    second = ledger.put("k", 2)
    order = []
    for name, call in (("first", first), ("peek", peek), ("second", second)):
        call.add_done_callback(lambda _, name=name: order.append(name))
    await settle()
    disk.release()
    await soon(second)
    assert order == ["first", "peek", "second"]


async def test_relaxed_durability_waits_for_no_disk(house, disk):
    opened = await house(LEDGERS=Ledger, durability="relaxed")
    disk.hold()
    assert await soon(opened.env.LEDGERS.getByName("a").put("k", 1)) == 1


async def test_an_object_that_writes_nothing_waits_for_nobody(ledgers, disk):
    disk.hold()
    writing = ledgers.getByName("a").put("k", 1)
    await disk.held()
    assert await soon(ledgers.getByName("b").peek()) == "peeked"
    disk.release()
    await soon(writing)


# --- failing ---------------------------------------------------------------------------------------


async def failures(calls):
    results = await soon(asyncio.gather(*calls, return_exceptions=True))
    for result in results:
        assert type(result) is ObjectReset
        assert result.retryable
        assert result.durable_object_reset
    return results


@pytest.mark.parametrize("how", ["commit", "sync"])
async def test_a_failed_commit_resets_the_object_and_fails_all_that_was_said_since(
    opened, ledgers, disk, how
):
    ledger = ledgers.getByName("a")
    assert await ledger.put("k", "good") == "good"
    await ledger.hear("in memory")
    if how == "commit":
        opened.break_commits(ledger)
    else:
        disk.error = OSError(28, "No space left on device")
    calls = [ledger.put("k", "bad"), ledger.peek(), ledger.put_and_fail("k")]
    calls += [ledger.fetch("http://x/"), ledger.fetch("http://x/stream"), ledger.get("k")]
    for failure in await failures(calls):
        assert failure.durable_object_id == str(ledger.id)
        assert str(failure).startswith(
            f"Ledger {ledger.id} was reset, because its writes could not be committed: "
        )
    opened.mend_commits(ledger)
    disk.error = None
    assert await soon(ledger.all_heard()) == []
    if how == "commit":
        assert await ledger.get("k") == "good"


async def test_what_was_said_before_a_failed_write_has_left(opened, ledgers):
    ledger = ledgers.getByName("a")
    opened.break_commits(ledger)
    calls = [ledger.peek(), ledger.put("k", 1)]
    assert await soon(calls[0]) == "peeked"
    await failures(calls[1:])


async def test_calls_and_kv_writes_after_a_failed_write_are_never_made(opened, ledgers):
    caller, other = ledgers.getByName("a"), ledgers.getByName("b")
    assert await other.hear("hello") == 1
    opened.break_commits(caller)
    await failures([caller.put_and_call("b", "x", "y"), caller.put_and_use_kv("put")])
    await failures([caller.put_and_sync(), caller.put_and_fetch([])])
    await settle()
    assert await other.all_heard() == ["hello"]
    assert await opened.env.NOTES.get("note") is None


async def test_other_objects_of_the_same_file_fail_only_if_they_had_written(opened, ledgers):
    """Two objects of one slot share a transaction: it fails for both, and for no other."""
    names = [str(number) for number in range(40)]
    stubs = [ledgers.getByName(name) for name in names]
    file = opened.file(stubs[0])
    same = [stub for stub in stubs if opened.file(stub) is file]
    apart = [stub for stub in stubs if opened.file(stub) is not file]
    assert len(same) > 2
    await asyncio.gather(*(stub.hear("x") for stub in stubs))
    opened.break_commits(same[0])
    writing = [same[0].put("k", 1), same[1].put("k", 1), apart[0].put("k", 1)]
    peeking = [same[2].peek(), apart[1].peek()]
    await failures(writing[:2])
    assert await soon(writing[2]) == 1
    assert await soon(asyncio.gather(*peeking)) == ["peeked"] * 2
    assert await same[2].all_heard() == ["x"]


async def test_calls_that_come_during_a_commit_that_fails_meet_the_new_instance(
    opened, ledgers, disk
):
    ledger = ledgers.getByName("a")
    await ledger.hear("in memory")
    disk.error = OSError(5, "Input/output error")
    disk.hold()
    lost = ledger.put("k", 1)
    await disk.held()
    disk.release()
    await failures([lost])
    disk.error = None
    assert await soon(ledger.all_heard()) == []


async def test_a_reset_during_a_commit_lets_no_new_instance_in_before_it_has_ended(
    opened, ledgers, disk
):
    ledger = ledgers.getByName("a")
    disk.hold()
    writing = ledger.put("k", "flying")
    await disk.held()
    opened.activation(ledger).reset(ObjectReset("reset by the test"))
    await failures([writing])
    reading = ledger.get("k")
    await settle()
    assert not reading.done()
    disk.release()
    assert await soon(reading) == "flying"


async def test_a_storage_that_cannot_be_opened_fails_its_calls_with_the_reason(house, tmp_path):
    opened = await house(LEDGERS=Ledger)
    directory = tmp_path / "0" / "slots"
    directory.mkdir()
    ledger = opened.env.LEDGERS.getByName("a")
    for slot in range(4):
        (directory / f"{slot:05}.sqlite").write_bytes(b"no database at all, but long enough" * 9)
    with pytest.raises(StorageError, match="cannot be opened") as raised:
        await ledger.peek()
    assert raised.value.durable_object_id == str(ledger.id)

    async def body():
        yield b"x"

    with pytest.raises(StorageError):
        await soon(ledger.fetch(Request("http://x/", method="POST", body=body())))
    await settle()
    assert opened.caller.links[0].streams.writing == 0


def test_the_host_calls_itself_by_its_own_link():
    assert Caller.submit is Caller.call


async def test_the_files_of_a_round_are_synced_side_by_side(house, disk):
    home = await house(LEDGERS=Ledger)
    stubs = {
        slot_of(stub.id.raw, 4): stub for stub in map(home.env.LEDGERS.getByName, "abcdefghijk")
    }
    assert len(stubs) == 4
    await asyncio.gather(*(stub.get("k") for stub in stubs.values()))  # which takes several slices
    await home.env.LEDGERS.getByName("l").put("k", 1)
    disk.syncs = 0
    disk.hold()
    answers = asyncio.gather(*(stub.put("k", 1) for stub in stubs.values()))
    await disk.held(4)  # none of which has ended
    assert not answers.done()
    disk.release()
    assert await soon(answers) == [1, 1, 1, 1]
    assert disk.syncs == 4
