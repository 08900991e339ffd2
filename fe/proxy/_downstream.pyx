# A client's connection: requests in, one after the other, answers out in the same order.
#
# Owns: reading a request (head, then a body that is collected when small and streamed when large), the decisions that
# need no replica (malformed, unknown, not authorised, too large), writing answers with back-pressure, and the ends of a
# connection: kept, closed, lingering (so that an answer is not lost to a reset), reset (so that a part is not taken for
# the whole). Never: leases and replicas; that is _exchange.pyx.
#
#   HEAD -> COLLECT -> ANSWER -> HEAD ...      a body that is collected before a lease is asked for
#       \-> WAIT -> STREAM -> ANSWER           one that is not read further before a lease is there
#   FLUSH, CLOSING: output is pending; DISCARD: the rest of a body nobody wants; LINGER; TUNNEL: a WebSocket
#
# While a request is being answered nothing is read: what the client sends meanwhile stays in the kernel.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memmove, memset
from posix.uio cimport iovec

from fe._core cimport monotonic_ns, stat_add
from fe.proxy._access cimport Facts, build_line, build_state
from fe.proxy._auth cimport key_matches
from fe.proxy._build cimport UPSTREAM_CHUNKED, new_request_id
from fe.proxy._chunked cimport PIECE_DATA, PIECE_DONE, PIECE_ERROR, announced, chunks_start, next_piece
from fe.proxy._exchange cimport BLOCKED, LOST, TAKEN, count_reason, count_status, mirror
from fe.proxy._head cimport BODY_CHUNKED, BODY_LENGTH, METHOD_HEAD, find_head_end, head_problem, parse_request
from fe.proxy._reactor cimport RECEIVE_BYTES
from fe.proxy._router cimport Deployment, Endpoint

from fe import model
from fe.proxy import answers

cdef extern from "<sys/socket.h>" nogil:
    int c_shutdown "shutdown"(int fd, int how)
    enum:
        SHUT_WR

cdef enum State:
    HEAD = 0
    COLLECT = 1
    WAIT = 2
    STREAM = 3
    ANSWER = 4
    FLUSH = 5
    DISCARD = 6
    CLOSING = 7
    LINGER = 8
    TUNNEL = 9

cdef enum:
    READS = 8                       # of one connection before others get their turn
    MOST_DISCARDED = 256 * 1024     # of an unwanted body, to keep the connection
    MOST_LINGERED = 16 * 1024 * 1024
    MOST_WAITING = 4 * 1024 * 1024          # of one body, held while it waits for a lease
    MOST_WAITING_TOTAL = 64 * 1024 * 1024   # of all of them in this worker

cdef int64_t LINGER_NS = 2_000_000_000
cdef uint32_t COUNT_REQUESTS = model.COUNTER_INDEX["requests"]
cdef bytes CONTINUE = answers.CONTINUE
cdef object NO_ROUTE = answers.ANSWERS["no_route"]
cdef object NO_DEPLOYMENT = answers.ANSWERS["no_deployment"]
cdef object UNAUTHORIZED = answers.ANSWERS["unauthorized"]
cdef object TOO_LARGE = answers.ANSWERS["body_too_large"]
cdef object TOO_SLOW = answers.ANSWERS["client_timeout"]
cdef object MALFORMED = answers.ANSWERS["bad_request"]


cdef class Downstream(Client):
    """One client connection."""

    cdef int start(self, int fd) except -1:
        """Takes an accepted socket over."""
        self.state = HEAD
        self.open(self.proxy.reactor, fd, True)
        self.expire_at(self.reactor.now_ns + self.proxy.idle_timeout_ns)
        return 0

    # --- reading -----------------------------------------------------------------------------------------------------

    cdef int _on_readable(self) except -1:
        cdef Py_ssize_t n
        cdef int _reads
        cdef bytearray held
        if self.replay:
            self.replay = False
            held = self.held
            self.held = None
            self._consume(PyByteArray_AS_STRING(held), PyByteArray_GET_SIZE(held), held)
            if self.fd < 0 or self.paused:
                return 0
        for _reads in range(READS):
            n = self.receive()
            if n == -1:
                return 0
            if n <= 0:
                return self._on_gone()
            if self.held is None:
                self._consume(self.reactor.buffer, n, None)
            else:
                held = self.held
                self.held = None
                held += (<const char*> self.reactor.buffer)[:n]
                self._consume(PyByteArray_AS_STRING(held), PyByteArray_GET_SIZE(held), held)
            if self.fd < 0 or self.paused or not self.readable:
                return 0
        self.resume()
        return 0

    cdef int _consume(self, char* data, Py_ssize_t n, bytearray owner) except -1:
        """Takes what the state can take; the rest is held. `owner` is what `data` points into, unless the reactor's."""
        cdef Py_ssize_t at = 0, used
        cdef Exchange exchange
        while at < n and self.fd >= 0:
            if self.state == HEAD:
                used = self._read_head(data + at, n - at)
            elif self.state == COLLECT or self.state == DISCARD or (self.state == STREAM and not self.paused):
                used = self._read_body(data + at, min(n - at, RECEIVE_BYTES))
            elif self.state == TUNNEL:
                used = n - at
                exchange = self.exchange
                if exchange.feed(data + at, used, False) == BLOCKED:
                    self.pause()
            elif self.state == LINGER:
                used = n - at
                self._on_lingered(used)
            else:
                used = 0
            if used == 0:
                break
            at += used
        if at < n and self.fd >= 0:
            if owner is not None:
                del owner[:at]      # moves its start, not its bytes
                self.held = owner
            else:
                self.held = PyByteArray_FromStringAndSize(data + at, n - at)
        if self.state == WAIT:
            self._hold_waiting()
        return 0

    cdef Py_ssize_t _read_head(self, char* data, Py_ssize_t n) except -1:
        """How much of `data` a complete head took; 0 while it is not complete."""
        cdef Py_ssize_t end = find_head_end(&self.scan, data, n, &self.proxy.limits, False)
        cdef RequestHead head
        if self.started_ns == 0 and (end != 0 or n > self.scan.skipped):
            # Empty lines alone are no request yet: such a client is still idle.
            self.started_ns = monotonic_ns()
            if end == 0:
                self.expire_at(self.reactor.now_ns + self.proxy.header_timeout_ns)
        if end == 0:
            return 0
        memset(&self.scan, 0, sizeof(self.scan))
        if end < 0:
            self._refuse_head(None, <int> -end, head_problem(<int> -end))
            return n
        head = parse_request(data, end, &self.proxy.limits)
        if head.status:
            self._refuse_head(head, head.status, head.problem)
            return n
        self._on_head(head)
        return end

    cdef int _refuse_head(self, RequestHead head, int status, str problem) except -1:
        """A request that cannot be understood: where it ends is unknown, so the connection ends with the answer."""
        self.head = head
        self.body_done = False
        self.close_after = True
        return self._refuse(answers.refusal(status), None, None, problem)

    cdef int _on_head(self, RequestHead head) except -1:
        """What is decided before the body: endpoint, credential, deployment, size; then where the body goes."""
        cdef Endpoint endpoint
        cdef Deployment deployment
        self.head = head
        self.request_id = new_request_id()
        self.body_left = head.content_length if head.framing == BODY_LENGTH else 0
        self.body_done = head.framing != BODY_CHUNKED and self.body_left == 0
        self.body_bytes = self.body_mark = 0
        self.continue_due = head.expect_continue and not self.body_done
        self.close_after = not head.keep_alive
        if head.framing == BODY_CHUNKED:
            chunks_start(&self.decoder, True)
        endpoint = self.proxy.router.route(head)
        if endpoint is None:
            return self._refuse(NO_ROUTE, None, None)
        if endpoint.needs_key and not key_matches(head, endpoint.key_digests):
            return self._refuse(UNAUTHORIZED, endpoint, None)
        deployment = endpoint.choose(head)
        if deployment is None:
            return self._refuse(NO_DEPLOYMENT, endpoint, None)
        if self.body_left > deployment.max_body_bytes:
            return self._refuse(TOO_LARGE, endpoint, deployment)
        self._build_exchange(endpoint, deployment)
        if self.body_done:
            return self._begin(b"" if head.framing == BODY_LENGTH else None)
        if self.body_left > self.proxy.collect_bytes:
            return self._begin_streamed(self.body_left)
        self.state = COLLECT
        self.expire_at(self.reactor.now_ns + self.proxy.body_timeout_ns)
        if self.continue_due:
            return self._send_continue()
        return 0

    cdef int _build_exchange(self, Endpoint endpoint, Deployment deployment) except -1:
        cdef Exchange exchange = Exchange.__new__(Exchange)
        exchange.proxy = self.proxy
        exchange.reactor = self.reactor
        exchange.client = self
        exchange.head = self.head
        exchange.peer = self.peer
        exchange.endpoint = endpoint
        exchange.deployment = deployment
        exchange.request_id = self.request_id
        exchange.started_ns = self.started_ns
        self.exchange = exchange
        return 0

    cdef int _begin(self, bytes body) except -1:
        """The request is complete."""
        cdef Exchange exchange = self.exchange
        self.state = ANSWER
        self.pause()
        self.expire_at(0)
        exchange.body = body
        exchange.request_bytes = self.body_bytes
        if exchange.endpoint.mirrors is not None:
            mirror(exchange)
        exchange.start()
        return self._check_gone()

    cdef int _begin_streamed(self, int64_t length) except -1:
        """The body is not read on before there is a lease - but for what is held, to notice a client that leaves."""
        cdef Exchange exchange = self.exchange
        self.state = WAIT
        self.expire_at(0)
        exchange.streamed = True
        exchange.body_length = length
        exchange.start()
        return self._check_gone()

    cdef void _hold_waiting(self) noexcept:
        # A FIN comes behind everything that was sent before it: with a closed window it would never be seen. So a
        # waiting upload is read on for a while, as far as all of them together stay within bounds.
        cdef Py_ssize_t size = 0 if self.held is None else PyByteArray_GET_SIZE(self.held)
        self.proxy.waiting_bytes += size - self.waited
        self.waited = size
        if size >= MOST_WAITING or self.proxy.waiting_bytes >= MOST_WAITING_TOTAL:
            self.pause()

    cdef void _leave_waiting(self) noexcept:
        self.proxy.waiting_bytes -= self.waited
        self.waited = 0

    cdef int _check_gone(self) except -1:
        # The end may have come in the same event as the request: paused, nobody would report it again.
        if self.peer_gone and self.exchange is not None:
            return self._on_gone()
        return 0

    cdef int _send_continue(self) except -1:
        self.continue_due = False
        return self.send_bytes(CONTINUE)

    # --- bodies ------------------------------------------------------------------------------------------------------

    cdef Py_ssize_t _read_body(self, char* data, Py_ssize_t n) except -1:
        """How much of `data` belonged to the body."""
        cdef Py_ssize_t used, size
        cdef int64_t due = 0
        if self.head.framing == BODY_LENGTH:
            used = size = <Py_ssize_t> min(<int64_t> n, self.body_left)
            self.body_left -= used
            self.body_done = self.body_left == 0
        else:
            used = self._decode(data, n, &size)
            if used < 0:
                self._on_bad_body(MALFORMED)
                return n
            due = announced(&self.decoder)  # a chunk's size says what is too much before it has come
        self.body_bytes += size
        if self.state == DISCARD:
            self._on_discarded()
        elif self.body_bytes + due > self.exchange.deployment.max_body_bytes:
            self._on_bad_body(TOO_LARGE)
            return n
        elif self.state == STREAM:
            self._stream(data, size)
        elif self.body_done and self.body is None:
            self._begin(data[:size])
        else:
            self._collect(data, size)
        return used

    cdef Py_ssize_t _decode(self, char* data, Py_ssize_t n, Py_ssize_t* size) noexcept:
        """Decodes chunks in place: data[:size] is body afterwards. The bytes consumed; -1 when they are malformed."""
        cdef Py_ssize_t at = 0, consumed = 0, length = 0
        cdef const char* piece
        cdef int outcome
        size[0] = 0
        while at < n:
            outcome = next_piece(&self.decoder, data + at, n - at, &consumed, &piece, &length)
            at += consumed
            if outcome == PIECE_DATA:
                memmove(data + size[0], piece, length)
                size[0] += length
            elif outcome == PIECE_DONE:
                self.body_done = True
                break
            elif outcome == PIECE_ERROR:
                return -1
            else:
                break
        return at

    cdef int _collect(self, const char* data, Py_ssize_t n) except -1:
        cdef bytes whole
        if self.body is None:
            self.body = PyByteArray_FromStringAndSize(data, n)
        else:
            self.body += data[:n]
        if self.body_done:
            whole = bytes(self.body)
            self.body = None
            return self._begin(whole)
        if self.body_bytes > self.proxy.collect_bytes:
            return self._begin_streamed(UPSTREAM_CHUNKED)   # only a chunked body grows like that
        return 0

    cdef int _stream(self, const char* data, Py_ssize_t n) except -1:
        cdef Exchange exchange = self.exchange
        cdef int outcome
        if self.body_done:
            self.state = ANSWER
            self.pause()
            if self.out_mark == 0:  # else an early answer is waiting to be taken, and that is what the time is for
                self.expire_at(0)
        outcome = exchange.feed(data, n, self.body_done)
        if outcome == BLOCKED:
            self.pause()
        return self._check_gone() if self.body_done else 0

    cdef int _on_body_wanted(self) except -1:
        cdef bytearray first
        cdef Exchange exchange = self.exchange
        if self.state == WAIT:
            self._leave_waiting()
            self.state = STREAM
            self.body_mark = self.body_bytes
            if self.out_mark == 0:
                self.expire_at(self.reactor.now_ns + self.proxy.body_timeout_ns)
            if self.continue_due:
                self._send_continue()
            first = self.body
            self.body = None
            if first:
                if exchange.feed(PyByteArray_AS_STRING(first), PyByteArray_GET_SIZE(first), False) == BLOCKED:
                    self.pause()
                    return 0
        if self.state == STREAM or self.state == TUNNEL:
            self._go_on()
        return 0

    cdef void _go_on(self) noexcept:
        """Reads again, what is held first."""
        if self.held is not None:
            self.replay = True
            self.readable = True
        self.resume()

    cdef int _on_bad_body(self, object answer) except -1:
        """Malformed or too large, found while reading: no lease was taken for a collected body."""
        cdef Exchange exchange = self.exchange
        self.close_after = True
        if self.state == DISCARD:
            return self._shut()     # its answer has gone already
        if self.state == STREAM:
            return exchange.refuse_request(answer)
        return self._refuse(answer, exchange.endpoint, exchange.deployment)

    cdef int _on_discarded(self) except -1:
        if self.body_done:
            return self._next()
        if self.body_bytes > MOST_DISCARDED:
            self.close_after = True
            return self._shut()
        return 0

    # --- answers -----------------------------------------------------------------------------------------------------

    cdef int _on_interim(self, bytes head) except -1:
        return self.send_bytes(head)

    cdef int _on_answer(self, bytes data, bint last, bint close) except -1:
        if close:
            self.close_after = True
        return self._on_sent(self.send_bytes(data), last)

    cdef int _on_answer_piece(self, iovec* pieces, int count, bint last) except -1:
        if self.state == TUNNEL and last:
            self.close_after = True
        return self._on_sent(self.send(pieces, count) if count else (LOST if self.fd < 0 else TAKEN), last)

    cdef int _on_sent(self, int outcome, bint last) except -1:
        if outcome == LOST:
            self.exchange = None
            self.close()
            return LOST
        if last:
            self._next()
            return TAKEN
        if outcome == BLOCKED:
            self._expect_taking()
        return outcome

    cdef void _expect_taking(self) noexcept:
        """Output is pending: the client has to take some of it in time."""
        self.out_mark = self.untaken()
        self.expire_at(self.reactor.now_ns + self.proxy.write_timeout_ns)

    cdef int _on_switched(self, bytes data) except -1:
        cdef int outcome
        self.state = TUNNEL
        self.expire_at(0)
        outcome = self._on_sent(self.send_bytes(data), False)
        if outcome != LOST:
            self._go_on()
        return outcome

    cdef int _on_refused(self, object answer, str detail) except -1:
        if self.fd < 0:
            return LOST
        self._answer(answer, self.exchange.endpoint.name, self.exchange.deployment, "", detail)
        return TAKEN

    cdef int _on_broken(self, bint by_reset) except -1:
        self.exchange = None
        if by_reset:
            self.reset()
        elif self.pending():
            self.state = CLOSING
            self.body_done = True
            self.held = None
            self.pause()
            self._expect_taking()
        else:
            self.close()
        return 0

    cdef int _refuse(self, object answer, Endpoint endpoint, Deployment deployment, str message="") except -1:
        """Answers a request that has not come to an exchange."""
        cdef uint32_t record = self.proxy.table.unrouted if deployment is None else deployment.index
        cdef str name = "" if endpoint is None else endpoint.name
        stat_add(self.proxy.holder, record, COUNT_REQUESTS, 1)
        count_status(self.proxy.holder, record, answer.status)
        count_reason(self.proxy.holder, record, answer.reason)
        if self.request_id is None:
            self.request_id = new_request_id()
        if self.proxy.access_log is not None and self.head is not None:
            self._write_line(answer, name, None if deployment is None else deployment.name)
        return self._answer(answer, name, deployment, message, "")

    cdef int _write_line(self, object answer, str endpoint, str deployment) except -1:
        """The access line of a request that has not come to an exchange."""
        cdef Facts facts
        memset(&facts, 0, sizeof(facts))
        facts.status = answer.status
        facts.request_bytes = self.body_bytes
        facts.total_ns = monotonic_ns() - self.started_ns
        self.proxy.access_log.add(build_line(
            self.proxy.log_json, self.head, self.peer, self.request_id, endpoint, deployment, answer.reason, &facts,
        ))
        return 0

    cdef int _answer(self, object answer, str name, Deployment deployment, str message, str detail) except -1:
        """fe's own answer. The connection is kept if the request's end is known and near."""
        cdef bint near = self.body_done or (
            self.state != STREAM and not self.continue_due and self.body_left <= MOST_DISCARDED
        )
        cdef bytes data, state = b""
        cdef RequestHead head = self.head
        cdef Exchange exchange = self.exchange
        cdef bint plain = head is not None and head.wants_plain()
        if exchange is not None and exchange.met:
            state = build_state(plain, &exchange.state, exchange.waited_ns)
        self._leave_waiting()
        self.exchange = None
        self.body = None
        if not near or self.proxy.draining or answer.close:
            self.close_after = True
        data = answers.build_answer(
            answer, self.request_id, name=name, message=message, detail=detail, state=state, plain=plain,
            head_only=head is not None and head.method == METHOD_HEAD,
            close=self.close_after,
            client_request_id=None if head is None else head.client_request_id,
            deployment_line=b"" if deployment is None else deployment.header_line,
        )
        if self.send_bytes(data) == LOST:
            self.close()
            return 0
        return self._next()

    # --- between requests, and the end -------------------------------------------------------------------------------

    cdef int _next(self) except -1:
        """The answer is written (or pending): on to the next request, if there can be one."""
        self.exchange = None
        self.body = None
        if self.close_after or (self.peer_gone and not self.readable):
            return self._shut()
        if self.pending():
            self.state = FLUSH
            self.pause()
            self._expect_taking()
            return 0
        if not self.body_done:
            self.state = DISCARD
            self.expire_at(self.reactor.now_ns + self.proxy.body_timeout_ns)
            self._go_on()
            return 0
        self.head = None
        self.request_id = None
        self.started_ns = 0
        self.state = HEAD
        self.expire_at(self.reactor.now_ns + self.proxy.idle_timeout_ns)
        self._go_on()
        return 0

    cdef int _shut(self) except -1:
        """Closes after the answer, lingering where unread bytes would turn the close into a reset that destroys it."""
        self.exchange = None
        if self.pending():
            self.state = CLOSING
            self.pause()
            self._expect_taking()
            return 0
        if self.body_done and self.held is None and not self.readable or self.peer_gone and not self.readable:
            self.close()
            return 0
        c_shutdown(self.fd, SHUT_WR)
        self.state = LINGER
        self.held = None
        self.replay = False
        self.expire_at(self.reactor.now_ns + LINGER_NS)
        self.resume()
        return 0

    cdef int _on_lingered(self, Py_ssize_t n) except -1:
        self.lingered += n
        if self.lingered > MOST_LINGERED:
            self.close()
        return 0

    cdef int _on_writable(self) except -1:
        cdef Exchange exchange = self.exchange
        if self.out_mark == 0:
            return 0
        self.out_mark = 0
        if self.state == CLOSING:
            return self._shut()
        if self.state == FLUSH:
            return self._next()
        if exchange is not None:
            if self.state == STREAM:
                self.expire_at(self.reactor.now_ns + self.proxy.body_timeout_ns)
            else:
                self.expire_at(0)
            return exchange.on_client_drained()
        return 0

    cdef int _on_peer_gone(self) except -1:
        # With the answer complete and only waiting to be taken, a client that has closed its side may still read it.
        if self.state == CLOSING or self.state == FLUSH:
            self.close_after = True
            return 0
        return self._on_gone()

    cdef int _on_failed(self) except -1:
        return self._on_gone()

    cdef int _on_gone(self) except -1:
        """FIN or RST: the client is gone, whatever it waited for."""
        cdef Exchange exchange = self.exchange
        self.exchange = None
        self.close()
        if exchange is not None and self.state != COLLECT:
            exchange.on_client_gone()
        return 0

    cdef int _on_deadline(self, int64_t now_ns) except -1:
        if self.out_mark:
            if self.untaken() < self.out_mark:
                self._expect_taking()
                return 0
            return self._on_stuck()
        if self.state == HEAD and self.started_ns:
            self.close_after = True
            self.body_done = False
            return self._refuse(TOO_SLOW, None, None)
        if self.state == COLLECT or self.state == STREAM:
            return self._on_body_deadline(now_ns)
        if self.state == ANSWER or self.state == WAIT or self.state == TUNNEL:
            return 0
        self.close()
        return 0

    cdef int _on_body_deadline(self, int64_t now_ns) except -1:
        if self.body_bytes - self.body_mark >= self.proxy.body_min_bytes or self.paused:
            self.body_mark = self.body_bytes
            self.expire_at(now_ns + self.proxy.body_timeout_ns)
            return 0
        return self._on_bad_body(TOO_SLOW)

    cdef int _on_stuck(self) except -1:
        """The client does not take its answer."""
        cdef Exchange exchange = self.exchange
        self.exchange = None
        self.reset()
        if exchange is not None:
            exchange.on_client_gone()
        return 0

    cdef void cut_off(self) noexcept:
        """fe ends: of an answer that is not complete, the end of the connection must not make a whole one."""
        if self.exchange is not None or self.pending():
            self.reset()

    cdef int on_drain(self) except -1:
        """fe is ending: an idle connection has little time left to bring its next request."""
        if self.state == HEAD and self.started_ns == 0:
            self.expire_at(min(self.deadline.due_ns, self.reactor.now_ns + self.proxy.idle_timeout_ns))
        return 0
