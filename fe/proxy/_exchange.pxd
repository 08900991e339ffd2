# One request on its way: from the lease to the last byte of the answer.

from libc.stdint cimport int64_t, uint32_t
from posix.uio cimport iovec

from fe._core cimport DeploymentState, Holder, Outcome as Grant, Table
from fe.proxy._build cimport Peer
from fe.proxy._head cimport HeadLimits, RequestHead, ResponseHead
from fe.proxy._reactor cimport Channel, Passing, Reactor
from fe.proxy._router cimport Deployment, Endpoint, Router
from fe.proxy._upstream cimport Pool, UpstreamConnection, UpstreamUser


cdef enum Outcome:
    # what a client's methods return
    TAKEN = 0
    BLOCKED = 1      # taken, but send no more before `Exchange.on_client_drained`
    LOST = -2        # the client is gone; nothing is called back


cdef class Client(Channel):
    # The client's connection, as an exchange sees it. None of these calls back into the exchange, but for
    # `_on_body_wanted`, which feeds it.
    cdef Peer peer
    cdef int _on_body_wanted(self) except -1
    cdef int _on_interim(self, bytes head) except -1
    cdef int _on_answer(self, bytes data, bint last, bint close) except -1
    cdef int _on_answer_piece(self, iovec* pieces, int count, bint last) except -1
    cdef int _on_switched(self, bytes data) except -1
    cdef int _on_refused(self, object answer, str detail) except -1
    cdef int _on_broken(self, bint by_reset) except -1


cdef class Proxy(Passing):
    # what all exchanges of a worker share
    cdef readonly Reactor reactor
    cdef readonly Table table
    cdef readonly Holder holder
    cdef readonly Router router
    cdef readonly Pool pool
    cdef HeadLimits limits
    cdef public object access_log       # None: no access lines
    cdef bint log_json
    cdef readonly bint draining
    cdef int64_t header_timeout_ns, idle_timeout_ns, body_timeout_ns, write_timeout_ns
    cdef int64_t body_min_bytes, collect_bytes
    cdef int64_t waiting_bytes          # of streamed bodies, held while they wait for a lease
    cdef list waiting                   # by slot: the exchange that waits for a lease there
    cdef list starved                   # exchanges without a descriptor for their connection
    cdef readonly int in_flight         # exchanges whose clients have not their answer yet
    cdef int _collect(self) except -1
    cdef int _tell(self, Exchange exchange, Grant* grant) except -1


cdef class Exchange(UpstreamUser):
    cdef Proxy proxy
    cdef Client client                  # None: gone, or a mirrored request
    cdef RequestHead head
    cdef Peer peer
    cdef Endpoint endpoint
    cdef Deployment deployment
    cdef bytes request_id
    cdef bytes body                     # collected; None with `streamed`
    cdef bint streamed                  # the body is fed piece by piece
    cdef int64_t body_length            # of a streamed body; UPSTREAM_CHUNKED when unknown
    cdef int phase
    cdef bint leased, mirrored, fresh, answered, accounted
    cdef bint cold                      # waits, or has waited, for the first replica
    cdef int64_t place_until_ns         # until when a place is waited for
    cdef bint met                       # `state` and `waited_ns` are what was met when the request was refused
    cdef DeploymentState state
    cdef int64_t waited_ns
    cdef int attempts
    cdef uint32_t slot, replica, incarnation
    cdef UpstreamConnection upstream
    cdef ResponseHead response
    cdef int status, replica_status
    cdef str reason
    cdef int64_t started_ns, asked_ns, leased_ns, answered_ns
    cdef int64_t request_bytes, response_bytes
    cdef int start(self) except -1
    cdef int feed(self, const char* data, Py_ssize_t n, bint last) except -1
    cdef int on_client_gone(self) except -1
    cdef int on_client_drained(self) except -1
    cdef int refuse_request(self, object answer) except -1
    cdef int _on_granted(self, uint32_t replica) except -1
    cdef int end_waiting(self) except -1
    cdef int _on_expired(self) except -1
    cdef int _reach(self) except -1
    # its own
    cdef int _ask(self, int64_t deadline_ns)
    cdef bint _find_again(self)
    cdef int64_t _cold_until(self)
    cdef int64_t _patience(self)
    cdef int _on_asked(self, int result, int64_t deadline_ns) except -1
    cdef int _refuse_for(self, int result) except -1
    cdef void _look(self)
    cdef str _limit(self)
    cdef int _on_lease(self) except -1
    cdef int _send(self) except -1
    cdef int _on_told(self, int outcome, bint last) except -1
    cdef void _expect_more(self) noexcept
    cdef bint _may_repeat(self)
    cdef int _on_unreachable(self, str problem) except -1
    cdef int _break_off(self, str reason) except -1
    cdef int _refuse(self, object answer, str detail=*) except -1
    cdef int _leave(self, int status, str reason) except -1
    cdef int _drop(self) except -1
    cdef void _give_back(self) noexcept
    cdef int _on_unheard(self, int status, bint last) except -1
    cdef int _end(self, int status, str reason) except -1
    cdef int _close_books(self) except -1
    cdef int _account(self, int status, str reason) except -1
    cdef int64_t _waited(self, int64_t now)
    cdef int _write_line(self, int64_t now) except -1

cdef int mirror(Exchange original) except -1
cdef void count_status(Holder holder, uint32_t record, int status) noexcept
cdef void count_reason(Holder holder, uint32_t record, str reason) noexcept
