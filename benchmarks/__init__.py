"""Roost's benchmarks: `python -m benchmarks` lists them, `python -m benchmarks NAME` runs one.

Each package in here is a benchmark, with its rivals beside it: the first line of its docstring says
what it measures, and `run(quick=...)` measures it. `TAKES` says how long that takes on two cores with
all rivals, `RIVALS` which packages the rivals are, and `PLOTTED` which results a plot shows (none: all
that have a rival). All of them print the same report.
"""
