"""What `fe check` looks at: whether fe-serve could do its work here, step by step, with the mend for what is wrong.

Owns: the checks. Never: a change of anything, nor arguments and output (`fe.commands.check`). Read `result` (what a
check says), `plan` (which there are, in order), then any of them: `local`, `replicas`, `cluster`, `rights`,
`front_ends`, `models`; `context` is what they share, `reach` how names and ports are tried.
"""
