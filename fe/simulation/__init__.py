"""What a deployment would do under a load: the real decision (`fe.control.autoscaler`), the rest simulated.

Never: a socket, a process, the time of day. Start with `run` (the clockwork); `loads` and `draws` say what arrives and
how long it takes, `outcome` what is kept of it, `chart` draws that. `fe._simulator` is the inner loop, and
`fe.commands.simulate` the command.
"""
