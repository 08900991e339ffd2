"""The control plane: everything that is not on a request's path, in the one controller process.

Owns: what exists and how much it may carry (deployments, replicas, readiness), the published snapshot, probes, metrics
and the admin server. Never: requests, and no import of `fe.proxy`. Start with `plane` (the wiring), then `reconciler`
(configuration to table), `deployment` (one deployment's replicas), `providers`, `health`. The process around it is
`fe.controller`.
"""
