"""The program that `cold` starts: asks one object one thing, and says when it had what.

It imports nothing that a user's program would not. Times are of the monotonic clock, which all
processes share. It stays until its input closes, so that its memory can be looked at.
"""

import sys
import time

began = time.monotonic()

from runtime import Runtime  # noqa: E402  (its import is measured)
from workers import DurableObject  # noqa: E402

imported = time.monotonic()


class Greeter(DurableObject):
    """An object with something to say."""

    def greet(self, name: str) -> str:
        """Greet somebody."""
        return f"Hello, {name}!"


if __name__ == "__main__":
    with Runtime(objects={"GREETERS": Greeter}, data_dir=sys.argv[1], hosts=int(sys.argv[2])) as rt:
        rt.env.GREETERS.getByName("one").greet("world")
        answered = time.monotonic()
        print(answered, imported - began, answered - imported, flush=True)
        sys.stdin.read()
