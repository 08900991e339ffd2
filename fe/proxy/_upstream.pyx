# Connections to replicas: one request at a time, framed strictly, kept between requests when that is safe.
#
# Owns: the connection's side of an exchange (when an answer starts, where it ends, whether the connection may be used
# again) and the pool of idle ones. Never: leases, retries, what the client is told; that is `_exchange`, called through
# UpstreamUser. A connection is reused only after an answer of HTTP/1.1 that delimits itself, to a request that
# was sent completely, with no byte left over; anything else closes it.

from libc.errno cimport EADDRNOTAVAIL, EAGAIN, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memmove, memset
from posix.unistd cimport close as c_close

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE

from fe._core cimport ReplicaAddress
from fe.proxy._chunked cimport PIECE_DATA, PIECE_DONE, PIECE_ERROR, chunks_start, next_piece
from fe.proxy._head cimport (
    BODY_CHUNKED, BODY_CLOSE, BODY_LENGTH, BODY_NONE, find_head_end, parse_response,
)

cdef extern from "<sys/socket.h>" nogil:
    int c_socket "socket"(int family, int kind, int protocol)
    struct sockaddr:
        pass
    int c_connect "connect"(int fd, const sockaddr* address, uint32_t length)
    int getsockopt(int fd, int level, int option, void* value, uint32_t* length)
    int setsockopt(int fd, int level, int option, void* value, uint32_t length)
    ssize_t c_recv "recv"(int fd, void* buffer, size_t length, int flags)
    enum:
        AF_UNIX
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        MSG_PEEK
        MSG_DONTWAIT

cdef extern from "<netinet/in.h>" nogil:
    enum:
        IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY

cdef enum:
    CONNECTING = 0
    IDLE = 1
    AWAITING = 2        # the request is out (or going out), the head of the answer has not come
    BODY = 3
    RAW = 4             # a WebSocket: bytes pass as they are
    ENDED = 5
    REFUSED = 6         # connect failed at once: reported from the next pass, like any other failure

    READS = 8           # of one connection before others get their turn
    MOST_INTERIMS = 10

cdef int64_t STALE_NS = 200_000_000   # idle for longer than this: look for a close that has not been reported yet


cdef class UpstreamUser(Timed):
    """Whoever uses a connection; see _upstream.pxd."""

    cdef int _on_connected(self) except -1:
        return 0

    cdef int _on_interim(self, ResponseHead response) except -1:
        return 0

    cdef int _on_response(self, ResponseHead response, const char* body, Py_ssize_t n, bint last) except -1:
        return 0

    cdef int _on_piece(self, const char* data, Py_ssize_t n, bint last) except -1:
        return 0

    cdef int _on_switched(self, ResponseHead response, const char* data, Py_ssize_t n) except -1:
        return 0

    cdef int _on_drained(self) except -1:
        return 0

    cdef int _on_upstream_failed(self, int failure, str problem) except -1:
        return 0


cdef class UpstreamConnection(Channel):
    """One connection to one replica."""

    cdef void assign(self, UpstreamUser user, int method, bint websocket, bint request_open) noexcept:
        """A request is about to be sent for `user`; `request_open` until its body is out."""
        self.user = user
        self.method = method
        self.websocket = websocket
        self.request_open = request_open
        self.spoken = False
        self.told = False
        self.interims = 0
        self.state = AWAITING
        self.expire_at(0)

    cdef void abort(self) noexcept:
        """Gives the exchange up: the replica sees the connection reset, never a clean end of a body."""
        self.user = None
        self.state = ENDED
        self.reset()

    # --- events ------------------------------------------------------------------------------------------------------

    cdef int _on_writable(self) except -1:
        cdef UpstreamUser user = self.user
        cdef int fault = 0
        cdef uint32_t size = sizeof(fault)
        if self.state == CONNECTING:
            getsockopt(self.fd, SOL_SOCKET, SO_ERROR, &fault, &size)
            if fault:
                return self._fail(FAILED_CONNECT, "cannot connect")
            if self.peer_gone:
                return self._fail(FAILED_CONNECT, "the replica closed the connection at once")
            if self.readable:
                return self._fail(FAILED_INVALID, "the replica spoke before it was asked")
            return user._on_connected()
        if self.state == REFUSED:
            return self._fail(FAILED_CONNECT, "cannot connect")
        if user is not None:
            return user._on_drained()
        return 0

    cdef int _on_failed(self) except -1:
        # A write was refused. An answer may have come before that: the reading side decides, and ends the exchange.
        # The error has been told now: to whoever reads, a reset looks like a clean end.
        if self.state == CONNECTING or self.state == REFUSED:
            return self._fail(FAILED_CONNECT, "cannot connect")
        self.broken = True
        self.readable = True
        if not self.paused:
            self.resume()
        return 0

    cdef int _on_fault(self) except -1:
        if self.state == IDLE:
            self.pool._remove(self)
        return self._fail(FAILED_INVALID, "an internal error occurred")

    cdef int _on_deadline(self, int64_t now_ns) except -1:
        if self.state == CONNECTING or self.state == REFUSED:
            return self._fail(FAILED_CONNECT, "no connection in time")
        if self.state == IDLE:
            self.pool._remove(self)
            self.close()
        return 0

    cdef int _on_readable(self) except -1:
        cdef Py_ssize_t n
        cdef int _reads
        if self.state == CONNECTING or self.state == REFUSED:
            return 0
        for _reads in range(READS):
            n = self.receive()
            if n == -1:
                return 0
            if n <= 0:
                return self._on_end(n == 0 and not self.broken)
            if self.state == IDLE:
                # Bytes that nobody asked for (or a close with a rest): nothing that comes now can belong to a request.
                self.pool._remove(self)
                self.close()
                return 0
            self._on_bytes(self.reactor.buffer, n)
            if self.fd < 0 or self.paused or not self.readable or self.state == IDLE:
                return 0
        self.resume()
        return 0

    cdef int _on_end(self, bint clean) except -1:
        if self.state == IDLE:
            self.pool._remove(self)
            self.close()
            return 0
        if self.state == AWAITING:
            if not self.spoken:
                return self._fail(FAILED_SILENT, "the replica closed the connection")
            return self._fail(FAILED_CLOSED, "the replica closed the connection within the head of its answer")
        if self.state == RAW or (self.response is not None and self.response.framing == BODY_CLOSE and clean):
            return self._finish(False, NULL, 0)
        return self._fail(FAILED_TRUNCATED, "the replica closed the connection within its answer")

    cdef int _fail(self, int failure, str problem) except -1:
        cdef UpstreamUser user = self.user
        self.user = None
        self.response = None
        self.state = ENDED
        self.reset()
        if user is not None:
            user._on_upstream_failed(failure, problem)
        return 0

    # --- the answer --------------------------------------------------------------------------------------------------

    cdef int _on_bytes(self, char* data, Py_ssize_t n) except -1:
        cdef UpstreamUser user
        cdef bytearray joined = None
        if self.partial is not None:
            joined = self.partial
            self.partial = None
            joined += (<const char*> data)[:n]
            data = PyByteArray_AS_STRING(joined)
            n = PyByteArray_GET_SIZE(joined)
        if self.state == AWAITING:
            return self._on_head_bytes(data, n, joined)
        if self.state == BODY:
            return self._on_body_bytes(data, n)
        if self.state == RAW:
            user = self.user
            return user._on_piece(data, n, False)
        return 0

    cdef int _on_head_bytes(self, char* data, Py_ssize_t n, bytearray joined) except -1:
        cdef UpstreamUser user = self.user
        cdef ResponseHead response
        cdef Py_ssize_t end
        self.spoken = True
        while True:
            end = find_head_end(&self.scan, data, n, &self.pool.limits, True)
            if end == 0:
                if joined is not None and PyByteArray_AS_STRING(joined) == data:
                    self.partial = joined
                else:
                    self.partial = PyByteArray_FromStringAndSize(data, n)
                return 0
            memset(&self.scan, 0, sizeof(self.scan))
            if end < 0:
                return self._fail(FAILED_INVALID, "the head of the replica's answer is too large or malformed")
            response = parse_response(data, end, self.method, self.websocket)
            if response.problem is not None:
                return self._fail(FAILED_INVALID, response.problem)
            data += end
            n -= end
            if response.status >= 200:
                return self._on_head(response, data, n)
            if response.switches:
                self.state = RAW
                return user._on_switched(response, data, n)
            self.interims += 1
            if self.interims > MOST_INTERIMS:
                return self._fail(FAILED_INVALID, "the replica sent too many interim answers")
            if response.status == 103:
                user._on_interim(response)
            if n == 0 or self.fd < 0:
                return 0

    cdef int _on_head(self, ResponseHead response, char* data, Py_ssize_t n) except -1:
        self.response = response
        self.state = BODY
        if response.framing == BODY_NONE:
            return self._finish(n == 0, data, 0)
        if response.framing == BODY_LENGTH:
            self.left = response.content_length
        elif response.framing == BODY_CHUNKED:
            chunks_start(&self.decoder, False)
        return self._on_body_bytes(data, n)

    cdef int _on_body_bytes(self, char* data, Py_ssize_t n) except -1:
        if self.response.framing == BODY_LENGTH:
            if n >= self.left:
                return self._finish(n == self.left, data, self.left)
            self.left -= n
            return self._pass_on(data, n)
        if self.response.framing == BODY_CHUNKED:
            return self._on_chunked_bytes(data, n)
        return self._pass_on(data, n)

    cdef int _on_chunked_bytes(self, char* data, Py_ssize_t n) except -1:
        """Decodes in place, so that however many chunks came in one read they go on in one piece."""
        cdef Py_ssize_t at = 0, size = 0, consumed = 0, length = 0
        cdef const char* body
        cdef int outcome
        while at < n:
            outcome = next_piece(&self.decoder, data + at, n - at, &consumed, &body, &length)
            at += consumed
            if outcome == PIECE_DATA:
                memmove(data + size, body, length)
                size += length
            elif outcome == PIECE_DONE:
                return self._finish(at == n, data, size)
            elif outcome == PIECE_ERROR:
                if self.told:
                    return self._fail(FAILED_TRUNCATED, "the replica broke the framing of its answer")
                return self._fail(FAILED_INVALID, "the replica broke the framing of its answer")
            else:
                break
        return self._pass_on(data, size)

    cdef int _pass_on(self, const char* data, Py_ssize_t n) except -1:
        cdef UpstreamUser user = self.user
        cdef ResponseHead response = self.response
        if self.told:
            return user._on_piece(data, n, False) if n else 0
        self.told = True
        return user._on_response(response, data, n, False)

    cdef int _finish(self, bint whole, const char* data, Py_ssize_t n) except -1:
        """The answer is complete; `whole`: nothing came after it. The connection is settled before the user is told."""
        cdef UpstreamUser user = self.user
        cdef ResponseHead response = self.response
        cdef bint told = self.told or self.state == RAW
        cdef bint reusable = (
            whole and self.state == BODY and not self.request_open and response.keep_alive and response.minor == 1
            and response.framing != BODY_CLOSE and not self.peer_gone and self.out_end == self.out_start
            and not self.readable  # the buffer was filled to its end: what follows is unknown
        )
        self.user = None
        self.response = None
        if reusable:
            self.pool._put(self)
        else:
            self.state = ENDED
            if self.request_open:
                self.reset()    # else an end would wait behind what the replica does not read any more
            else:
                self.close()
        if told:
            return user._on_piece(data, n, True)
        return user._on_response(response, data, n, True)


cdef class Pool:
    """Idle connections to replicas, and the making of new ones. One per worker."""

    def __init__(self, Reactor reactor, int replicas):
        self.reactor = reactor
        self.idle = [None] * replicas

    def set_limits(self, header_bytes, header_fields, connect_timeout_ms, idle_timeout_ms, idle_most):
        """From the configuration; connections made before keep what they had."""
        self.limits.target_bytes = header_bytes
        self.limits.header_bytes = header_bytes
        self.limits.header_fields = header_fields
        self.connect_timeout_ns = connect_timeout_ms * 1_000_000
        self.idle_timeout_ns = idle_timeout_ms * 1_000_000
        self.idle_most = idle_most

    cdef UpstreamConnection take(self, uint32_t replica, uint32_t incarnation):
        """An idle connection to this replica, the latest used first; None: make one."""
        cdef UpstreamConnection connection
        cdef list idle = <list> self.idle[replica]
        cdef char byte
        while idle:
            connection = <UpstreamConnection> idle.pop()
            self.idle_count -= 1
            connection.reused = True
            if connection.incarnation != incarnation or connection.readable:
                connection.close()  # the replica is another one by now, or has closed (or said) something just now
                continue
            if self.reactor.now_ns + self.idle_timeout_ns - connection.deadline.due_ns > STALE_NS:
                # A server that is tired of waiting closes just about now: do not spend a request on finding out.
                if c_recv(connection.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 or errno != EAGAIN:
                    connection.close()
                    continue
            return connection
        return None

    cdef UpstreamConnection connect(self, uint32_t replica, ReplicaAddress* address, UpstreamUser user):
        """A connection under way; `user` hears `_on_connected` or `_on_upstream_failed`, never from within this call.
        None: no descriptor or port is to be had now."""
        cdef UpstreamConnection connection
        cdef int family = (<unsigned short*> address.sockaddr)[0]
        cdef int one = 1
        cdef int fd = c_socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        while fd < 0 and errno in (EMFILE, ENFILE) and self.evict():
            fd = c_socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
        if fd < 0:
            return None
        if family != AF_UNIX:
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        connection = UpstreamConnection.__new__(UpstreamConnection)
        connection.pool = self
        connection.user = user
        connection.replica = replica
        connection.incarnation = address.incarnation
        connection.state = CONNECTING
        connection.reactor = self.reactor
        if c_connect(fd, <sockaddr*> address.sockaddr, address.length) < 0 and errno != EINPROGRESS:
            if errno in (EADDRNOTAVAIL, EAGAIN, ENOBUFS, ENOMEM):
                c_close(fd)     # no free port, or the queue of a unix socket is full: not the replica's fault
                return None
            connection.state = REFUSED
        connection.expire_at(self.reactor.now_ns + self.connect_timeout_ns)
        connection.open(self.reactor, fd, False)
        return connection

    cdef int _put(self, UpstreamConnection connection) except -1:
        cdef list idle = <list> self.idle[connection.replica]
        connection.state = IDLE
        connection.paused = False
        if idle is None:
            idle = self.idle[connection.replica] = []
        if len(idle) >= self.idle_most:
            connection.close()
            return 0
        idle.append(connection)
        self.idle_count += 1
        connection.expire_at(self.reactor.now_ns + self.idle_timeout_ns)
        return 0

    cdef int _remove(self, UpstreamConnection connection) except -1:
        cdef list idle = <list> self.idle[connection.replica]
        if idle is not None and connection in idle:
            idle.remove(connection)
            self.idle_count -= 1
        connection.state = ENDED
        return 0

    cdef bint evict(self) noexcept:
        """Closes one idle connection, whichever: a descriptor is needed. False: there is none."""
        cdef list idle
        if self.idle_count:
            for entry in self.idle:
                if entry:
                    idle = <list> entry
                    (<UpstreamConnection> idle.pop(0)).close()
                    self.idle_count -= 1
                    return True
        return False

    def close_all(self):
        """Closes every idle connection."""
        while self.evict():
            pass
