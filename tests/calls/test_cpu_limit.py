"""An event over its CPU limit is ended with its host; everybody else goes on."""

import subprocess
import sys

PROGRAM = """
import sys
from runtime import Runtime
from workers import DurableObject, HostLost

class Spinner(DurableObject):
    def spin_for_ever(self):
        while True:
            pass

    async def keep(self, value):
        await self.ctx.storage.put("kept", value)

    async def kept(self):
        return await self.ctx.storage.get("kept")

with Runtime(objects={"S": Spinner}, hosts=1, data_dir=sys.argv[1], cpu_ms=200) as rt:
    stub = rt.env.S.getByName("a")
    stub.keep("value")
    try:
        stub.spin_for_ever()
    except HostLost as error:
        print(error)
        print(error.retryable, error.durable_object_id == str(stub.id))
    print(stub.kept(), rt.env.S.getByName("b").kept())
"""


def test_the_caller_is_told_the_log_shows_where_and_nothing_stored_is_lost(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, tmp_path / "data"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    error, facts, kept = done.stdout.splitlines()
    assert "ran over its CPU limit" in error
    assert "spin_for_ever() of Spinner" in error
    assert facts == "True True"
    assert kept == "value None"
    assert "more than 0.2 s of processor time" in done.stderr
    assert "in spin_for_ever" in done.stderr
