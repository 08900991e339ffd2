# Client connections.

from libc.stdint cimport int64_t

from fe.proxy._chunked cimport ChunkDecoder
from fe.proxy._exchange cimport Client, Exchange, Proxy
from fe.proxy._head cimport HeadScan, RequestHead
from fe.proxy._router cimport Deployment, Endpoint


cdef class Downstream(Client):
    cdef Proxy proxy
    cdef Exchange exchange          # None between requests
    cdef RequestHead head
    cdef bytes request_id
    cdef int state
    cdef HeadScan scan
    cdef bytearray held             # bytes that came and are not consumed yet
    cdef bint replay                # `held` can be consumed now
    cdef bytearray body             # what is collected so far
    cdef int64_t body_left          # of a body of known length
    cdef int64_t body_bytes         # of a body so far
    cdef int64_t body_mark          # body_bytes when the body's deadline was last set
    cdef ChunkDecoder decoder
    cdef bint body_done
    cdef bint continue_due          # the client waits for 100 Continue
    cdef bint close_after
    cdef int64_t started_ns         # of the request, at its first byte
    cdef Py_ssize_t out_mark        # output not taken when the write deadline was last set; 0: none is waited for
    cdef int64_t lingered           # bytes thrown away
    cdef Py_ssize_t waited          # bytes held while waiting for a lease, as counted in Proxy.waiting_bytes
    cdef int start(self, int fd) except -1
    cdef int on_drain(self) except -1
    cdef void cut_off(self) noexcept
    # its own
    cdef int _consume(self, char* data, Py_ssize_t n, bytearray owner) except -1
    cdef Py_ssize_t _read_head(self, char* data, Py_ssize_t n) except -1
    cdef int _refuse_head(self, RequestHead head, int status, str problem) except -1
    cdef int _on_head(self, RequestHead head) except -1
    cdef int _build_exchange(self, Endpoint endpoint, Deployment deployment) except -1
    cdef int _begin(self, bytes body) except -1
    cdef int _begin_streamed(self, int64_t length) except -1
    cdef int _check_gone(self) except -1
    cdef void _hold_waiting(self) noexcept
    cdef void _leave_waiting(self) noexcept
    cdef int _send_continue(self) except -1
    cdef Py_ssize_t _read_body(self, char* data, Py_ssize_t n) except -1
    cdef Py_ssize_t _decode(self, char* data, Py_ssize_t n, Py_ssize_t* size) noexcept
    cdef int _collect(self, const char* data, Py_ssize_t n) except -1
    cdef int _stream(self, const char* data, Py_ssize_t n) except -1
    cdef void _go_on(self) noexcept
    cdef int _on_bad_body(self, object answer) except -1
    cdef int _on_discarded(self) except -1
    cdef int _on_sent(self, int outcome, bint last) except -1
    cdef void _expect_taking(self) noexcept
    cdef int _refuse(self, object answer, Endpoint endpoint, Deployment deployment, str message=*) except -1
    cdef int _write_line(self, object answer, str endpoint, str deployment) except -1
    cdef int _answer(self, object answer, str name, Deployment deployment, str message, str detail) except -1
    cdef int _next(self) except -1
    cdef int _shut(self) except -1
    cdef int _on_lingered(self, Py_ssize_t n) except -1
    cdef int _on_gone(self) except -1
    cdef int _on_body_deadline(self, int64_t now_ns) except -1
    cdef int _on_stuck(self) except -1
