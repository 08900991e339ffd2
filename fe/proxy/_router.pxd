# Which endpoint a request is for, and which of its deployments: look-ups in what is built once per configuration.

from libc.stdint cimport int64_t, uint32_t

from fe.proxy._head cimport KIND_PINNED, RequestHead


cdef class Deployment:
    cdef readonly str name
    cdef readonly str full_name            # "endpoint/deployment"
    cdef readonly bytes header_line        # b"azureml-model-deployment: <name>\r\n"
    cdef readonly uint32_t index           # of its record in the lease table
    cdef readonly uint32_t generation
    cdef readonly int64_t capacity         # per replica; 0: no limit
    cdef readonly int64_t request_timeout_ns
    cdef readonly int64_t queue_wait_ns
    cdef readonly int64_t cold_start_ns    # how long to wait for the first replica; 0: not at all
    cdef readonly int64_t abandon_timeout_ns
    cdef readonly int64_t max_body_bytes
    cdef readonly bint finish              # on_disconnect: finish (else abort)
    cdef readonly bint retry_on_reset
    cdef readonly bint websocket


cdef class Endpoint:
    cdef readonly str name
    cdef readonly bint needs_key           # auth_mode key: check with fe.proxy._auth.key_matches
    cdef readonly tuple key_digests
    cdef readonly tuple deployments
    cdef readonly int64_t max_body_bytes   # the largest of its deployments'
    cdef dict by_name                      # bytes -> Deployment
    cdef tuple table                       # 100 places, shuffled; None: no traffic
    cdef tuple mirrors                     # 100 deployments or None, shuffled; None: no mirroring
    cdef uint32_t position
    cdef uint32_t mirror_position

    # The deployment asked for by name (None when there is none of that name), else the next by traffic (None: all 0).
    cdef Deployment choose(self, RequestHead head)
    # Where this request is to be copied to, or None.
    cdef Deployment mirror(self)


cdef class Prefixes:
    cdef dict by_prefix                    # bytes without a slash at the end -> Endpoint
    cdef Py_ssize_t longest

    cdef int add(self, str prefix, Endpoint endpoint) except -1
    cdef Endpoint find(self, const char* path, Py_ssize_t n)


cdef class Router:
    cdef readonly tuple endpoints
    cdef dict by_name                      # bytes -> Endpoint
    cdef dict by_host                      # bytes, lower case, without a port -> Prefixes
    cdef Prefixes any_host

    # Sets head.upstream_target. None: 404.
    cdef Endpoint route(self, RequestHead head)
    cdef Endpoint route_by_name(self, RequestHead head, Py_ssize_t start)
