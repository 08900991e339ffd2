"""Which endpoint a request is for, and which of its deployments.

Owns: the AzureML scoring URIs, configured routes, the walk through the traffic table. Never: normalising anything (what
is looked up is what is forwarded, byte for byte, so no second spelling of a path can pass a rule by), leases, replicas.
Built whole from a snapshot; a request only looks things up. Read `fe/model.py` Snapshot for the source.
"""

import random

cimport cython
from libc.string cimport memcmp

from fe.proxy._head cimport RequestHead, span_bytes, span_start

cdef enum:
    TABLE = 100
    MS = 1000000

cdef const char* ENDPOINT_URI = b"/api/v1/endpoint/"
cdef const char* SERVICE_URI = b"/api/v1/service/"


@cython.final
cdef class Deployment:
    """A deployment as a worker uses it; all fields are constant."""

    def __cinit__(self, str endpoint, view):
        self.name = view.name
        self.full_name = f"{endpoint}/{view.name}"
        self.header_line = f"azureml-model-deployment: {view.name}\r\n".encode()
        self.index = view.index
        self.generation = view.generation
        self.capacity = view.capacity
        self.request_timeout_ns = view.request_timeout_ms * MS
        self.queue_wait_ns = view.max_queue_wait_ms * MS
        self.cold_start_ns = view.cold_start_timeout_ms * MS
        self.abandon_timeout_ns = view.abandon_timeout_ms * MS
        self.max_body_bytes = view.max_body_bytes
        self.finish = view.on_disconnect == "finish"
        self.retry_on_reset = view.retry_on_reset
        self.websocket = view.websocket


cdef list _shuffled(dict by_name, traffic):
    """100 places, shared out by percent, in random order: walking through them splits traffic evenly."""
    places = []
    for name, percent in traffic.items():
        places += [by_name[name.encode()]] * percent
    places = places[:TABLE]
    places += [None] * (TABLE - len(places))
    random.shuffle(places)
    return places


@cython.final
cdef class Endpoint:
    """An endpoint; `choose` and `mirror` move its position in the traffic tables."""

    def __cinit__(self, view):
        self.name = view.name
        self.needs_key = view.auth_mode != "none"
        self.key_digests = tuple(view.key_digests)
        self.deployments = tuple([Deployment(view.name, deployment) for deployment in view.deployments])
        self.max_body_bytes = max([deployment.max_body_bytes for deployment in view.deployments], default=0)
        self.by_name = {deployment.name.encode(): deployment for deployment in self.deployments}
        self.table = self.mirrors = None
        if any(view.traffic.values()):
            self.table = tuple(_shuffled(self.by_name, view.traffic))
        if any(view.mirror_traffic.values()):
            self.mirrors = tuple(_shuffled(self.by_name, view.mirror_traffic))
        self.position = random.randrange(TABLE)
        self.mirror_position = random.randrange(TABLE)

    cdef Deployment choose(self, RequestHead head):
        if head.pinned.length or head.fields.seen[KIND_PINNED]:
            return self.by_name.get(span_bytes(head.raw, head.pinned))
        if self.table is None:
            return None
        self.position = self.position + 1 if self.position + 1 < TABLE else 0
        return self.table[self.position]

    cdef Deployment mirror(self):
        if self.mirrors is None:
            return None
        self.mirror_position = self.mirror_position + 1 if self.mirror_position + 1 < TABLE else 0
        return self.mirrors[self.mirror_position]

    def chosen(self, RequestHead head):
        """`choose` for tests and tools."""
        return self.choose(head)

    def mirrored(self):
        """`mirror` for tests and tools."""
        return self.mirror()


@cython.final
cdef class Prefixes:
    """The routes of one host. `longest` bounds the look-ups, whatever path a client sends."""

    def __cinit__(self):
        self.by_prefix = {}

    cdef int add(self, str prefix, Endpoint endpoint) except -1:
        raw = prefix.encode().rstrip(b"/")
        self.by_prefix.setdefault(raw, endpoint)
        self.longest = max(self.longest, len(raw))
        return 0

    cdef Endpoint find(self, const char* path, Py_ssize_t n):
        """The endpoint of the longest prefix that ends where a segment of the path does."""
        cdef Py_ssize_t end = n if n < self.longest else self.longest
        while end > 0:
            if end == n or path[end] == c'/':
                endpoint = self.by_prefix.get(path[:end])
                if endpoint is not None:
                    return endpoint
            end -= 1
        return self.by_prefix.get(b"")


@cython.final
cdef class Router:
    """All endpoints of a snapshot, by name and by route."""

    def __cinit__(self, snapshot):
        cdef Prefixes prefixes
        self.endpoints = tuple([Endpoint(view) for view in snapshot.endpoints])
        self.by_name = {endpoint.name.encode(): endpoint for endpoint in self.endpoints}
        self.by_host = {}
        self.any_host = Prefixes()
        for view, endpoint in zip(snapshot.endpoints, self.endpoints, strict=True):
            for route in view.routes:
                prefixes = self.any_host
                if route.host is not None:
                    prefixes = self.by_host.setdefault(route.host.encode().lower(), Prefixes())
                prefixes.add(route.path_prefix, endpoint)

    cdef Endpoint route(self, RequestHead head):
        cdef const char* path = head.target
        cdef Py_ssize_t n = head.path_length
        cdef Endpoint endpoint
        if n > 8 and memcmp(path, b"/api/v1/", 8) == 0:
            if n >= 17 and memcmp(path + 8, b"endpoint/", 9) == 0:
                return self.route_by_name(head, 17)
            if n >= 16 and memcmp(path + 8, b"service/", 8) == 0:
                return self.route_by_name(head, 16)
        if self.by_host and head.host_length > 0:
            prefixes = self.by_host.get(span_start(head.raw, head.host)[:head.host_length].lower())
            if prefixes is not None:
                endpoint = (<Prefixes>prefixes).find(path, n)
                if endpoint is not None:
                    return endpoint
        return self.any_host.find(path, n)

    cdef Endpoint route_by_name(self, RequestHead head, Py_ssize_t start):
        """/api/v1/endpoint/<name>/<rest> -> /<rest>, without a rest `/`. An unknown name is no other route's."""
        cdef const char* target = head.target
        cdef Py_ssize_t end = start
        while end < head.path_length and target[end] != c'/':
            end += 1
        endpoint = self.by_name.get(target[start:end])
        if endpoint is not None:
            if end == head.path_length:
                head.upstream_target = b"/" + head.target[end:]
            else:
                head.upstream_target = target[end:len(head.target)]
        return endpoint

    def routed(self, RequestHead head):
        """`route` for tests and tools."""
        return self.route(head)
