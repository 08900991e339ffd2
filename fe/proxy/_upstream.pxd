# Connections to replicas and the pool they wait in between requests.
#
# Attributes are borrowed: whoever calls a method of an object that the call may let go of (a user of its connection, an
# exchange of its client) holds it in a variable of its own meanwhile.

from libc.stdint cimport int64_t, uint32_t

from fe._core cimport ReplicaAddress
from fe.proxy._chunked cimport ChunkDecoder
from fe.proxy._head cimport HeadLimits, HeadScan, ResponseHead
from fe.proxy._reactor cimport Channel, Reactor, Timed


cdef enum UpstreamFailure:
    FAILED_CONNECT      # refused, unreachable or not in time: nothing was sent
    FAILED_SILENT       # the connection ended before the first byte of an answer
    FAILED_CLOSED       # it ended within the answer's head
    FAILED_INVALID      # what came is not an HTTP answer to this request
    FAILED_TRUNCATED    # it ended, or broke its framing, within the body


cdef class UpstreamUser(Timed):
    # Whoever uses a connection to a replica. Pointers are valid during the call. With `last` the connection has gone
    # back to the pool, or was closed, before the call; after a failure it is closed.
    cdef int _on_connected(self) except -1
    cdef int _on_interim(self, ResponseHead response) except -1
    cdef int _on_response(self, ResponseHead response, const char* body, Py_ssize_t n, bint last) except -1
    cdef int _on_piece(self, const char* data, Py_ssize_t n, bint last) except -1
    cdef int _on_switched(self, ResponseHead response, const char* data, Py_ssize_t n) except -1
    cdef int _on_drained(self) except -1
    cdef int _on_upstream_failed(self, int failure, str problem) except -1


cdef class UpstreamConnection(Channel):
    cdef Pool pool
    cdef UpstreamUser user
    cdef uint32_t replica, incarnation
    cdef int state
    cdef int method                 # of the request in flight
    cdef bint websocket             # the request in flight asks for one
    cdef bint reused
    cdef bint request_open          # its request is not sent completely
    cdef bint spoken                # a byte of the answer has come
    cdef bint broken                # a write was refused: an end that looks clean is none
    cdef int interims
    cdef HeadScan scan
    cdef bytearray partial          # of a head that is not complete
    cdef ResponseHead response
    cdef bint told                  # the user has seen the head
    cdef int64_t left               # of a body of known length
    cdef ChunkDecoder decoder
    cdef void assign(self, UpstreamUser user, int method, bint websocket, bint request_open) noexcept
    cdef void abort(self) noexcept
    # its own
    cdef int _on_end(self, bint clean) except -1
    cdef int _fail(self, int failure, str problem) except -1
    cdef int _on_bytes(self, char* data, Py_ssize_t n) except -1
    cdef int _on_head_bytes(self, char* data, Py_ssize_t n, bytearray joined) except -1
    cdef int _on_head(self, ResponseHead response, char* data, Py_ssize_t n) except -1
    cdef int _on_body_bytes(self, char* data, Py_ssize_t n) except -1
    cdef int _on_chunked_bytes(self, char* data, Py_ssize_t n) except -1
    cdef int _pass_on(self, const char* data, Py_ssize_t n) except -1
    cdef int _finish(self, bint whole, const char* data, Py_ssize_t n) except -1


cdef class Pool:
    cdef Reactor reactor
    cdef list idle                  # by replica: None, or its idle connections, the latest used last
    cdef readonly int idle_count
    cdef HeadLimits limits
    cdef public int64_t connect_timeout_ns, idle_timeout_ns
    cdef public Py_ssize_t idle_most
    cdef UpstreamConnection take(self, uint32_t replica, uint32_t incarnation)
    cdef UpstreamConnection connect(self, uint32_t replica, ReplicaAddress* address, UpstreamUser user)
    cdef bint evict(self) noexcept
    # its own
    cdef int _put(self, UpstreamConnection connection) except -1
    cdef int _remove(self, UpstreamConnection connection) except -1
