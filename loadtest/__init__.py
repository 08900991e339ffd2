"""Load tests that a user runs against an fe of their own: scenarios for locust, a simulated model server, a runner.

Owns nothing itself; docs/loadtest.md is the user's view. `python -m loadtest` runs a scenario (`__main__.py`),
`python -m loadtest.server` is the model server (`server/`), `locustfile.py` is what locust is given.
"""
