"""fe in a cluster: the API server is asked, watched and written to from here, and from nowhere else.

Owns: everything that speaks to Kubernetes. Never: anything on a request's path. The official package is imported by
`access` alone, when the first call is made, since it costs the controller 21 MB. Read `client` (one call), `watch` (a
list kept current), `election` (one of several front-ends leads), `siblings` (which front-ends there are); then `hub`,
which puts all of it together: `view` (what is seen), `served` (objects into configuration), `targets`, `pods`, `scale`.
"""
