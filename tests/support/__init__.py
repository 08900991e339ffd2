"""What the tests stand on: processes, back-ends, clients and an HTTP parser of their own.

Never imports fe itself: what is judged must not be the judge.
"""
