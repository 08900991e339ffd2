"""fe: an inference router.

Start with `fe.cli` (the command), then `fe.supervisor` (the processes), `fe._core` (the lease table they share),
`fe.proxy` (the data plane) and `fe.control` (the control plane). docs/architecture.md has the picture.
"""

__version__ = "0.1.0"
