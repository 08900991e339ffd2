"""Where replicas come from: one interface and its kinds.

Owns: `base` (what a provider is told and what it may do), `static` (configured addresses, names resolved), `process`
(commands run on this machine, through `local`). Never: the lease table, probes.
"""
