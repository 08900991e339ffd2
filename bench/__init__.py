"""Benchmarks: what fe costs, beside nginx and HAProxy in the same run. `python -m bench --help`; docs/benchmarks.md.

Read __main__.py (what is measured, in which order), then parties.py (who is measured), processes.py (how they run) and
result.py (what a figure is).
Each module below macro/ and micro/ has one function, `measure(context)`, that yields `Measure`s; nothing else knows how
they come about, and they know nothing of reports. Never part of the tests: a timing proves nothing there.
"""
