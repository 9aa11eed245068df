"""What reads answer, in each of their forms."""

import pytest

from runtime.kv import Record
from workers.errors import KVError


async def collect(stream):
    return [chunk async for chunk in stream]


async def test_a_value_is_read_as_what_is_asked_for(kv):
    value = '{"a": [1, {"b": null}]}'
    await kv.put("k", value)
    assert await kv.get("k") == await kv.get("k", "text") == await kv.get("k", type="text") == value
    assert await kv.get("k", {"type": "bytes", "cacheTtl": 60}) == value.encode()
    found = await kv.get("k", "json")
    assert found.a[1].b is None
    buffer = await kv.get("k", "arrayBuffer")
    assert isinstance(buffer, memoryview)
    assert buffer == value.encode()
    assert b"".join(await collect(await kv.get("k", "stream"))) == value.encode()


async def test_a_long_value_streams_in_pieces(kv, sync_kv):
    value = bytes(range(256)) * 5000
    await kv.put("k", value)
    pieces = await collect(await kv.get("k", "stream"))
    assert b"".join(pieces) == value
    assert max(map(len, pieces)) == 64 * 1024
    assert b"".join(sync_kv.get("k", "stream")) == value


async def test_absent_keys_are_none_in_every_form(kv, sync_kv):
    for form in ("text", "json", "bytes", "arrayBuffer", "stream"):
        assert await kv.get("absent", form) is None
        assert sync_kv.get("absent", form) is None
    assert await kv.get_with_metadata("absent") == {
        "value": None,
        "metadata": None,
        "cacheStatus": None,
    }
    assert await kv.get_with_metadata(["absent"]) == {"absent": None}


async def test_text_that_is_not_utf8_is_shown_with_replacements(kv):
    await kv.put("k", b"a\xffb")
    assert await kv.get("k") == "a�b"
    assert await kv.get("k", "bytes") == b"a\xffb"


@pytest.mark.parametrize("metadata", [{"a": [1, None]}, "text", 5, False, [], {}])
async def test_metadata_comes_back_as_it_was(kv, metadata):
    await kv.put("k", "v", {"metadata": metadata})
    found = await kv.getWithMetadata("k")
    assert (found.value, found["metadata"], found.cacheStatus) == ("v", metadata, None)
    assert (await kv.list())["keys"] == [{"name": "k", "metadata": metadata}]
    await kv.put("k", "w")
    assert (await kv.get_with_metadata("k")).metadata is None


async def test_a_bulk_get_has_each_key_asked_for_and_none_for_the_absent(kv):
    await kv.put("a", "1", metadata={"m": 1})
    await kv.put("b", '{"x": 2}')
    assert await kv.get(["b", "c", "a"]) == {"b": '{"x": 2}', "c": None, "a": "1"}
    assert await kv.get(("a", "b"), "json") == {"a": 1, "b": Record(x=2)}
    assert await kv.get_with_metadata(["a", "c"]) == {
        "a": {"value": "1", "metadata": {"m": 1}},
        "c": None,
    }


async def test_a_deleted_key_is_absent_and_deleting_it_again_is_no_error(kv):
    await kv.put("k", "v")
    await kv.delete("k")
    await kv.delete("k")
    assert await kv.get("k") is None


async def test_a_bulk_delete_removes_all_its_keys_or_none(kv, sync_kv):
    for key in "abcde":
        await kv.put(key, key)
    await kv.delete_bulk(["a", "absent", "b"])
    sync_kv.deleteBulk(("c",))
    for keys in (["d", ""], ["d", "k" * 513], [], ["d"] * 101, "d"):
        with pytest.raises((TypeError, KVError)):
            await kv.deleteBulk(keys)
        with pytest.raises((TypeError, KVError)):
            sync_kv.delete_bulk(keys)
    assert [item.name for item in (await kv.list())["keys"]] == ["d", "e"]


async def test_both_spellings_of_options_mean_the_same(kv, clock):
    await kv.put("k", "v", expiration_ttl=100)
    await kv.put("l", "v", {"expiration_ttl": 100}, metadata=1)
    await kv.put("m", "v", {"expirationTtl": 100}, expirationTtl=None)
    assert [item.expiration for item in (await kv.list())["keys"]] == [1_000_100] * 3


async def test_a_ttl_wins_over_an_expiration(kv):
    await kv.put("k", "v", expiration=2_000_000, expirationTtl=60)
    assert (await kv.list())["keys"][0].expiration == 1_000_060


def test_a_record_is_a_dict_with_attributes():
    record = Record(a=1, keys=2)
    assert record.a == record["a"] == 1
    assert list(record.keys()) == ["a", "keys"]
    with pytest.raises(AttributeError):
        record.absent  # noqa: B018
