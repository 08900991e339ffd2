"""A model server that computes nothing: `python -m loadtest.server`. How it takes its time, fails and counts is told.

Owns nothing itself. Read `options.py` for what it can be told, `replica.py` for what it counts, `connection.py` for
how a request is answered. Never imports locust, nor anything of fe: it runs wherever uvloop and httptools are.
"""
