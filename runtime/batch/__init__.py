"""Streams of items through objects and functions: what `map` and `run` do, for all callers.

`pump` decides what is sent next, without I/O; `blocking` and `waiting` are its two shells, for plain
programs and for asyncio ones (worker scripts too). `checkpoint` makes a map go on after a crash.
"""
