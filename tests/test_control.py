"""Words between the supervisor and the others: whole packets, and the news of a death."""

import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.control import LONGEST, connect, hear, listen, pair, say


@pytest.fixture
def ends():
    one, other = pair()
    yield one, other
    one.close()
    other.close()


verbs = st.text("abcdefgh", min_size=1)


@given(st.lists(st.tuples(verbs, st.text(st.characters(exclude_categories=["Cs"])))))
def test_packets_arrive_one_by_one_as_they_were_said(said):
    one, other = pair()
    with one, other:
        for verb, text in said[:100]:
            assert say(one, verb, text)
        assert [hear(other) for _ in said[:100]] == said[:100]


def test_a_verb_may_stand_alone(ends):
    one, other = ends
    say(one, "look")
    assert hear(other) == ("look", "")


def test_long_text_is_cut_and_harms_no_other_packet(ends):
    one, other = ends
    received = []
    listener = threading.Thread(target=lambda: received.extend([hear(other), hear(other)]))
    listener.start()
    assert say(one, "failed", "é" * LONGEST)
    assert say(one, "look")
    listener.join(10)
    (verb, text), second = received
    assert verb == "failed"
    assert LONGEST - 10 <= len(text.encode()) <= LONGEST
    assert set(text) <= {"é", "\ufffd"}
    assert second == ("look", "")


def test_text_that_is_no_unicode_is_said_all_the_same(ends):
    """A traceback may hold the name of a file that is none."""
    one, other = ends
    assert say(one, "failed", os.fsdecode(b"/tmp/\xff.py"))
    assert hear(other) == ("failed", "/tmp/\\udcff.py")


def test_the_end_of_the_other_side_is_told(ends):
    one, other = ends
    say(one, "idle")
    one.close()
    assert hear(other) == ("idle", "")
    assert hear(other) is None
    assert hear(other) is None
    assert say(other, "look") is False


def test_the_last_words_of_one_that_ended_with_a_packet_unread_are_heard(ends):
    one, other = ends
    say(other, "unread")
    say(one, "failed", "why")
    one.close()
    assert hear(other) == ("failed", "why")
    assert hear(other) is None


def test_hearing_on_a_socket_that_does_not_block_says_when_there_is_nothing(ends):
    one, other = ends
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        hear(other)
    say(one, "look")
    assert hear(other) == ("look", "")


def test_saying_to_one_that_does_not_listen_blocks_nobody(ends):
    one, _ = ends
    one.setblocking(False)
    said = 0
    while say(one, "look", "x" * 1000):
        said += 1
        assert said < 100_000
    assert said > 0


def test_clients_connect_to_a_socket_that_is_their_user_s_alone(tmp_path):
    path = str(tmp_path / "control")
    with listen(path) as listener:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        with connect(path) as client:
            server, _ = listener.accept()
            with server:
                say(client, "hello", "c1")
                assert hear(server) == ("hello", "c1")
    with pytest.raises(OSError, match="refused"):
        connect(path)
    with pytest.raises(FileNotFoundError):
        connect(str(tmp_path / "nobody"))


def test_a_connection_keeps_the_borders_of_packets():
    one, other = pair()
    with one, other:
        assert one.type == other.type == socket.SOCK_SEQPACKET
