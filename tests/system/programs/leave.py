"""Opens an instance, stores something, and leaves it in the way it is told."""

import os
import sys
import threading

from runtime import Runtime
from workers import DurableObject


class Keeper(DurableObject):
    async def keep(self, value):
        await self.ctx.storage.put("value", value)
        await self.env.KV.put("value", value)
        return os.getpid()


data, way = sys.argv[1:]


def use(rt):
    for name in "abcdef":
        rt.env.KEEPERS.getByName(name).keep("kept")
    print("kept", *[host.pid for host in rt.status()], flush=True)


if way == "forgotten":
    forgotten = Runtime(objects={"KEEPERS": Keeper}, kv=["KV"], data_dir=data, hosts=2)
    use(forgotten)
elif way == "dropped":
    use(Runtime(objects={"KEEPERS": Keeper}, kv=["KV"], data_dir=data, hosts=2))
elif way == "in a thread":

    def work():
        with Runtime(objects={"KEEPERS": Keeper}, kv=["KV"], data_dir=data, hosts=2) as rt:
            use(rt)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    with Runtime(objects={"KEEPERS": Keeper}, kv=["KV"], data_dir=data, hosts=2) as rt:
        use(rt)
        if way == "an exception":
            raise LookupError("in the with-block")
        if way == "sys.exit":
            sys.exit(3)
        if way == "os._exit":
            os._exit(4)
        if way == "a kill":
            sys.stdin.readline()
