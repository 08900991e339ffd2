"""The configuration: the typed model (`schema`), how it is read (`load`), and what becomes of it (`snapshot`).

Never: anything a request waits for; workers see only the published `fe.model.Snapshot`. Read `schema` first.
Nothing is imported here, so that a process takes only the part that it needs: `load` brings the YAML parser.
"""
