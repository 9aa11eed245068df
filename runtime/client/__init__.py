"""What a program uses to reach an instance: its own, or one that runs already.

`Runtime` and `AsyncRuntime` start one and end it; `connect` and `aconnect` find one. Both speak to
hosts directly; a blocking call has a way of its own (`lane`), everything else goes through a loop.
"""
