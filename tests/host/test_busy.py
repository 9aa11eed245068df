"""What a host's time goes to: few objects are counted, and those that take most are among them."""

from types import SimpleNamespace

from runtime.host.busy import KNOWN, Busy
from runtime.wire import messages as m


def test_of_too_many_objects_the_half_that_takes_least_is_forgotten_at_once():
    told = []
    roster = SimpleNamespace(busy=[0], set_hot=lambda _host, hot: told.extend(hot))
    busy = Busy(roster, 0, lambda _raw: 0)

    def run(number, ns):
        busy.ran((m.CALL, 1, ("Room", number.to_bytes(4, "big"), None)), 0, ns)

    run(0, 10**9)
    for number in range(1, KNOWN + 1):
        run(number, number)
    assert len(busy._objects) == KNOWN // 2 + 1
    busy.tick()
    assert [hot.id for hot in told] == ["00000000"]
