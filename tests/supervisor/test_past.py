"""What slots took is known to the next start, and what is no such file is nothing."""

import stat

import pytest

from runtime.supervisor.past import HALF_SECONDS, Past

SECOND = 1_000_000_000
UNKNOWN = [0.0] * 3


def test_what_slots_took_is_kept_for_the_next_start_and_for_this_user_alone(tmp_path):
    Past(tmp_path, 3, 100).keep([0, 2 * SECOND, SECOND // 2], 100)
    assert Past(tmp_path, 3, 0).taken == [0, 2, 0.5]
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_older_the_less_it_counts(tmp_path):
    past = Past(tmp_path, 3, 0)
    past.keep([8 * SECOND, 0, 0], 0)
    past.keep([8 * SECOND, 3 * SECOND, 0], HALF_SECONDS)
    assert past.taken == [4, 3, 0]
    past = Past(tmp_path, 3, 5)  # another run, whose roster counts from 0
    past.keep([0, 0, SECOND], 5 + HALF_SECONDS)
    assert Past(tmp_path, 3, 0).taken == [2, 1.5, 1]


def test_a_count_that_goes_back_takes_nothing_away(tmp_path):
    past = Past(tmp_path, 3, 0)
    past.keep([5 * SECOND, 0, SECOND], 0)
    past.keep([4 * SECOND, 0, 2 * SECOND], 0)
    assert past.taken == [5, 0, 2]


def test_less_than_a_second_is_not_written_down(tmp_path):
    past = Past(tmp_path, 3, 0)
    past.keep([SECOND // 3, SECOND // 3, SECOND // 4], 0)
    assert list(tmp_path.iterdir()) == []
    past.keep([SECOND // 3, SECOND // 3, SECOND // 2], 0)
    assert sum(Past(tmp_path, 3, 0).taken) == pytest.approx(7 / 6, abs=0.01)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 40,
        b"\xff\xfe",
        b'{"busy_s": [1.0, 2.',
        b'{"busy_s": [1.0, 2.0]}',
        b'{"busy_s": [1, 2, 3, 4]}',
        b'{"busy_s": [1, -2, 3]}',
        b'{"busy_s": [1, NaN, 3]}',
        b'{"busy_s": [1, Infinity, 3]}',
        b'{"busy_s": [1, null, 3]}',
        b'{"busy_s": [1, "", 3]}',
        b'{"busy_s": [1, 1%s, 3]}' % (b"0" * 400),
        b'{"busy_s": 7}',
        b'{"taken": [1, 2, 3]}',
        b"[1, 2, 3]",
        b"7",
        b"[" * 100_000,
    ],
)
def test_what_is_torn_or_of_something_else_is_as_good_as_nothing(tmp_path, content):
    (tmp_path / "busy.json").write_bytes(content)
    past = Past(tmp_path, 3, 0)
    assert past.taken == UNKNOWN
    past.keep([SECOND, 0, 0], 0)
    assert Past(tmp_path, 3, 0).taken == [1, 0, 0]


def test_a_place_that_cannot_be_read_or_written_is_no_error(tmp_path):
    (tmp_path / "busy.json").mkdir()
    past = Past(tmp_path, 3, 0)
    assert past.taken == UNKNOWN
    past.keep([SECOND, 0, 0], 0)
    assert Past(tmp_path / "none", 3, 0).taken == UNKNOWN
