# The worker's own readiness loop: channels over non-blocking sockets, deadlines, one receive buffer.
# What each method promises stands in _reactor.pyx.

from libc.stdint cimport int64_t, uint32_t
from posix.uio cimport iovec


cdef struct Deadline:
    Deadline* prev
    Deadline* next
    int64_t due_ns          # when it shall fire; 0: not at all
    int64_t bucket_ns       # the time of the bucket it is linked into; 0: not linked
    void* owner             # a Timed, borrowed: unlinked when that dies


cdef class Timed:
    cdef Deadline deadline
    cdef Reactor reactor
    cdef void expire_at(self, int64_t due_ns) noexcept
    cdef int _on_deadline(self, int64_t now_ns) except -1
    cdef int _on_fault(self) except -1


cdef class Channel(Timed):
    cdef int fd                     # -1 once closed
    cdef uint32_t generation        # against events of a descriptor number that was closed and reused in one batch
    cdef bint readable              # the kernel may have bytes (or an end) for us
    cdef bint paused                # whoever consumes has asked for no more
    cdef bint queued                # stands in the reactor's list of channels to read again
    cdef bint peer_gone             # FIN or RST was seen
    cdef char* out                  # what the kernel did not take yet: out[out_start:out_end]
    cdef Py_ssize_t out_start, out_end, out_size
    cdef int open(self, Reactor reactor, int fd, bint connected) except -1
    cdef void close(self) noexcept
    cdef void reset(self) noexcept
    cdef void pause(self) noexcept
    cdef void resume(self) noexcept
    cdef Py_ssize_t receive(self) noexcept
    cdef int send(self, iovec* pieces, int count) except -1
    cdef int send_bytes(self, bytes data) except -1
    cdef Py_ssize_t pending(self) noexcept
    cdef Py_ssize_t untaken(self) noexcept
    cdef Py_ssize_t unsent(self) noexcept
    cdef int _on_readable(self) except -1
    cdef int _on_writable(self) except -1
    cdef int _on_peer_gone(self) except -1
    cdef int _on_failed(self) except -1


cdef class Listening:
    cdef int fd
    cdef readonly object socket     # keeps the descriptor open
    cdef bint watched


cdef class Reactor:
    cdef readonly int epoll_fd
    cdef int timer_fd, wake_fd
    cdef bint fast                  # requests are under way, or were a moment ago
    cdef bint leaving               # only the outer loop waits
    cdef int64_t now_ns             # CLOCK_MONOTONIC at the start of this pass
    cdef int64_t quiet_since_ns
    cdef char* buffer               # the one receive buffer: valid until the next receive
    cdef void** channels            # by descriptor: PyObject* of the Channel, owned; grows as numbers do
    cdef int channels_size
    cdef uint32_t next_generation
    cdef readonly int open_count    # channels open now
    cdef readonly int open_limit    # descriptors that may be open for channels
    cdef list again                 # channels to be read in this pass or the next
    cdef Deadline* buckets
    cdef int64_t swept_ns           # every bucket up to here has been looked at
    cdef int64_t sweep_to_ns        # deadlines up to here are due, once all news of this time has been seen; 0: none
    cdef int sweep_passes           # batches of events that are left for that
    cdef tuple listenings
    cdef Passing passing
    cdef int watch(self, Channel channel) except -1
    cdef void forget(self, Channel channel) noexcept
    cdef void link(self, Deadline* deadline) noexcept
    cdef void hurry(self) noexcept
    # its own
    cdef int _add(self, int fd, uint32_t kind, uint32_t events) except -1
    cdef void _set_tick(self, bint fast) noexcept
    cdef int _sweep_when_all_is_seen(self, int count) except -1
    cdef int _sweep(self, int64_t to_ns) except -1
    cdef void _wake(self) noexcept
    cdef bint _pass(self, int wait_ms) except -1
    cdef int _make_room(self, int fd) except -1
    cdef Channel _meant_for(self, int fd, uint32_t generation)
    cdef int _note(self, int fd, uint32_t generation, uint32_t events) except -1
    cdef int _dispatch(self, int fd, uint32_t generation, uint32_t events) except -1
    cdef int _on_ticked(self) except -1
    cdef int _read_again(self) except -1
    cdef int _on_handler_fault(self, Timed owner) except -1


cdef class Passing:
    # what the data plane does around the channels' own events
    cdef int _on_accept(self, Listening listening) except -1
    cdef int _on_pass(self) except -1
    cdef int _on_tick(self, int64_t now_ns) except -1
    cdef void _on_closed(self, Channel channel) noexcept


cdef enum:
    RECEIVE_BYTES = 65536
