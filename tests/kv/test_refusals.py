"""What KV refuses, in Cloudflare's words, with nothing written."""

import json
from array import array

import pytest

from runtime.kv import KVNamespace
from workers.errors import KVError

BIG = 25 * 1024 * 1024

VALUES_ONLY = (
    "KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values."
)
NO_SECOND = (
    "Failed to execute 'put' on 'KvNamespace': parameter 2 is not of type 'string or JsObject'."
)
FUTURE = "Please specify integer greater than the current number of seconds since the UNIX epoch."
POSITIVE = "Please specify integer greater than 0."
LATER = "Expiration times must be at least 60 seconds in the future."
UNKNOWN = 'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".'

PUTS = [
    (("", "v"), {}, TypeError, "Key name cannot be empty."),
    ((".", "v"), {}, TypeError, '"." is not allowed as a key name.'),
    (("..", "v"), {}, TypeError, '".." is not allowed as a key name.'),
    ((b"k", "v"), {}, TypeError, "Key name must be a str, not bytes."),
    (("k",), {}, TypeError, NO_SECOND),
    (("k", {"a": 1}), {}, TypeError, VALUES_ONLY),
    (("k", [1]), {}, TypeError, VALUES_ONLY),
    (("k", object()), {}, TypeError, VALUES_ONLY),
    (
        ("k" * 513, "v"),
        {},
        KVError,
        "KV PUT failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    ),
    (
        ("é" * 257, "v"),
        {},
        KVError,
        "KV PUT failed: 414 UTF-8 encoded length of 514 exceeds key length limit of 512.",
    ),
    (
        ("k", b"x" * (BIG + 1)),
        {},
        KVError,
        "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
    ),
    (
        ("k", "v"),
        {"expirationTtl": 59},
        KVError,
        "KV PUT failed: 400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
    ),
    *(
        (
            ("k", "v"),
            {"expirationTtl": ttl},
            KVError,
            f"KV PUT failed: 400 Invalid expiration_ttl of {said}. {POSITIVE}",
        )
        for ttl, said in ((0, 0), (-1, -1), ("soon", 0), (float("nan"), 0), ([], 0))
    ),
    (
        ("k", "v"),
        {"expiration": 10},
        KVError,
        f"KV PUT failed: 400 Invalid expiration of 10. {FUTURE}",
    ),
    (
        ("k", "v"),
        {"expiration": 1_000_059},
        KVError,
        f"KV PUT failed: 400 Invalid expiration of 1000059. {LATER}",
    ),
    (
        ("k", "v"),
        {"metadata": "m" * 1106},
        KVError,
        "KV PUT failed: 413 Metadata length of 1108 exceeds limit of 1024.",
    ),
]


@pytest.mark.parametrize(("arguments", "options", "kind", "text"), PUTS)
async def test_a_put_that_breaks_a_rule_says_which_and_writes_nothing(
    kv, arguments, options, kind, text
):
    with pytest.raises(kind) as refusal:
        await kv.put(*arguments, **options)
    assert str(refusal.value) == text
    assert (await kv.list())["keys"] == []


@pytest.mark.parametrize(("arguments", "options", "kind", "text"), PUTS)
def test_the_blocking_face_refuses_alike(sync_kv, arguments, options, kind, text):
    with pytest.raises(kind) as refusal:
        sync_kv.put(*arguments, **options)
    assert str(refusal.value) == text
    assert sync_kv.list()["keys"] == []


async def test_a_stream_of_anything_but_bytes_and_text_is_refused(kv, sync_kv):
    async def stream():
        yield b"a"
        yield 5

    with pytest.raises(TypeError) as refusal:
        await kv.put("k", stream())
    assert str(refusal.value) == VALUES_ONLY
    with pytest.raises(TypeError, match="accepts only"):
        sync_kv.put("k", iter([b"a", 5]))
    assert (await kv.list())["keys"] == []


@pytest.mark.parametrize("metadata", [{1, 2}, float("nan"), object()])
async def test_metadata_that_is_not_json_is_refused(kv, metadata):
    with pytest.raises((TypeError, ValueError)):
        await kv.put("k", "v", metadata=metadata)
    assert (await kv.list())["keys"] == []


async def test_the_limits_themselves_are_allowed(kv, clock):
    metadata = "m" * 1022
    await kv.put("é" * 256, b"x" * BIG, expirationTtl=60, metadata=metadata)
    await kv.put("k", "v", expiration=int(clock.now) + 60)
    found = await kv.get_with_metadata("é" * 256, "bytes")
    assert (len(found.value), found.metadata) == (BIG, metadata)


async def test_a_setting_lowers_the_shortest_ttl(store, clock):
    kv = KVNamespace(store, min_ttl=1)
    await kv.put("k", "v", expirationTtl=1)
    with pytest.raises(KVError, match="Invalid expiration_ttl of 0"):
        await kv.put("k", "v", expirationTtl=0)


GETS = [
    ("", None, TypeError, "Key name cannot be empty."),
    (b"k", None, TypeError, "Key name must be a str, not bytes."),
    (
        "k" * 513,
        None,
        KVError,
        "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    ),
    (
        "k",
        {"cacheTtl": 10},
        KVError,
        "KV GET failed: 400 Invalid cache_ttl of 10. Cache TTL must be at least 30.",
    ),
    ("k", {"type": "blob"}, TypeError, UNKNOWN),
    ([], None, KVError, "KV GET_BULK failed: 400 You must request a minimum of 1 key"),
    (
        ["k"] * 101,
        None,
        KVError,
        "KV GET_BULK failed: 400 You can request a maximum of 100 keys",
    ),
    (
        ["k"],
        "arrayBuffer",
        KVError,
        'KV GET_BULK failed: 400 "arrayBuffer" is not a valid type. Use "json" or "text"',
    ),
    (
        ["absent", "k"],
        "json",
        KVError,
        "KV GET_BULK failed: 400 At least one of the requested keys corresponds to a non-json value",
    ),
    ("k", 5, TypeError, "options must be a dict, not int"),
]


@pytest.mark.parametrize(("key", "options", "kind", "text"), GETS)
async def test_a_get_that_breaks_a_rule_says_which(kv, sync_kv, key, options, kind, text):
    await kv.put("k", "{")
    for get in (kv.get, kv.get_with_metadata):
        with pytest.raises(kind) as refusal:
            await get(key, options)
        assert str(refusal.value) == text
    with pytest.raises(kind) as refusal:
        sync_kv.get(key, options)
    assert str(refusal.value) == text


async def test_an_unknown_type_of_an_absent_key_is_none(kv):
    assert await kv.get("absent", "blob") is None


async def test_json_that_is_none_is_a_syntax_error(kv):
    await kv.put("k", "{")
    with pytest.raises(json.JSONDecodeError):
        await kv.get("k", "json")


async def test_a_bulk_get_of_more_than_25_mib_is_refused(kv):
    for key in "ab":
        await kv.put(key, b"x" * (BIG // 2 + 1))
    with pytest.raises(KVError) as refusal:
        await kv.get(["a", "b"])
    assert str(refusal.value) == (
        "KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB."
    )
    assert len((await kv.get(["a"]))["a"]) == BIG // 2 + 1


async def test_a_delete_and_a_list_that_break_a_rule_say_which(kv):
    with pytest.raises(KVError) as refusal:
        await kv.delete("k" * 513)
    assert str(refusal.value) == (
        "KV DELETE failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512."
    )
    with pytest.raises(TypeError, match="Key name cannot be empty"):
        await kv.delete("")
    with pytest.raises(KVError) as refusal:
        await kv.list(limit=1001)
    assert str(refusal.value) == (
        "KV GET failed: 400 Invalid key_count_limit of 1001. "
        "Please specify an integer less than 1000."
    )
    with pytest.raises(KVError, match="414 UTF-8 encoded length of 513"):
        await kv.list(prefix="p" * 513)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é😀", "é😀"),
        (b"bytes", "bytes"),
        (bytearray(b"ba"), "ba"),
        (memoryview(b"abc")[1:], "bc"),
        (array("B", b"array"), "array"),
        (5, "5"),
        (5.0, "5"),
        (0.00001, "0.00001"),
        (1e21, "1e+21"),
        (True, "true"),
        (None, "null"),
        (float("-inf"), "-Infinity"),
        ("", ""),
    ],
)
async def test_what_can_be_put_is_kept_as_bytes(kv, value, text):
    await kv.put("k", value)
    assert await kv.get("k") == text
    assert await kv.get("k", "bytes") == text.encode()


async def test_a_stream_is_kept_as_one_value(kv, sync_kv):
    async def stream():
        for piece in ("a", b"b", bytearray(b"c")):
            yield piece

    await kv.put("k", stream())
    sync_kv.put("l", iter(["a", b"b", bytearray(b"c")]))
    assert await kv.get(["k", "l"]) == {"k": "abc", "l": "abc"}


async def test_primitives_are_keys_as_javascript_prints_them(kv):
    for key, name in ((5, "5"), (None, "null"), (True, "true"), (1.5, "1.5")):
        await kv.put(key, name)
        assert await kv.get(name) == name
        assert await kv.get(key) == name
