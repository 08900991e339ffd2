# One request on its way: lease, connection, request, answer, release.
#
# Owns: the order of these steps, what is tried again and what is not, every deadline of a request, the lease (taken in
# `start`, given back in `_give_back`, on each path) and the request's line in statistics and access log. Never: sockets
# or framing; the client's side is _downstream.pyx (through Client), the replica's _upstream.pyx (through UpstreamUser).
#
#   QUEUED -> REACHING -> SENT -> ANSWERING -> ENDED        TUNNEL: a WebSocket after 101
#      \          \         \          \--> LEFT: the client is gone (or was told 504), the replica still works on it
#
# `Proxy` is what the exchanges of one worker share; _server.pyx completes it with the accepting of clients.

import logging

from libc.stdint cimport int64_t, uint32_t

from fe._core cimport (
    FE_GONE, FE_HELD, FE_NO_SLOT, FE_QUEUE_FULL, FE_WAITING,
    ReplicaAddress, deployment_state, lease_acquire, lease_await, lease_cancel, lease_collect, lease_mail,
    lease_release, lease_retry, lease_try_acquire, monotonic_ns, replica_address, replica_failed, replica_succeeded,
    stat_add, stat_observe,
)
from fe.proxy._access cimport Facts, build_line
from fe.proxy._build cimport (
    SEND_UPGRADE, STRIP_AUTHORIZATION, UPSTREAM_CHUNKED, UPSTREAM_NO_BODY, build_downstream_head, build_interim_head,
    build_switch_head, build_upstream_head,
)
from fe.proxy._chunked cimport CHUNK_HEAD_ROOM, put_chunk_head
from fe.proxy._head cimport (
    BODY_CLOSE, BODY_NONE, METHOD_DELETE, METHOD_GET, METHOD_HEAD, METHOD_OPTIONS, METHOD_PUT,
)
from fe.proxy._upstream cimport FAILED_CONNECT, FAILED_INVALID, FAILED_SILENT

from fe import model
from fe.proxy import answers

log = logging.getLogger("fe.worker")

cdef enum Phase:
    NEW = 0
    QUEUED = 1
    REACHING = 2     # holds a lease, connects to its replica
    SENT = 3         # the request is out, or its head is and its body follows
    ANSWERING = 4    # the head of the answer has come
    TUNNEL = 5
    LEFT = 6
    ENDED = 7

cdef enum:
    MOST_ATTEMPTS = 16      # connections tried for one request; the deadline ends it earlier
    GRANTS = 64             # taken out of the mailbox at once
    EJECT_AFTER = 3         # exchanges in a row that a replica breaks

cdef int64_t TUNNEL_IDLE_NS = 75_000_000_000

cdef uint32_t COUNT_REQUESTS = model.COUNTER_INDEX["requests"]
cdef uint32_t COUNT_QUEUED = model.COUNTER_INDEX["queued"]
cdef uint32_t COUNT_RETRIES = model.COUNTER_INDEX["retries"]
cdef uint32_t COUNT_REQUEST_BYTES = model.COUNTER_INDEX["request_bytes"]
cdef uint32_t COUNT_RESPONSE_BYTES = model.COUNTER_INDEX["response_bytes"]
cdef uint32_t COUNT_MIRRORED = model.COUNTER_INDEX["mirrored"]
cdef uint32_t COUNT_MIRROR_SKIPPED = model.COUNTER_INDEX["mirror_skipped"]
cdef uint32_t COUNT_ABANDONED = model.COUNTER_INDEX["abandoned"]
cdef uint32_t COUNT_UPSTREAM = model.COUNTER_INDEX["upstream_connections"]
cdef uint32_t TOTAL = model.HISTOGRAM_NAMES.index("total")
cdef uint32_t QUEUE = model.HISTOGRAM_NAMES.index("queue")
cdef uint32_t REPLICA = model.HISTOGRAM_NAMES.index("replica")
cdef uint32_t[600] STATUS_COUNTERS
cdef dict REASON_COUNTERS = {name: model.COUNTER_INDEX[f"reason_{name}"] for name in model.REASONS}

cdef object QUEUE_FULL = answers.ANSWERS["queue_full"]
cdef object QUEUE_WAIT = answers.ANSWERS["queue_wait"]
cdef object NO_SLOT = answers.ANSWERS["no_slot"]
cdef object NO_REPLICA = answers.ANSWERS["no_replica"]
cdef object CONNECT_FAILED = answers.ANSWERS["connect_failed"]
cdef object REPLICA_CLOSED = answers.ANSWERS["replica_closed"]
cdef object REPLICA_INVALID = answers.ANSWERS["replica_invalid"]
cdef object REPLICA_TIMEOUT = answers.ANSWERS["replica_timeout"]
cdef object DRAINING = answers.ANSWERS["draining"]
cdef object INTERNAL = answers.ANSWERS["internal"]

for _status in range(600):
    STATUS_COUNTERS[_status] = model.COUNTER_INDEX.get(
        f"status_{_status}", model.COUNTER_INDEX.get(f"status_{_status // 100 * 100}", 0)
    )


cdef void count_status(Holder holder, uint32_t record, int status) noexcept:
    if 100 <= status < 600:
        stat_add(holder, record, STATUS_COUNTERS[status], 1)


cdef void count_reason(Holder holder, uint32_t record, str reason) noexcept:
    stat_add(holder, record, <uint32_t> REASON_COUNTERS[reason], 1)


cdef class Client(Channel):
    """The client's connection, as an exchange sees it; see _exchange.pxd."""

    cdef int _on_body_wanted(self) except -1:
        return 0

    cdef int _on_interim(self, bytes head) except -1:
        return TAKEN

    cdef int _on_answer(self, bytes data, bint last, bint close) except -1:
        return TAKEN

    cdef int _on_answer_piece(self, iovec* pieces, int count, bint last) except -1:
        return TAKEN

    cdef int _on_switched(self, bytes data) except -1:
        return TAKEN

    cdef int _on_refused(self, object answer, str detail) except -1:
        return TAKEN

    cdef int _on_broken(self, bint by_reset) except -1:
        return 0


cdef class Proxy(Passing):
    """What all exchanges of a worker share. `configure` is called for each published snapshot."""

    def __init__(self, Holder holder):
        self.holder = holder
        self.table = holder.table
        self.reactor = Reactor(self)
        self.pool = Pool(self.reactor, self.table.limits.replicas)
        self.waiting = [None] * self.table.limits.slots
        self.starved = []

    def configure(self, snapshot):
        """Serves from this snapshot from the next request on; requests under way keep what they started with."""
        http = snapshot.http
        self.limits.target_bytes = http.target_bytes
        self.limits.header_bytes = http.header_bytes
        self.limits.header_fields = http.header_fields
        self.header_timeout_ns = http.header_timeout_ms * 1_000_000
        self.idle_timeout_ns = http.idle_timeout_ms * 1_000_000
        self.body_timeout_ns = http.body_timeout_ms * 1_000_000
        self.write_timeout_ns = http.write_timeout_ms * 1_000_000
        self.body_min_bytes = http.body_min_bytes
        self.collect_bytes = http.collect_bytes
        self.pool.set_limits(
            http.header_bytes, http.header_fields, http.connect_timeout_ms, http.upstream_idle_ms,
            http.upstream_idle_connections,
        )
        self.router = Router(snapshot)

    def refresh(self):
        """Takes up a newer snapshot if one is published."""

    cdef int _on_pass(self) except -1:
        cdef list starved
        cdef Exchange exchange
        if self.starved and (self.reactor.open_count < self.reactor.open_limit or self.pool.idle_count):
            starved, self.starved = self.starved, []
            for item in starved:
                exchange = <Exchange> item
                if exchange.phase == REACHING:
                    try:
                        exchange._reach()
                    except Exception:
                        log.exception("a request without a connection failed")
                        exchange._on_fault()
        # Last: a place given back above may have gone to a waiter of this worker, and nobody rings for that.
        if lease_mail(self.holder):
            self._collect()
        return 0

    cdef int _collect(self) except -1:
        """Hand-overs that have arrived: each waiting exchange learns where its lease is, or that its time is up."""
        cdef Grant[GRANTS] grants
        cdef list exchanges
        cdef int count, i
        while True:
            count = lease_collect(self.holder, grants, GRANTS)
            if count == 0:
                return 0
            # All are taken out before the first is told: slots whose time was up are free already, and whoever is told
            # so may ask for another lease and be given the slot of one that has not been told yet.
            exchanges = []
            for i in range(count):
                exchanges.append(self.waiting[grants[i].slot])
                self.waiting[grants[i].slot] = None
            for i in range(count):
                self._tell(<Exchange> exchanges[i], &grants[i])

    cdef int _tell(self, Exchange exchange, Grant* grant) except -1:
        if exchange is None:
            if grant.result == FE_HELD:
                lease_release(self.holder, grant.slot)
            return 0
        try:
            if grant.result == FE_HELD:
                exchange._on_granted(grant.replica)
            else:
                exchange._on_expired()
        except Exception:
            log.exception("a granted request failed")
            exchange._on_fault()
        return 0


cdef class Exchange(UpstreamUser):
    """One request. Made by _downstream.pyx with its fields set, then `start`ed."""

    # --- towards a lease ---------------------------------------------------------------------------------------------

    cdef int start(self) except -1:
        """Asks for a lease; everything else follows from the answer."""
        cdef int result
        cdef int64_t deadline
        cdef Proxy proxy = self.proxy
        self.reactor = proxy.reactor
        self.asked_ns = monotonic_ns()
        proxy.in_flight += 1
        self.reactor.hurry()
        deadline = self.asked_ns + self.deployment.queue_wait_ns
        result = self._ask(deadline)
        if result == FE_GONE and self._find_again():
            result = self._ask(deadline)
        stat_add(proxy.holder, self.deployment.index, COUNT_REQUESTS, 1)
        if result == FE_WAITING:
            stat_add(proxy.holder, self.deployment.index, COUNT_QUEUED, 1)
        return self._on_asked(result, deadline)

    cdef int _ask(self, int64_t deadline_ns):
        cdef int64_t cold_ns = self._cold_until()
        if cold_ns:
            # The table is told the longer of both times: which of them is meant, and when, is decided by `_patience`.
            return lease_await(self.proxy.holder, self.deployment.index, self.deployment.generation,
                               max(deadline_ns, cold_ns), &self.slot, &self.replica)
        return lease_acquire(self.proxy.holder, self.deployment.index, self.deployment.generation, deadline_ns,
                             &self.slot, &self.replica)

    cdef int64_t _cold_until(self):
        """Until when it may wait for the first replica of a deployment that scales to zero; 0: not, or not any more."""
        cdef int64_t cold_ns = self.asked_ns + self.deployment.cold_start_ns
        return cold_ns if self.deployment.cold_start_ns != 0 and monotonic_ns() < cold_ns else 0

    cdef int64_t _patience(self):
        """Until when it waits in the queue, as things are now: for the first replica, or for a place."""
        cdef int64_t cold_ns = self.asked_ns + self.deployment.cold_start_ns
        if self.deployment.cold_start_ns == 0:
            return self.place_until_ns
        deployment_state(self.proxy.table, self.deployment.index, &self.state)
        if self.state.ready == 0:
            self.cold = True
            self.leased_ns = 0  # its replica could not be reached: the time at one begins with the next
            return cold_ns
        # Who met no replica keeps the time that it was promised.
        return max(self.place_until_ns, cold_ns) if self.cold else self.place_until_ns

    cdef bint _find_again(self):
        """The deployment was removed since the request was routed: the configuration of now may have another."""
        cdef Endpoint endpoint
        cdef Deployment deployment
        self.proxy.refresh()
        endpoint = self.proxy.router.route(self.head)
        if endpoint is None or endpoint.name != self.endpoint.name:
            return False
        deployment = endpoint.choose(self.head)
        if deployment is None:
            return False
        self.endpoint = endpoint
        self.deployment = deployment
        return True

    cdef int _on_asked(self, int result, int64_t deadline_ns) except -1:
        if result == FE_HELD:
            self.leased = True
            return self._on_lease()
        if result == FE_WAITING:
            self.phase = QUEUED
            self.proxy.waiting[self.slot] = self
            self.place_until_ns = deadline_ns
            self.expire_at(self._patience())
            return 0
        return self._refuse_for(result)

    cdef int _refuse_for(self, int result) except -1:
        """No lease and no place in the queue: the client hears why."""
        self._look()
        if result == FE_QUEUE_FULL:
            return self._refuse(QUEUE_FULL)
        return self._refuse(NO_SLOT if result == FE_NO_SLOT else NO_REPLICA)

    cdef void _look(self):
        """Takes down what a refusal tells about: the deployment's load, and how long this request has waited."""
        self.met = True
        self.waited_ns = self._waited(monotonic_ns())
        deployment_state(self.proxy.table, self.deployment.index, &self.state)

    cdef int _on_granted(self, uint32_t replica) except -1:
        self.replica = replica
        self.leased = True
        return self._on_lease()

    cdef int _on_expired(self) except -1:
        """Waited as long as it may - or its deployment was removed, and the configuration of now may have another."""
        cdef int64_t deadline = self.deadline.due_ns
        if monotonic_ns() < deadline and self._find_again():
            return self._on_asked(self._ask(deadline), deadline)
        self._look()
        if self.cold and not self._cold_until():
            if self.state.ready:
                return self._refuse(QUEUE_WAIT, f"No replica became free within {self._limit()}.")
            return self._refuse(NO_REPLICA, f"No replica became ready within {self._limit()}.")
        return self._refuse(QUEUE_WAIT if self.state.ready else NO_REPLICA)

    cdef str _limit(self):
        """The setting by which who met no replica has waited long enough. Pods are given the time for a place, so both
        are equal there."""
        cdef int64_t place_ns = self.deployment.queue_wait_ns
        cdef int64_t cold_ns = self.deployment.cold_start_ns
        if place_ns == cold_ns or (self.state.ready and place_ns > cold_ns):
            return f"max_queue_wait_ms ({place_ns // 1_000_000} ms)"
        return f"cold_start_timeout ({cold_ns // 1_000_000} ms)"

    cdef int end_waiting(self) except -1:
        """The end of fe-serve: there will be no place for it any more."""
        self._look()
        self._drop()
        return self._refuse(DRAINING)

    cdef int _on_lease(self) except -1:
        cdef int64_t now = monotonic_ns()
        if self.leased_ns == 0:
            self.leased_ns = now
        self.expire_at(self.leased_ns + self.deployment.request_timeout_ns)
        return self._reach()

    # --- towards the replica -----------------------------------------------------------------------------------------

    cdef int _reach(self) except -1:
        """Finds a connection to the leased replica, or makes one, and sends the request."""
        cdef ReplicaAddress address
        cdef Proxy proxy = self.proxy
        self.phase = REACHING
        replica_address(proxy.table, self.replica, &address)
        self.incarnation = address.incarnation
        while not self.streamed and not self.fresh:
            # A streamed body cannot be sent twice: it gets a connection that nobody is about to close.
            self.upstream = proxy.pool.take(self.replica, self.incarnation)
            if self.upstream is None:
                break
            if self._send() != LOST:
                return 0
            self.upstream.abort()
        self.upstream = proxy.pool.connect(self.replica, &address, self)
        if self.upstream is None:
            proxy.starved.append(self)
            return 0
        stat_add(proxy.holder, self.deployment.index, COUNT_UPSTREAM, 1)
        return 0

    cdef int _on_connected(self) except -1:
        if self._send() == LOST:
            self.upstream.abort()
            return self._on_upstream_failed(FAILED_CONNECT, "the replica closed the connection at once")
        return 0

    cdef int _send(self) except -1:
        """The head with a collected body, in one write; a streamed body is asked for."""
        cdef bytes data
        cdef bint websocket = self.head.websocket and self.deployment.websocket
        cdef int flags = (STRIP_AUTHORIZATION if self.endpoint.needs_key else 0) | (SEND_UPGRADE if websocket else 0)
        cdef int outcome
        if self.streamed:
            data = build_upstream_head(self.head, self.peer, self.request_id, self.body_length, flags, NULL, 0)
        elif self.head.framing == BODY_NONE:
            data = build_upstream_head(self.head, self.peer, self.request_id, UPSTREAM_NO_BODY, flags, NULL, 0)
        else:
            data = build_upstream_head(self.head, self.peer, self.request_id, len(self.body), flags,
                                       <char*> self.body, len(self.body))
        self.upstream.assign(self, self.head.method, websocket, self.streamed)
        outcome = self.upstream.send_bytes(data)
        if outcome == LOST:
            return LOST
        self.phase = SENT
        if self.streamed and outcome == TAKEN:
            self.client._on_body_wanted()
        return outcome

    cdef int feed(self, const char* data, Py_ssize_t n, bint last) except -1:
        """A piece of a streamed body, or of a tunnel. BLOCKED: no more before `_on_body_wanted`."""
        cdef iovec[4] pieces
        cdef char[CHUNK_HEAD_ROOM] size
        cdef int count = 0
        cdef int outcome
        if self.upstream is None or (self.phase != SENT and self.phase != ANSWERING and self.phase != TUNNEL):
            return TAKEN
        self.request_bytes += n
        if self.phase == TUNNEL:
            self.expire_at(self.reactor.now_ns + TUNNEL_IDLE_NS)
        if n:
            if self.body_length == UPSTREAM_CHUNKED and self.phase != TUNNEL:
                pieces[0].iov_base = size
                pieces[0].iov_len = put_chunk_head(size, n)
                pieces[1].iov_base = <char*> data
                pieces[1].iov_len = n
                pieces[2].iov_base = <char*> b"\r\n"
                pieces[2].iov_len = 2
                count = 3
            else:
                pieces[0].iov_base = <char*> data
                pieces[0].iov_len = n
                count = 1
        if last:
            self.upstream.request_open = False
            if self.body_length == UPSTREAM_CHUNKED:
                pieces[count].iov_base = <char*> b"0\r\n\r\n"
                pieces[count].iov_len = 5
                count += 1
        if count == 0:
            return TAKEN
        outcome = self.upstream.send(pieces, count)
        if outcome == LOST:
            # The replica takes no more. It may have answered already: its side of the connection decides.
            self.upstream.request_open = True
            self.upstream._on_failed()
            return TAKEN
        return outcome

    cdef int _on_drained(self) except -1:
        if self.client is not None and (self.streamed or self.phase == TUNNEL):
            self.client._on_body_wanted()
        return 0

    # --- the answer --------------------------------------------------------------------------------------------------

    cdef int _on_interim(self, ResponseHead response) except -1:
        if self.client is not None and self.head.minor == 1:
            self.client._on_interim(build_interim_head(response))
        return 0

    cdef int _on_response(self, ResponseHead response, const char* body, Py_ssize_t n, bint last) except -1:
        cdef bytes data
        cdef bint close
        self.answered_ns = monotonic_ns()
        replica_succeeded(self.proxy.holder, self.replica)
        if last:
            self._give_back()
        if self.client is None:
            return self._on_unheard(response.status, last)
        self.response = response
        self.answered = True
        self.phase = ANSWERING
        self.status = self.replica_status = response.status
        self.response_bytes = n
        # An answer to a request whose body is still coming: what is left of it is not worth keeping the connection for.
        close = self.proxy.draining or self.upstream.request_open
        data = build_downstream_head(response, self.head, self.request_id, self.deployment.header_line, close,
                                     body, n, last)
        return self._on_told(self.client._on_answer(data, last, response.send_close), last)

    cdef int _on_piece(self, const char* data, Py_ssize_t n, bint last) except -1:
        cdef iovec[4] pieces
        cdef char[CHUNK_HEAD_ROOM] size
        cdef int count = 0
        if last:
            self._give_back()
        if self.client is None:
            return self._on_unheard(self.replica_status, last)
        self.response_bytes += n
        if n:
            if self.phase == ANSWERING and self.response.send_chunked:
                pieces[0].iov_base = size
                pieces[0].iov_len = put_chunk_head(size, n)
                pieces[1].iov_base = <char*> data
                pieces[1].iov_len = n
                pieces[2].iov_base = <char*> b"\r\n"
                pieces[2].iov_len = 2
                count = 3
            else:
                pieces[0].iov_base = <char*> data
                pieces[0].iov_len = n
                count = 1
        if last and self.phase == ANSWERING and self.response.send_chunked:
            pieces[count].iov_base = <char*> b"0\r\n\r\n"
            pieces[count].iov_len = 5
            count += 1
        return self._on_told(self.client._on_answer_piece(pieces, count, last), last)

    cdef int _on_told(self, int outcome, bint last) except -1:
        """The client has (or has not) taken what was sent to it."""
        if outcome == LOST:
            self.client = None
            if last:
                return self._end(self.status, None)
            return self._leave(499, "client_gone")
        if last:
            return self._end(self.status, None)
        if outcome == BLOCKED:
            self.upstream.pause()
            self.expire_at(0)   # the client's own deadline counts until it reads again
        else:
            self._expect_more()
        return 0

    cdef void _expect_more(self) noexcept:
        if self.phase == TUNNEL:
            self.expire_at(self.reactor.now_ns + TUNNEL_IDLE_NS)
        else:
            self.expire_at(self.reactor.now_ns + self.deployment.request_timeout_ns)

    cdef int on_client_drained(self) except -1:
        """A client that was BLOCKED has taken everything: go on."""
        if self.phase == ANSWERING or self.phase == TUNNEL:
            self._expect_more()
            self.upstream.resume()
        return 0

    cdef int _on_switched(self, ResponseHead response, const char* data, Py_ssize_t n) except -1:
        cdef bytes head
        self.answered_ns = monotonic_ns()
        self.status = self.replica_status = 101
        if self.client is None:
            self.upstream.abort()
            self._give_back()
            return self._on_unheard(101, True)
        self.phase = TUNNEL
        self.response_bytes = n
        head = build_switch_head(response, self.request_id, self.head.client_request_id, self.deployment.header_line)
        return self._on_told(self.client._on_switched(head + data[:n]), False)

    # --- when it goes wrong ------------------------------------------------------------------------------------------

    cdef int _on_upstream_failed(self, int failure, str problem) except -1:
        cdef bint reused = self.upstream.reused and failure == FAILED_SILENT
        if self.phase == LEFT or self.client is None and not self.mirrored:
            self._give_back()
            return self._close_books()
        if failure == FAILED_CONNECT:
            return self._on_unreachable(problem)
        if reused and self._may_repeat():
            self.attempts += 1
            self.fresh = True
            stat_add(self.proxy.holder, self.deployment.index, COUNT_RETRIES, 1)
            return self._reach()
        if not reused and replica_failed(self.proxy.holder, self.replica, self.incarnation, EJECT_AFTER):
            log.warning("replica %d of %s set aside: %s", self.replica, self.deployment.full_name, problem)
        self._look()
        self._give_back()
        if self.answered or self.phase == TUNNEL:
            return self._break_off("replica_closed")
        if failure != FAILED_INVALID:
            return self._refuse(REPLICA_CLOSED)
        return self._refuse(REPLICA_INVALID, problem)

    cdef bint _may_repeat(self):
        """RFC 9110 9.2.2: what is not idempotent is sent again only where the deployment says that this is safe."""
        cdef int method = self.head.method
        if self.streamed or self.attempts >= MOST_ATTEMPTS:
            return False
        return self.deployment.retry_on_reset or method in (
            METHOD_GET, METHOD_HEAD, METHOD_PUT, METHOD_DELETE, METHOD_OPTIONS,
        )

    cdef int _on_unreachable(self, str problem) except -1:
        """Nothing was sent: set the replica aside and go to another, keeping the place in the order."""
        cdef int result
        cdef int64_t deadline, cold
        if replica_failed(self.proxy.holder, self.replica, self.incarnation, 1):
            log.warning("replica %d of %s set aside: %s", self.replica, self.deployment.full_name, problem)
        self.attempts += 1
        if self.mirrored or self.attempts >= MOST_ATTEMPTS:
            self._look()
            self._give_back()
            return self._refuse(CONNECT_FAILED, problem)
        stat_add(self.proxy.holder, self.deployment.index, COUNT_RETRIES, 1)
        self.fresh = False
        self.leased = False
        self.cold = False
        deadline = min(monotonic_ns() + self.deployment.queue_wait_ns,
                       self.leased_ns + self.deployment.request_timeout_ns)
        cold = self._cold_until()
        result = lease_retry(self.proxy.holder, self.slot, max(deadline, cold), cold != 0, &self.replica)
        if result == FE_GONE and self._find_again():
            result = self._ask(deadline)
        return self._on_asked(result, deadline)

    cdef int _break_off(self, str reason) except -1:
        """The answer has begun and cannot be completed: the client must not take it for the whole."""
        cdef Client client = self.client
        cdef bint by_reset = self.phase != TUNNEL and not self.response.send_chunked and (
            self.response.framing == BODY_CLOSE or self.response.content_length < 0
        )
        self.client = None
        if client is not None:
            client._on_broken(by_reset)
        return self._end(self.status, reason)

    cdef int _refuse(self, object answer, str detail="") except -1:
        cdef Client client = self.client
        self.client = None
        if client is not None and client._on_refused(answer, detail) == LOST:
            return self._end(499, "client_gone")
        return self._end(answer.status, answer.reason)

    cdef int refuse_request(self, object answer) except -1:
        """The rest of a streamed body turned out wrong: the replica sees it cut off, the client hears why."""
        self._drop()
        return self._break_off(answer.reason) if self.answered else self._refuse(answer)

    cdef int on_client_gone(self) except -1:
        """The client has left: a place in the queue is given up, work at a replica is finished or aborted."""
        self.client = None
        if self.phase == TUNNEL:
            if self.upstream.unsent():
                self.upstream.abort()   # the replica has to learn of it before its place is given away
            else:
                self.upstream.close()
            self._give_back()
            return self._end(self.status, None)
        return self._leave(499, "client_gone")

    cdef int _leave(self, int status, str reason) except -1:
        """Nobody waits for the answer any more."""
        if (
            (self.phase == SENT or self.phase == ANSWERING) and self.deployment.finish
            and not self.upstream.request_open and self.deployment.abandon_timeout_ns > 0
        ):
            # Most model servers go on computing: a lease given back now would overload the replica.
            self.phase = LEFT
            stat_add(self.proxy.holder, self.deployment.index, COUNT_ABANDONED, 1)
            self._account(status, reason)
            self.expire_at(self.reactor.now_ns + self.deployment.abandon_timeout_ns)
            self.upstream.resume()
            return 0
        self._drop()
        return self._end(status, reason)

    cdef int _drop(self) except -1:
        """Gives up queue place, connection and lease, whichever there is."""
        cdef uint32_t replica
        if self.phase == QUEUED:
            self.proxy.waiting[self.slot] = None
            self.leased = lease_cancel(self.proxy.holder, self.slot, &replica) == FE_HELD
        elif self.upstream is not None:
            self.upstream.abort()
        self._give_back()
        return 0

    cdef int _on_deadline(self, int64_t now_ns) except -1:
        cdef uint32_t replica
        cdef int64_t until
        cdef Client client
        if self.phase == QUEUED:
            until = self._patience()
            if until > now_ns:
                self.expire_at(until)   # the last replica has gone meanwhile, or the first has come
                return 0
            self.proxy.waiting[self.slot] = None
            if lease_cancel(self.proxy.holder, self.slot, &replica) == FE_HELD:
                return self._on_granted(replica)
            return self._on_expired()
        if self.phase == LEFT:
            self._drop()
            return self._close_books()
        if self.phase == ENDED:
            return 0
        client = self.client
        self.client = None
        self._look()
        if client is not None:
            if self.answered or self.phase == TUNNEL:
                client._on_broken(self.phase != TUNNEL and not self.response.send_chunked)
            elif client._on_refused(REPLICA_TIMEOUT, "") == LOST:
                return self._leave(499, "client_gone")
        return self._leave(self.status if self.status else 504, "replica_timeout")

    cdef int _on_fault(self) except -1:
        self._drop()
        if self.answered or self.phase == TUNNEL:
            return self._break_off("internal")
        return self._refuse(INTERNAL)

    # --- the end -----------------------------------------------------------------------------------------------------

    cdef void _give_back(self) noexcept:
        if self.leased:
            self.leased = False
            lease_release(self.proxy.holder, self.slot)

    cdef int _on_unheard(self, int status, bint last) except -1:
        """An answer that nobody waits for: it only tells when the replica is free again."""
        self.replica_status = status
        if last:
            return self._close_books()
        return 0

    cdef int _end(self, int status, str reason) except -1:
        self._account(status, reason)
        return self._close_books()

    cdef int _close_books(self) except -1:
        if self.phase == ENDED:
            return 0
        self.phase = ENDED
        self.expire_at(0)
        self.client = None
        self.upstream = None
        self.response = None
        return 0

    cdef int _account(self, int status, str reason) except -1:
        """Statistics and the access line: once per request, when its client has its answer or is gone."""
        cdef Holder holder = self.proxy.holder
        cdef uint32_t record = self.deployment.index
        cdef int64_t now = monotonic_ns()
        if self.mirrored or self.accounted:
            return 0
        self.accounted = True
        self.proxy.in_flight -= 1
        self.status = status
        self.reason = reason
        count_status(holder, record, status)
        if reason is not None:
            count_reason(holder, record, reason)
        stat_add(holder, record, COUNT_REQUEST_BYTES, self.request_bytes)
        stat_add(holder, record, COUNT_RESPONSE_BYTES, self.response_bytes)
        stat_observe(holder, record, TOTAL, now - self.started_ns)
        if self.leased_ns or self.phase == QUEUED:  # who waited in vain has waited too
            stat_observe(holder, record, QUEUE, self._waited(now))
            if self.answered_ns:
                stat_observe(holder, record, REPLICA, self.answered_ns - self.leased_ns)
        if self.proxy.access_log is not None:
            self._write_line(now)
        return 0

    cdef int64_t _waited(self, int64_t now):
        """For a place at a replica, until there was one or no more hope of one."""
        return (self.leased_ns or now) - self.asked_ns

    cdef int _write_line(self, int64_t now) except -1:
        cdef Facts facts
        facts.status = self.status
        facts.model_status = self.replica_status
        facts.request_bytes = self.request_bytes
        facts.response_bytes = self.response_bytes
        facts.total_ns = now - self.started_ns
        facts.queue_ns = self._waited(now)
        facts.model_ns = (self.answered_ns or now) - self.leased_ns if self.leased_ns else 0
        facts.met = &self.state if self.met else NULL
        self.proxy.access_log.add(build_line(
            self.proxy.log_json, self.head, self.peer, self.request_id,
            self.endpoint.name, self.deployment.name, self.reason, &facts,
        ))
        return 0


cdef int mirror(Exchange original) except -1:
    """Copies a collected request to where the endpoint mirrors to, if a place is free there; the answer is dropped."""
    cdef Deployment deployment = original.endpoint.mirror()
    cdef Proxy proxy = original.proxy
    cdef Exchange copy
    if deployment is None:
        return 0
    copy = Exchange.__new__(Exchange)
    copy.proxy = proxy
    copy.reactor = proxy.reactor
    copy.mirrored = True
    if lease_try_acquire(proxy.holder, deployment.index, deployment.generation, &copy.slot, &copy.replica) != FE_HELD:
        stat_add(proxy.holder, deployment.index, COUNT_MIRROR_SKIPPED, 1)
        return 0
    stat_add(proxy.holder, deployment.index, COUNT_MIRRORED, 1)
    copy.leased = True
    copy.head = original.head
    copy.peer = original.peer
    copy.endpoint = original.endpoint
    copy.deployment = deployment
    copy.request_id = original.request_id
    copy.body = original.body
    copy.started_ns = copy.asked_ns = original.started_ns
    try:
        copy._on_lease()
    except Exception:
        log.exception("a mirrored request failed")
        copy._on_fault()
    return 0
