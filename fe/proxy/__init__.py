"""The data plane: what a worker does to a request between the client's socket and the replica's.

Owns: HTTP on both sides, routing, credentials, fe's own answers, the access log. Never: configuration files, probes,
metrics pages, anything of `fe.control`. Read `_exchange.pyx` for a request's life and `_head.pxd` for what is parsed.
"""
