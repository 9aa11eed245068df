"""The words between the supervisor and everybody else: one packet each, over Unix sockets.

A packet is a verb and, after a space, text. Children have a socketpair each; clients connect to the
`control` socket in the run directory. The end of the connection is news too: the other side died.

| verb | from | meaning |
|---|---|---|
| look | supervisor | the roster has changed |
| gone NAME | supervisor | this caller is no more |
| leave | supervisor | take no new work, and say when there is none left; to a client: bring none |
| stop | supervisor | there is no more work: close and exit |
| up NAME | host, gateway | ready for work, and the name by which it calls hosts |
| failed TEXT | host, gateway, supervisor | cannot start, or go on, and why |
| give SLOT | supervisor | let no event of a slot's objects begin, and close it when none is under way |
| gave SLOT | host | it is closed |
| kept SLOT TEXT | host | it is not, and why: what is called there goes on |
| moved SLOT | supervisor | the slot table says whose a slot is that was given |
| idle, busy | host | whether work is under way, while leaving |
| hello NAME | client | the name by which it calls hosts |
| welcome | supervisor | the instance is ready |
| reload | watcher, client | the script has changed: replace the hosts |
| reloaded TEXT | supervisor | they are replaced, or why not |
| move NUMBER SLOT HOST | client | have a host own a slot |
| moved NUMBER TEXT | supervisor | it does, or why not |
| finish | client | stop the whole instance |
"""

from __future__ import annotations

import os
import socket

LONGEST = 65_536
"""Bytes a packet may have; longer text is cut."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a child's connection."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def listen(path: str) -> socket.socket:
    """Listen for clients. The directory above keeps strangers out."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o600)  # noqa: PTH101
    listener.listen(64)
    return listener


def connect(path: str) -> socket.socket:
    """Connect to the supervisor. Raises OSError when there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def say(connection: socket.socket, verb: str, text: str = "") -> bool:
    """Send a packet; returns False when the other side is gone or does not listen."""
    packet = f"{verb} {text}".encode(errors="backslashreplace")[:LONGEST]
    try:
        connection.send(packet, socket.MSG_NOSIGNAL)
    except OSError:
        return False
    return True


def hear(connection: socket.socket) -> tuple[str, str] | None:
    """Take a packet: (verb, text); None when the other side is gone.

    On a socket that does not block, raises BlockingIOError when there is none.
    """
    try:
        try:
            packet = connection.recv(LONGEST)
        except ConnectionResetError:  # it ended with something unread; its last words are here
            packet = connection.recv(LONGEST)
    except ConnectionError:
        return None
    if not packet:
        return None
    verb, _, text = packet.decode(errors="replace").partition(" ")
    return verb, text
