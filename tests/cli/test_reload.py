"""`roost reload` replaces the hosts of a running instance, and drops nobody."""

import json

from websockets.sync.client import connect

SCRIPT = """
from workers import DurableObject, Response, WebSocketPair, WorkerEntrypoint


class Visitor(DurableObject):
    async def fetch(self, request):
        client, server = WebSocketPair.new()
        self.ctx.acceptWebSocket(server)
        return Response(None, status=101, web_socket=client)

    async def webSocketMessage(self, ws, message):
        ws.send("VERSION " + message)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return await self.env.VISITORS.getByName("a").fetch(request)
"""


def test_the_script_is_the_new_one_and_sockets_stay(project, start, roost):
    script = project / "src/worker.py"
    script.write_text(SCRIPT.replace("VERSION", "one"))
    running = start("serve", cwd=project).ready()

    def pids():
        told = json.loads(roost("status", "--json", cwd=project).worked())
        return {host["pid"] for host in told["hosts"]}

    before = pids()
    with connect(running.url.replace("http", "ws")) as ws:
        ws.send("hello")
        assert ws.recv(10) == "one hello"
        script.write_text(SCRIPT.replace("VERSION", "two"))
        assert (
            roost("reload", cwd=project).worked().startswith("reloaded the script in 2 hosts, in ")
        )
        ws.send("hello")
        assert ws.recv(10) == "two hello"
        assert pids().isdisjoint(before)
        script.write_text("import nowhere")
        refused = roost("reload", cwd=project)
        assert refused.code == 1
        assert "No module named 'nowhere'" in refused.err
        ws.send("hello")
        assert ws.recv(10) == "two hello"


def test_without_an_instance_there_is_nothing_to_reload(project, roost):
    assert "no Roost runs on .roost" in roost("reload", cwd=project).failed()
    assert not (project / ".roost").exists()
