"""The host: a process that owns slots and runs their objects, and runs stateless calls.

`process` is its life, `host` takes and sends messages, `catalog` holds the activations, `activation`
is one object with its gates, `turns` runs code, `commits` makes what it wrote durable.
"""
