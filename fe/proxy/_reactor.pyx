# The worker's readiness loop: one epoll set, nested as a single descriptor in the worker's uvloop loop.
#
# Owns: every client and replica socket (`Channel`), deadlines (`Deadline`, a coarse wheel), the one receive buffer.
# Never: HTTP, leases, configuration. It calls up through the virtual methods of Channel, Timed and Passing only.
#
# Why not the loop's own transports: a paused transport sees neither FIN nor RST, copies every read into its own object
# and cannot reset or half-close on purpose. Here a socket is registered once, edge-triggered, and a request on kept
# connections costs its reads and writes and nothing else.
#
# Three rules keep it sound. A channel is read from `turn` alone, never from within another channel's handler, because
# all share one buffer: whoever wants more calls `resume`. A handler may close any channel at any time: events carry the
# generation of the channel they were meant for. And what a batch of events says is noted on all its channels before the
# first handler runs: a handler that looks at another channel sees its end as soon as the kernel has told of it.
# Next: _upstream.pyx and _downstream.pyx, the channels; _exchange.pyx, what goes on between them.

import logging
import resource

from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset
from posix.types cimport time_t
from posix.unistd cimport close as c_close, read as c_read, write as c_write

from fe._core cimport monotonic_ns

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)
    int epoll_wait(int epfd, epoll_event* events, int most, int timeout)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET

cdef extern from "<sys/timerfd.h>" nogil:
    struct timespec:
        time_t tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, itimerspec* new_value, itimerspec* old_value)
    enum:
        TFD_NONBLOCK
        TFD_CLOEXEC

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    enum:
        EFD_NONBLOCK
        EFD_CLOEXEC

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ
        SIOCOUTQNSD

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    struct linger:
        int l_onoff
        int l_linger
    ssize_t c_recv "recv"(int fd, void* buffer, size_t length, int flags)
    ssize_t c_send "send"(int fd, const void* data, size_t length, int flags)
    ssize_t c_sendmsg "sendmsg"(int fd, msghdr* message, int flags)
    int setsockopt(int fd, int level, int option, void* value, uint32_t length)
    enum:
        MSG_NOSIGNAL
        MSG_DONTWAIT
        SOL_SOCKET
        SO_LINGER

log = logging.getLogger("fe.worker")

cdef enum:
    # generations below FIRST_CHANNEL name what is not a channel
    LISTENING = 0
    TIMER = 1
    WAKE = 2
    MAIL = 3
    FIRST_CHANNEL = 16
    EVENTS = 256            # taken from the kernel at once
    WAIT_MS = 50            # for events; the timer's tick comes long before
    BUCKETS = 1024
    SPARE_OUT = 4096        # an emptied output buffer above this is given back
    FIRST_ROOM = 1024       # descriptors that the table of channels has room for at first
    MOST_OPEN = 1 << 30     # whatever the limit on descriptors says

    GONE = EPOLLRDHUP | EPOLLHUP | EPOLLERR

cdef int64_t TICK_NS = 10_000_000           # resolution of a deadline while requests are under way
cdef int64_t IDLE_TICK_NS = 100_000_000     # and while there are none
cdef int64_t QUIET_NS = 2_000_000_000       # without a request for this long: the idle tick
cdef int64_t HORIZON_NS = (BUCKETS - 2) * TICK_NS


cdef class Timed:
    """Something with one deadline. `_on_deadline` is called once it has passed, at the next tick, never early."""

    def __dealloc__(self):
        unlink(&self.deadline)

    cdef void expire_at(self, int64_t due_ns) noexcept:
        # A later time than before costs one store: the bucket it stands in puts it off when its turn comes.
        self.deadline.due_ns = due_ns
        if due_ns != 0 and (self.deadline.bucket_ns == 0 or due_ns + TICK_NS < self.deadline.bucket_ns):
            unlink(&self.deadline)
            self.deadline.owner = <void*> self
            self.reactor.link(&self.deadline)

    cdef int _on_deadline(self, int64_t now_ns) except -1:
        return 0

    cdef int _on_fault(self) except -1:
        """One of its handlers raised, which is a fault of fe: everything it holds has to be given back."""
        return 0


cdef inline void unlink(Deadline* deadline) noexcept nogil:
    if deadline.bucket_ns != 0:
        deadline.prev.next = deadline.next
        deadline.next.prev = deadline.prev
        deadline.bucket_ns = 0


cdef class Channel(Timed):
    """A connected (or connecting) non-blocking stream socket in the reactor's hands."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)
        free(self.out)

    cdef int open(self, Reactor reactor, int fd, bint connected) except -1:
        """Takes `fd` over. A connecting socket reports through `_on_writable`, or `_on_failed`."""
        self.reactor = reactor
        self.fd = fd
        try:
            return reactor.watch(self)
        except BaseException:
            self.fd = -1
            c_close(fd)
            raise

    cdef void close(self) noexcept:
        """Closes now; unsent output is lost. Safe at any time and more than once."""
        cdef int fd = self.fd
        if fd < 0:
            return
        self.fd = -1
        self.deadline.due_ns = 0
        unlink(&self.deadline)
        free(self.out)
        self.out = NULL
        self.out_start = self.out_end = self.out_size = 0
        self.reactor.channels[fd] = NULL
        c_close(fd)
        self.reactor.forget(self)

    cdef void reset(self) noexcept:
        """Closes with a RST, so that the peer cannot take what it got for the whole."""
        cdef linger option
        if self.fd >= 0:
            option.l_onoff = 1
            option.l_linger = 0
            setsockopt(self.fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option))
            self.close()

    cdef void pause(self) noexcept:
        self.paused = True

    cdef void resume(self) noexcept:
        """Asks for what the kernel holds; it is read by `turn`, never from here."""
        self.paused = False
        if self.readable and not self.queued and self.fd >= 0:
            self.queued = True
            self.reactor.again.append(self)

    cdef Py_ssize_t receive(self) noexcept:
        """Reads into `reactor.buffer`: bytes read, 0 at the end, -1 nothing there, -2 the connection is broken."""
        cdef ssize_t n
        while True:
            n = c_recv(self.fd, self.reactor.buffer, RECEIVE_BYTES, MSG_DONTWAIT)
            if n >= 0 or errno != EINTR:
                break
        if n > 0:
            # Fewer than asked for: drained, and the next byte makes a new edge - unless the end was announced already.
            if n < RECEIVE_BYTES and not self.peer_gone:
                self.readable = False
            return n
        self.readable = False
        if n == 0:
            self.peer_gone = True
            return 0
        return -1 if errno == EAGAIN else -2

    cdef int send(self, iovec* pieces, int count) except -1:
        """Writes the pieces in order: 0 all gone, 1 a rest is kept and goes on by itself (`_on_writable` tells when it
        has gone), -2 the connection is broken (nothing is called back; the caller decides)."""
        cdef msghdr message
        cdef ssize_t sent = 0
        cdef int i
        if self.fd < 0:
            return -2
        if self.out_end == self.out_start:
            memset(&message, 0, sizeof(message))
            message.msg_iov = pieces
            message.msg_iovlen = count
            while True:
                sent = c_sendmsg(self.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
                if sent >= 0 or errno != EINTR:
                    break
            if sent < 0:
                if errno != EAGAIN:
                    return -2
                sent = 0
        for i in range(count):
            if sent >= <ssize_t> pieces[i].iov_len:
                sent -= <ssize_t> pieces[i].iov_len
                continue
            keep(self, <const char*> pieces[i].iov_base + sent, <Py_ssize_t> pieces[i].iov_len - sent)
            sent = 0
        return 1 if self.out_end > self.out_start else 0

    cdef int send_bytes(self, bytes data) except -1:
        """As `send`, for one piece; the kernel takes it a little quicker this way."""
        cdef ssize_t sent = 0
        if self.fd < 0:
            return -2
        if self.out_end == self.out_start:
            while True:
                sent = c_send(self.fd, <char*> data, len(data), MSG_NOSIGNAL | MSG_DONTWAIT)
                if sent >= 0 or errno != EINTR:
                    break
            if sent == len(data):
                return 0
            if sent < 0:
                if errno != EAGAIN:
                    return -2
                sent = 0
        keep(self, <char*> data + sent, len(data) - sent)
        return 1

    cdef Py_ssize_t pending(self) noexcept:
        return self.out_end - self.out_start

    cdef Py_ssize_t untaken(self) noexcept:
        """What the peer has not taken yet, here and in the kernel. The kernel asks for more in large steps only: on the
        pending bytes alone a slow peer looks like one that takes nothing."""
        cdef int queued = 0
        ioctl(self.fd, SIOCOUTQ, &queued)
        return self.out_end - self.out_start + queued

    cdef Py_ssize_t unsent(self) noexcept:
        """What has not left for the peer yet, because it does not read: an end sent now would stay behind it."""
        cdef int queued = 0
        ioctl(self.fd, SIOCOUTQNSD, &queued)
        return self.out_end - self.out_start + queued

    cdef int _on_readable(self) except -1:
        return 0

    cdef int _on_writable(self) except -1:
        return 0

    cdef int _on_peer_gone(self) except -1:
        return 0

    cdef int _on_failed(self) except -1:
        self.close()
        return 0

    cdef int _on_fault(self) except -1:
        self._on_failed()
        self.close()
        return 0


cdef int keep(Channel self, const char* data, Py_ssize_t n) except -1:
    """Appends to what waits for the socket to take more."""
    cdef Py_ssize_t used = self.out_end - self.out_start
    cdef Py_ssize_t size = self.out_size
    cdef char* grown
    if self.out_end + n > size:
        if self.out_start:
            memmove(self.out, self.out + self.out_start, used)
            self.out_start = 0
            self.out_end = used
        if used + n > size:
            size = max(used + n, 2 * size)
            grown = <char*> realloc(self.out, size)
            if grown == NULL:
                raise MemoryError
            self.out = grown
            self.out_size = size
    memcpy(self.out + self.out_end, data, n)
    self.out_end += n
    return 0


cdef int flush(Channel self) except -1:
    """Sends what was kept: 0 all gone, 1 a rest remains, -2 broken."""
    cdef iovec piece
    cdef msghdr message
    cdef ssize_t sent
    memset(&message, 0, sizeof(message))
    message.msg_iov = &piece
    message.msg_iovlen = 1
    while self.out_start < self.out_end:
        piece.iov_base = self.out + self.out_start
        piece.iov_len = self.out_end - self.out_start
        sent = c_sendmsg(self.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent < 0:
            if errno == EINTR:
                continue
            return 1 if errno == EAGAIN else -2
        self.out_start += sent
    self.out_start = self.out_end = 0
    if self.out_size > SPARE_OUT:
        free(self.out)
        self.out = NULL
        self.out_size = 0
    return 0


cdef class Listening:
    """A listening socket that this worker may accept from."""

    def __init__(self, socket):
        self.socket = socket
        self.fd = socket.fileno()


cdef class Passing:
    """What the data plane does around the channels' own events."""

    cdef int _on_accept(self, Listening listening) except -1:
        return 0

    cdef int _on_pass(self) except -1:
        """After each batch of events: hand-overs that have arrived in the mailbox."""
        return 0

    cdef int _on_tick(self, int64_t now_ns) except -1:
        return 0

    cdef void _on_closed(self, Channel channel) noexcept:
        """A descriptor was given back."""


cdef class Reactor:
    """One per worker. `epoll_fd` goes into the outer loop's reader set, `turn` is its callback."""

    def __cinit__(self):
        self.epoll_fd = self.timer_fd = self.wake_fd = -1

    def __init__(self, Passing passing):
        cdef int i
        self.passing = passing
        self.again = []
        self.next_generation = FIRST_CHANNEL
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.open_limit = limit if 0 <= limit < MOST_OPEN else MOST_OPEN
        self.channels_size = FIRST_ROOM
        self.channels = <void**> calloc(FIRST_ROOM, sizeof(void*))
        self.buffer = <char*> malloc(RECEIVE_BYTES)
        self.buckets = <Deadline*> calloc(BUCKETS, sizeof(Deadline))
        if self.channels == NULL or self.buffer == NULL or self.buckets == NULL:
            raise MemoryError
        for i in range(BUCKETS):
            self.buckets[i].prev = self.buckets[i].next = &self.buckets[i]
        self.now_ns = monotonic_ns()
        self.swept_ns = self.now_ns - self.now_ns % TICK_NS
        self.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        self.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        self.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        if self.epoll_fd < 0 or self.timer_fd < 0 or self.wake_fd < 0:
            raise OSError(errno, "cannot set up the readiness loop")
        self._add(self.timer_fd, TIMER, EPOLLIN | EPOLLET)
        self._add(self.wake_fd, WAKE, EPOLLIN | EPOLLET)
        self._set_tick(False)

    def __dealloc__(self):
        for fd in (self.epoll_fd, self.timer_fd, self.wake_fd):
            if fd >= 0:
                c_close(fd)
        free(self.channels)
        free(self.buffer)
        free(self.buckets)

    def watch_mail(self, int fd):
        """Passes run when `fd` (an eventfd) is written; it is never read: each write is an edge of its own."""
        self._add(fd, MAIL, EPOLLIN | EPOLLET)

    def listen(self, Listening listening, bint on):
        """Accept from this socket, or no longer."""
        cdef epoll_event event
        if on == listening.watched:
            return
        if on:
            self._add(listening.fd, LISTENING, EPOLLIN)
        else:
            epoll_ctl(self.epoll_fd, EPOLL_CTL_DEL, listening.fd, &event)
        listening.watched = on

    def set_listenings(self, listenings):
        """Which Listening belongs to which descriptor."""
        for listening in listenings:
            self._make_room((<Listening> listening).fd)
            self.channels[(<Listening> listening).fd] = <void*> listening
        self.listenings = tuple(listenings)  # keeps them alive: the table above only borrows

    cdef int _add(self, int fd, uint32_t kind, uint32_t events) except -1:
        cdef epoll_event event
        event.events = events
        event.data.u64 = (<uint64_t> kind << 32) | <uint32_t> fd
        if epoll_ctl(self.epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        return 0

    cdef int _make_room(self, int fd) except -1:
        # As far as descriptors are in use, not as far as they might be: some systems allow a thousand million.
        cdef int size = self.channels_size
        cdef void** grown
        if fd < size:
            return 0
        size = max(fd + 1, 2 * size)
        grown = <void**> realloc(self.channels, size * sizeof(void*))
        if grown == NULL:
            raise MemoryError
        memset(grown + self.channels_size, 0, (size - self.channels_size) * sizeof(void*))
        self.channels = grown
        self.channels_size = size
        return 0

    cdef int watch(self, Channel channel) except -1:
        self._make_room(channel.fd)
        channel.generation = self.next_generation
        self.next_generation += 1
        if self.next_generation == 0:
            self.next_generation = FIRST_CHANNEL
        self._add(channel.fd, channel.generation, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
        Py_INCREF(channel)
        self.channels[channel.fd] = <void*> channel
        self.open_count += 1
        return 0

    cdef void forget(self, Channel channel) noexcept:
        self.open_count -= 1
        self.passing._on_closed(channel)
        Py_DECREF(channel)

    # --- deadlines ---------------------------------------------------------------------------------------------------

    cdef void link(self, Deadline* deadline) noexcept:
        cdef int64_t when = min(deadline.due_ns, self.swept_ns + HORIZON_NS)
        when = max(when, self.swept_ns + 1)
        when += (TICK_NS - when % TICK_NS) % TICK_NS
        cdef Deadline* bucket = &self.buckets[(when // TICK_NS) % BUCKETS]
        deadline.bucket_ns = when
        deadline.prev = bucket.prev
        deadline.next = bucket
        bucket.prev.next = deadline
        bucket.prev = deadline

    cdef void hurry(self) noexcept:
        """A request is under way: deadlines are looked at every TICK_NS from now on."""
        self.quiet_since_ns = self.now_ns
        if not self.fast:
            self._set_tick(True)

    cdef void _set_tick(self, bint fast) noexcept:
        cdef itimerspec spec
        self.fast = fast
        spec.it_interval.tv_sec = 0
        spec.it_interval.tv_nsec = <long> (TICK_NS if fast else IDLE_TICK_NS)
        spec.it_value = spec.it_interval
        timerfd_settime(self.timer_fd, 0, &spec, NULL)

    cdef int _sweep_when_all_is_seen(self, int count) except -1:
        """After a stop of the process news and deadlines come together. Whatever came in time counts, so a deadline has
        to wait for the news: the kernel tells of all that was there at the tick in this many batches."""
        cdef int64_t to_ns = self.sweep_to_ns
        if count == EVENTS and self.sweep_passes > 0:
            self.sweep_passes -= 1
            return 0
        self.sweep_to_ns = 0
        return self._sweep(to_ns)

    cdef int _sweep(self, int64_t to_ns) except -1:
        cdef Deadline* bucket
        cdef Deadline* deadline
        cdef int64_t last = to_ns - to_ns % TICK_NS
        cdef int64_t when = max(self.swept_ns + TICK_NS, last - (BUCKETS - 1) * TICK_NS)
        cdef Timed owner
        while when <= last:
            self.swept_ns = when
            bucket = &self.buckets[(when // TICK_NS) % BUCKETS]
            while bucket.next != bucket:
                deadline = bucket.next
                unlink(deadline)
                if deadline.due_ns == 0:
                    continue
                if deadline.due_ns > to_ns:
                    self.link(deadline)
                    continue
                deadline.due_ns = 0
                owner = <Timed> deadline.owner
                try:
                    owner._on_deadline(to_ns)
                except BaseException:
                    self._on_handler_fault(owner)
            when += TICK_NS
        return 0

    # --- events ------------------------------------------------------------------------------------------------------

    def turn(self):
        """Everything that is ready now; called by the outer loop when `epoll_fd` is readable.

        While requests are under way it waits for the next events itself, until a tick or a signal: through the outer
        loop each of them would be seen later, by the time of one more system call and a turn of that loop.
        """
        cdef int wait_ms = 0
        while self._pass(wait_ms) and self.fast and not self.leaving:
            wait_ms = 0 if self.again else WAIT_MS
        if self.again:
            self._wake()

    def leave_waiting(self):
        """From now on only the outer loop waits."""
        self.leaving = True

    cdef void _wake(self) noexcept:
        cdef uint64_t one = 1
        c_write(self.wake_fd, &one, sizeof(one))

    cdef bint _pass(self, int wait_ms) except -1:
        """One batch of events, waited for this long; whether another may follow before the outer loop has its turn."""
        cdef epoll_event[EVENTS] events
        cdef int i, fd, count
        cdef uint32_t kind
        cdef bint ticked = False
        cdef uint64_t ticks
        with nogil:
            count = epoll_wait(self.epoll_fd, events, EVENTS, wait_ms)
        self.now_ns = monotonic_ns()
        for i in range(count):
            kind = <uint32_t> (events[i].data.u64 >> 32)
            if kind >= FIRST_CHANNEL:
                self._note(<int> (events[i].data.u64 & 0xFFFFFFFF), kind, events[i].events)
        for i in range(count):
            fd = <int> (events[i].data.u64 & 0xFFFFFFFF)
            kind = <uint32_t> (events[i].data.u64 >> 32)
            if kind >= FIRST_CHANNEL:
                self._dispatch(fd, kind, events[i].events)
            elif kind == LISTENING:
                try:
                    self.passing._on_accept(<Listening> self.channels[fd])
                except BaseException:
                    self._on_handler_fault(None)
            elif kind == TIMER:
                # Unlike an eventfd it has to be read: the kernel winds a periodic timer up again only then.
                c_read(self.timer_fd, &ticks, sizeof(ticks))
                ticked = True
        if self.again:
            self._read_again()
        try:
            if ticked:
                self._on_ticked()
            if self.sweep_to_ns:
                self._sweep_when_all_is_seen(count)
            self.passing._on_pass()
        except BaseException:
            self._on_handler_fault(None)
        return count > 0 and not ticked

    cdef int _on_ticked(self) except -1:
        if self.sweep_to_ns == 0:
            self.sweep_to_ns = self.now_ns
            self.sweep_passes = self.open_count // EVENTS + 1
        self.passing._on_tick(self.now_ns)
        if self.fast and self.now_ns - self.quiet_since_ns > QUIET_NS:
            self._set_tick(False)
        return 0

    cdef Channel _meant_for(self, int fd, uint32_t generation):
        cdef Channel channel
        if self.channels[fd] == NULL:
            return None
        channel = <Channel> self.channels[fd]
        return channel if channel.generation == generation else None

    cdef int _note(self, int fd, uint32_t generation, uint32_t events) except -1:
        cdef Channel channel = self._meant_for(fd, generation)
        if channel is not None:
            if events & GONE:
                channel.peer_gone = True
            if events & (EPOLLIN | GONE):
                channel.readable = True
        return 0

    cdef int _dispatch(self, int fd, uint32_t generation, uint32_t events) except -1:
        cdef Channel channel = self._meant_for(fd, generation)
        cdef int outcome
        if channel is None:
            return 0
        try:
            if events & EPOLLOUT:
                outcome = flush(channel) if channel.out_end > channel.out_start else 0
                if outcome == 0:
                    channel._on_writable()
                elif outcome == -2:
                    channel._on_failed()
            if channel.readable and not channel.paused and channel.fd >= 0:
                channel._on_readable()
            if events & GONE and channel.paused and channel.fd >= 0:
                channel._on_peer_gone()
        except BaseException:
            self._on_handler_fault(channel)
        return 0

    cdef int _read_again(self) except -1:
        cdef Channel channel
        cdef list channels = self.again
        self.again = []
        for item in channels:
            channel = <Channel> item
            channel.queued = False
            if channel.fd >= 0 and channel.readable and not channel.paused:
                try:
                    channel._on_readable()
                    if channel.peer_gone and channel.paused and channel.fd >= 0:
                        channel._on_peer_gone()     # when its event came, it was not paused yet
                except BaseException:
                    self._on_handler_fault(channel)
        return 0

    cdef int _on_handler_fault(self, Timed owner) except -1:
        """It costs the connection or request it happened on, and nothing else."""
        log.exception("a handler failed")
        if owner is not None:
            try:
                owner._on_fault()
            except BaseException:
                log.exception("and so did its end")
        return 0
