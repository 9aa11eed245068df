"""Roost's benchmarks: `python -m benchmarks` lists them, `python -m benchmarks NAME` runs one.

Each package in here is a benchmark, with its rivals beside it: the first line of its docstring says
what it measures, and `run(quick=...)` measures it. All of them print the same report.
"""
