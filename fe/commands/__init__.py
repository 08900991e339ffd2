"""The command `fe` and its subcommands.

Never: a part of fe-serve; what a command shows of a running one it asks of the admin server. Start with `main`, which
lists the commands; each stands in a module of its own that is imported only when it was asked for.
"""
