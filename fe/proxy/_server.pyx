# The worker's front door: accepting clients, taking up configurations, standing in for absent neighbours, draining.
#
# Owns: the listening sockets' use (not their descriptors' birth: the supervisor opened them), the bound on descriptors
# and connections, the worker's sign of life. Never: what goes on within a connection (_downstream.pyx).
# Nobody who was accepted is dropped for want of a descriptor: accepting pauses while a reserve is still left, and what
# is not accepted waits in the kernel's queue.

import logging
import os

from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fe._core cimport config_version, holder_beat, stat_add
from fe.proxy._build cimport Peer
from fe.proxy._downstream cimport Downstream
from fe.proxy._exchange cimport Exchange, Proxy
from fe.proxy._reactor cimport Channel, Listening

from fe import _core, model
from fe.proxy.trusted import TrustedNetworks, plain_address

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int fd, sockaddr* address, uint32_t* length, int flags)
    int setsockopt(int fd, int level, int option, void* value, uint32_t length)
    enum:
        AF_UNIX
        AF_INET
        AF_INET6
        SOCK_NONBLOCK
        SOCK_CLOEXEC

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        unsigned char s6_addr[16]
    struct sockaddr_in:
        in_addr sin_addr
    struct sockaddr_in6:
        in6_addr sin6_addr
    enum:
        IPPROTO_TCP
        INET6_ADDRSTRLEN

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int family, const void* address, char* text, uint32_t size)

log = logging.getLogger("fe.worker")

cdef enum:
    ACCEPTS = 32            # from one socket before others get their turn
    MOST_PEERS = 4096       # addresses whose heads are kept ready

cdef int64_t NEIGHBOUR_CHECK_NS = 100_000_000
cdef int64_t ABSENT_NS = 100_000_000    # a worker that is not there for this long is stood in for
cdef int64_t SILENT_NS = 1_000_000_000  # and one that gives no sign of life for this long
cdef int DRAIN_IDLE_PART = 10           # of drain_timeout: what idle connections get for their next request
cdef int64_t REST_NS = 100_000_000      # before the system is asked again for what it did not have
cdef int64_t REPEAT_NS = 10_000_000_000  # between two warnings of the same kind
cdef uint32_t COUNT_CONNECTIONS = model.COUNTER_INDEX["connections"]
cdef uint32_t COUNT_LINES_LOST = model.COUNTER_INDEX["access_lines_lost"]


cdef class Server(Proxy):
    """One worker's data plane. `on_end` is called when a drain has ended."""

    cdef object runtime, on_end
    cdef list mine                      # Listening: this worker's own sockets, and those all share
    cdef dict neighbours                # worker index -> its Listening
    cdef dict absent_since              # worker index -> when it was first seen not to be there
    cdef set standing_in                # worker indexes that this worker accepts for
    cdef dict peers                     # address -> Peer
    cdef object trusted
    cdef uint64_t version               # of the snapshot served from; 0: none yet
    cdef bint accepting
    cdef readonly int clients
    cdef int clients_most, descriptors_most
    cdef int64_t checked_ns, drain_ends_ns
    cdef int64_t rests_until_ns         # no accepting before
    cdef int64_t warned_ns              # when it was last said that accepting pauses
    cdef uint64_t lines_lost            # access lines, as far as they are counted

    def __init__(self, holder, runtime, on_end):
        Proxy.__init__(self, holder)
        self.runtime = runtime
        self.on_end = on_end
        self.mine = []
        self.neighbours = {}
        self.absent_since = {}
        self.standing_in = set()
        self.peers = {}
        for listener in runtime.listeners:
            listening = Listening(listener.socket)
            if listener.worker is None or listener.worker == runtime.index:
                self.mine.append(listening)
            else:
                self.neighbours.setdefault(listener.worker, []).append(listening)
        self.reactor.set_listenings(self._listenings())
        self.reactor.watch_mail(runtime.eventfds[runtime.index])
        # What is open already stays open; what is left is for channels, and a part of that for connections to replicas.
        self.reactor.open_limit -= len(os.listdir("/proc/self/fd"))
        self.descriptors_most = self.reactor.open_limit - max(8, min(1024, self.reactor.open_limit // 8))
        self.refresh()

    def _listenings(self):
        return self.mine + [one for those in self.neighbours.values() for one in those]

    # --- configuration -----------------------------------------------------------------------------------------------

    def refresh(self):
        """Takes up the latest snapshot, if it is another than the one served from; with the first, accepting starts."""
        version, raw = self.table.snapshot()
        if version == self.version:
            return
        snapshot = model.decode_snapshot(raw)
        self.configure(snapshot)
        if self.draining:
            self._shorten_idle()
        self.clients_most = snapshot.http.connections
        self.trusted = TrustedNetworks(snapshot.trusted_proxies)
        self.peers = {}
        self.set_access_log(snapshot.access_log)
        first = self.version == 0
        self.version = version
        if first:
            self.holder.set_active()
            self._accept_again()

    def set_access_log(self, wanted):
        """Access lines on or off."""
        if wanted and self.access_log is None:
            from fe.proxy.access_log import AccessLog
            self.lines_lost = 0
            self.access_log = AccessLog(self.runtime.log_fd)
            self.log_json = self.runtime.log_json
        elif not wanted and self.access_log is not None:
            self.access_log.close(0)    # its thread writes the rest: nobody waits for a slow sink here
            self.access_log = None

    # --- accepting ---------------------------------------------------------------------------------------------------

    cdef int _on_accept(self, Listening listening) except -1:
        cdef int _accepts
        for _accepts in range(ACCEPTS):
            if self._is_full():
                return self._pause_accepting("connections or descriptors are used up")
            if not self._accept(listening):
                return 0
        return 0

    cdef bint _is_full(self):
        if self.clients >= self.clients_most:
            return True
        # A client goes before a connection that waits for a next request.
        return self.reactor.open_count >= self.descriptors_most and not self.pool.evict()

    cdef bint _accept(self, Listening listening) except -1:
        """Accepts one client; False: there is none, or none can be taken."""
        cdef sockaddr_storage address
        cdef uint32_t length = sizeof(address)
        cdef int one = 1
        cdef Downstream client
        cdef int fd = accept4(listening.fd, <sockaddr*> &address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno in (EINTR, ECONNABORTED, EPROTO):
                return True
            if errno in (EMFILE, ENFILE, ENOBUFS, ENOMEM):
                self.rests_until_ns = self.reactor.now_ns + REST_NS
                self._pause_accepting(os.strerror(errno))
            elif errno != EAGAIN:
                log.error("cannot accept: %s", os.strerror(errno))
            return False
        if length < 2 or address.ss_family != AF_UNIX:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        client = Downstream.__new__(Downstream)
        client.proxy = self
        client.peer = self._find_peer(&address)
        client.start(fd)
        self.clients += 1   # not before the reactor has it: `_on_closed` counts down
        stat_add(self.holder, self.table.unrouted, COUNT_CONNECTIONS, 1)
        return True

    cdef Peer _find_peer(self, sockaddr_storage* address):
        """Who this is, and whether its word on where a request came from is taken."""
        cdef char[INET6_ADDRSTRLEN] text
        cdef bytes key
        text[0] = 0
        if address.ss_family == AF_INET:
            inet_ntop(AF_INET, &(<sockaddr_in*> address).sin_addr, text, INET6_ADDRSTRLEN)
        elif address.ss_family == AF_INET6:
            inet_ntop(AF_INET6, &(<sockaddr_in6*> address).sin6_addr, text, INET6_ADDRSTRLEN)
        key = <bytes> text
        peer = self.peers.get(key)
        if peer is None:
            name = plain_address(key.decode("ascii")) if key else None
            peer = Peer(name, self.trusted.covers(name))
            if len(self.peers) >= MOST_PEERS:
                self.peers.clear()
            self.peers[key] = peer
        return peer

    cdef int _pause_accepting(self, str why) except -1:
        cdef int64_t now_ns = self.reactor.now_ns
        if self.accepting:
            if self.warned_ns == 0 or now_ns - self.warned_ns >= REPEAT_NS:
                self.warned_ns = now_ns
                log.warning("accepting pauses: %s (%d connections)", why, self.reactor.open_count)
            self._watch_all(False)
        return 0

    cdef int _accept_again(self) except -1:
        if self.accepting or self.draining or self._is_full() or self.reactor.now_ns < self.rests_until_ns:
            return 0
        return self._watch_all(True)

    cdef int _watch_all(self, bint on) except -1:
        self.accepting = on
        for listening in self.mine:
            self.reactor.listen(listening, on)
        for index in self.standing_in:
            for listening in self.neighbours[index]:
                self.reactor.listen(listening, on)
        return 0

    cdef void _on_closed(self, Channel channel) noexcept:
        if isinstance(channel, Downstream):
            self.clients -= 1
            self.waiting_bytes -= (<Downstream> channel).waited

    # --- around the events -------------------------------------------------------------------------------------------

    cdef int _on_pass(self) except -1:
        Proxy._on_pass(self)
        if config_version(self.table) != self.version:
            self.refresh()
        if not self.accepting and self.version and not self.draining:
            self._accept_again()
        if self.draining and (self.clients == 0 and self.in_flight == 0 or self.reactor.now_ns > self.drain_ends_ns):
            self._end()
        return 0

    cdef int _on_tick(self, int64_t now_ns) except -1:
        holder_beat(self.holder, now_ns)
        if now_ns - self.checked_ns >= NEIGHBOUR_CHECK_NS:
            self.checked_ns = now_ns
            # Before the first snapshot nobody serves, and nobody is late.
            if self.neighbours and self.version and not self.draining:
                self._check_neighbours(now_ns)
            if self.access_log is not None:
                self._write_access_lines()
        return 0

    def _write_access_lines(self):
        self.access_log.flush()
        lost = self.access_log.lost
        if lost > self.lines_lost:
            stat_add(self.holder, self.table.unrouted, COUNT_LINES_LOST, lost - self.lines_lost)
            self.lines_lost = lost

    def _check_neighbours(self, int64_t now_ns):
        """Accepts for workers that are absent, and stops when they are back."""
        cdef int64_t absent_ns
        for index, listenings in self.neighbours.items():
            absent_ns = self._absent_for(index, now_ns)
            stand_in = absent_ns >= ABSENT_NS and self._is_next_of(index, now_ns)
            if stand_in == (index in self.standing_in):
                continue
            if stand_in:
                self.standing_in.add(index)
                log.warning("worker %d is absent: worker %d accepts for it", index, self.holder.index)
            else:
                self.standing_in.discard(index)
            for listening in listenings:
                self.reactor.listen(listening, stand_in and self.accepting)

    def _absent_for(self, index, int64_t now_ns):
        """How long this worker has been seen not to be there, in ns; 0 when it is."""
        state = self.table.holder_state(index)
        if state.state == _core.HOLDER_ACTIVE and now_ns - state.beat_ns < SILENT_NS:
            self.absent_since.pop(index, None)
            return 0
        return now_ns - self.absent_since.setdefault(index, now_ns)

    def _is_next_of(self, index, int64_t now_ns):
        """Whether this worker is the first after `index`, in a circle, that is there."""
        workers = len(self.runtime.eventfds)
        other = (index + 1) % workers
        while other != self.holder.index:
            if not self._absent_for(other, now_ns):
                return False
            other = (other + 1) % workers
        return True

    # --- the end -----------------------------------------------------------------------------------------------------

    def drain(self):
        """Takes no new client from now on, but serves every one that had connected by then; ends when all are done."""
        if self.draining:
            return
        self._watch_all(False)
        self.reactor.leave_waiting()
        # Whoever closes a socket last must have emptied its queue, and directly before: what comes between is lost.
        for listening in self._listenings():
            self.reactor.channels[(<Listening> listening).fd] = NULL
            while self.version and self._accept(listening):
                pass
            (<Listening> listening).socket.close()
        self.draining = True
        self.standing_in.clear()
        self.drain_ends_ns = self.reactor.now_ns + <int64_t> (self.runtime.drain_timeout * 1e9)
        self._shorten_idle()
        for client in self._clients():
            (<Downstream> client).on_drain()
        self.reactor.turn()

    def _clients(self):
        """The clients' connections that are open."""
        cdef int fd
        return [
            <Channel> self.reactor.channels[fd]
            for fd in range(self.reactor.channels_size)
            if self.reactor.channels[fd] != NULL and isinstance(<Channel> self.reactor.channels[fd], Downstream)
        ]

    def _shorten_idle(self):
        """The next request on a kept connection is answered with the connection's end, which is safer than to close it
        under that request: so there is some time for it."""
        self.idle_timeout_ns = min(
            self.idle_timeout_ns, <int64_t> (self.runtime.drain_timeout * 1e9 / DRAIN_IDLE_PART)
        )

    def _end(self):
        if self.on_end is not None:
            on_end, self.on_end = self.on_end, None
            # Who still waits for a place hears so; who is being served is cut off.
            for exchange in [one for one in self.waiting if one is not None]:
                try:
                    (<Exchange> exchange).end_waiting()
                except Exception:
                    log.exception("a waiting request could not be refused")
            for client in self._clients():
                (<Downstream> client).cut_off()
            self.pool.close_all()
            if self.access_log is not None:
                self.access_log.close()
            on_end(self.in_flight)
