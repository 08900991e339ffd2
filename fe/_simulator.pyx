# A deployment in virtual time: requests arrive, get a place at the least loaded replica or wait in one queue, leave.
#
# Owns: the rules by which the lease table admits, queues and hands over (fe/_protocol.h; fe/_core.pyx: hold_or_wait),
# as events in order of time, with exact integrals and counts of what happened. Never: a random number (arrivals and
# durations are given), a decision about replicas, a real clock. Times are in ns from the beginning.
# Read next: fe/simulation/run.py, which drives it.

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from collections import namedtuple


cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) noexcept nogil

cdef enum:
    NONE = -1
    MOST = 0x7FFFFFFF       # capacity, replicas
    FINE = 5                # waits are counted in 2^FINE buckets to each doubling, 3 % wide
    FIRST = 10              # from 2^FIRST ns on; the bucket below has those that did not wait
    BUCKETS = 1 + (50 - FIRST) * (1 << FINE)

cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF

# Each bucket of `Simulator.waits` ends below its bound; the last has no end.
WAIT_BOUNDS_NS = (1 << FIRST, *(((1 << FINE) + step + 1) << (exponent - FINE)
                                for exponent in range(FIRST, 50) for step in range(1 << FINE)))

Tally = namedtuple(
    "Tally", "arrived served queue_full queue_wait no_replica granted wait_ns in_flight_integral queue_integral"
    " ready_integral replica_integral", module=__name__,
)

cdef struct Replica:
    int32_t in_flight
    bint ready              # False: it drains, or the record is free
    int32_t prev            # neighbours on its level; free records are linked by `next`
    int32_t next

cdef struct Level:          # the ready replicas with the same number in flight; who came first is first
    int32_t head
    int32_t tail

cdef struct Departure:
    int64_t at
    int64_t number          # of the grant: who leaves at the same time leaves in this order
    int32_t replica

cdef struct Waiter:
    int64_t number          # of the arrival: the order of the queue
    int64_t arrived
    int64_t deadline
    int64_t service

cdef struct Ring:           # waiters of one patience, so that their deadlines never fall
    Waiter* items
    size_t room             # a power of two, or 0
    size_t head             # head and tail only grow; the item of a number is at `number & (room - 1)`
    size_t tail


cdef inline void* grown(void* memory, size_t count, size_t size) except NULL:
    cdef void* more = realloc(memory, count * size)
    if more is NULL:
        raise MemoryError(f"no memory for {count:,} records of the simulation")
    return more


cdef inline int ring_append(Ring* ring, Waiter* waiter) except -1:
    cdef size_t number, room = ring.room
    if ring.tail - ring.head == room:
        ring.items = <Waiter*> grown(ring.items, 2 * room if room else 64, sizeof(Waiter))
        ring.room = 2 * room if room else 64
        for number in range(ring.head, ring.tail):  # those whose place is in the new half now
            ring.items[number & (ring.room - 1)] = ring.items[number & (room - 1)]
    ring.items[ring.tail & (ring.room - 1)] = waiter[0]
    ring.tail += 1
    return 0


cdef inline Waiter* ring_first(Ring* ring) noexcept:
    return NULL if ring.head == ring.tail else &ring.items[ring.head & (ring.room - 1)]


cdef inline bint before(const Departure* one, const Departure* other) noexcept:
    return one.at < other.at or (one.at == other.at and one.number < other.number)


cdef void heap_push(Departure* heap, size_t count, Departure new) noexcept:
    """Into a binary heap of `count` that has room for one more."""
    cdef size_t i = count, above
    while i > 0:
        above = (i - 1) >> 1
        if not before(&new, &heap[above]):
            break
        heap[i] = heap[above]
        i = above
    heap[i] = new


cdef void heap_pop(Departure* heap, size_t count) noexcept:
    """The first of `count` is gone."""
    cdef Departure last = heap[count - 1]
    cdef size_t i = 0, below = 1
    while below < count - 1:
        if below + 1 < count - 1 and before(&heap[below + 1], &heap[below]):
            below += 1
        if not before(&heap[below], &last):
            break
        heap[i] = heap[below]
        i = below
        below = 2 * i + 1
    heap[i] = last


cdef inline int bucket_of(int64_t ns) noexcept:
    cdef int exponent
    if ns < 1 << FIRST:
        return 0
    exponent = 63 - leading_zeros(ns)
    return min(1 + ((exponent - FIRST) << FINE) + <int> ((ns >> (exponent - FINE)) & ((1 << FINE) - 1)), BUCKETS - 1)


cdef class Simulator:
    cdef readonly int64_t now
    cdef readonly int64_t in_flight
    cdef readonly int64_t ready
    cdef readonly int64_t draining
    cdef int64_t max_queue, max_wait, cold_wait
    cdef int64_t arrived, served, queue_full, queue_wait, no_replica, granted, wait_ns
    cdef int64_t in_flight_integral, queue_integral, ready_integral, replica_integral
    cdef int64_t counted[BUCKETS]
    cdef const int64_t[::1] arrivals
    cdef const int64_t[::1] services
    cdef Py_ssize_t position, given
    cdef Departure* leaving
    cdef size_t leaving_room
    cdef int64_t grants, numbers
    cdef Ring usual          # wait max_wait
    cdef Ring cold           # came when no replica was ready: wait cold_wait
    cdef Replica* replicas
    cdef int32_t replicas_room, replicas_used, replicas_free
    cdef Level* levels       # by requests in flight, 0 to capacity
    cdef int32_t capacity, lowest  # no level below `lowest` has a replica

    def __cinit__(self, *, capacity, max_queue, max_wait_ns, cold_wait_ns):
        cdef int32_t level
        if not 1 <= capacity < MOST or min(max_queue, max_wait_ns, cold_wait_ns) < 0:
            raise ValueError("capacity has to be at least 1, and no limit negative")
        self.capacity, self.max_queue = capacity, max_queue
        self.max_wait, self.cold_wait = max_wait_ns, cold_wait_ns
        self.replicas_free = NONE
        self.levels = <Level*> grown(NULL, self.capacity + 1, sizeof(Level))
        for level in range(self.capacity + 1):
            self.levels[level].head = self.levels[level].tail = NONE

    def __dealloc__(self):
        free(self.levels)
        free(self.replicas)
        free(self.leaving)
        free(self.usual.items)
        free(self.cold.items)

    @property
    def queued(self):
        """Requests that wait now."""
        return self._queue_length()

    def feed(self, const int64_t[::1] arrivals, const int64_t[::1] services):
        """The next arrivals, not before `now` and in order of time, and how long each of them is in flight."""
        cdef int64_t last = self.now
        cdef Py_ssize_t i
        if self.position < self.given:
            raise ValueError(f"{self.given - self.position} arrivals fed before have not come yet")
        if arrivals.shape[0] != services.shape[0]:
            raise ValueError(f"{arrivals.shape[0]} arrivals with {services.shape[0]} durations")
        for i in range(arrivals.shape[0]):
            if arrivals[i] < last or services[i] < 0:
                raise ValueError("arrivals have to be in order of time, durations not negative")
            last = arrivals[i]
        self.arrivals, self.services = arrivals, services
        self.position, self.given = 0, arrivals.shape[0]

    def advance(self, int64_t until):
        """Lets everything happen that happens before `until`."""
        cdef int64_t leaves, expires, arrives
        if until < self.now:
            raise ValueError(f"it is {self.now} ns already, past {until} ns")
        while True:
            leaves = self.leaving[0].at if self.in_flight else NEVER
            expires = self._next_deadline()
            arrives = self.arrivals[self.position] if self.position < self.given else NEVER
            if min(leaves, expires, arrives) >= until:
                break
            # At the same time: whose wait is over gets no place any more, and a place that is free serves who comes.
            if expires <= leaves and expires <= arrives:
                self._account(expires)
                self._first_waiter()
            elif leaves <= arrives:
                self._account(leaves)
                self._leave()
            else:
                self._account(arrives)
                self._arrive(self.services[self.position])
                self.position += 1
        self._account(until)

    def add_replica(self):
        """One more is ready now."""
        cdef int32_t replica = self.replicas_free
        if replica == NONE:
            if self.replicas_used == self.replicas_room:
                self.replicas_room = 2 * self.replicas_room + 64
                self.replicas = <Replica*> grown(self.replicas, self.replicas_room, sizeof(Replica))
            replica = self.replicas_used
            self.replicas_used += 1
        else:
            self.replicas_free = self.replicas[replica].next
        self.replicas[replica].in_flight = 0
        self.replicas[replica].ready = True
        self.ready += 1
        self._enter(replica)
        self._grant_free()

    def drain_replica(self):
        """The least loaded ready one gets nothing new and goes when it is empty. ValueError if none is ready."""
        cdef int32_t replica, level = self.lowest
        if self.ready == 0:
            raise ValueError("no replica is ready")
        while self.levels[level].head == NONE:
            level += 1
        replica = self.levels[level].head
        self._leave_level(replica)
        self.replicas[replica].ready = False
        self.ready -= 1
        self.draining += 1
        self._free_if_empty(replica)

    def tally(self):
        """What happened since the last call. Integrals are in ns, times requests or replicas (ready; draining too)."""
        taken = Tally(self.arrived, self.served, self.queue_full, self.queue_wait, self.no_replica, self.granted,
                      self.wait_ns, self.in_flight_integral, self.queue_integral, self.ready_integral,
                      self.replica_integral)
        self.arrived = self.served = self.queue_full = self.queue_wait = self.no_replica = self.granted = 0
        self.wait_ns = self.in_flight_integral = self.queue_integral = 0
        self.ready_integral = self.replica_integral = 0
        return taken

    def waits(self):
        """How many of those granted a place since the last call waited how long, by WAIT_BOUNDS_NS."""
        counts = [self.counted[bucket] for bucket in range(BUCKETS)]
        memset(self.counted, 0, sizeof(self.counted))
        return counts

    # --- events ---

    cdef int _arrive(self, int64_t service) except -1:
        cdef Waiter waiter
        cdef int64_t wait = self.max_wait
        cdef int32_t replica
        self.arrived += 1
        if self.ready == 0:
            wait = self.cold_wait
            if wait == 0:
                self.no_replica += 1
                return 0
        replica = self._least_loaded() if self._queue_length() == 0 else NONE
        if replica != NONE:
            self._grant(replica, service, 0)
            return 0
        if self._queue_length() >= self.max_queue:
            self.queue_full += 1
            return 0
        waiter.number, waiter.arrived, waiter.service = self.numbers, self.now, service
        waiter.deadline = self.now + wait
        self.numbers += 1
        ring_append(&self.usual if self.ready else &self.cold, &waiter)
        return 0

    cdef int _leave(self) except -1:
        """The first departure. Its place goes to the first waiter, if the replica still takes requests."""
        cdef int32_t replica = self.leaving[0].replica
        heap_pop(self.leaving, self.in_flight)
        self.in_flight -= 1
        self.served += 1
        if self.replicas[replica].ready:
            self._shift(replica, -1)
            self._grant_free()
        else:
            self.replicas[replica].in_flight -= 1
            self._free_if_empty(replica)
        return 0

    cdef int _grant_free(self) except -1:
        """Free places to waiters, until one of both has run out."""
        cdef Ring* ring
        cdef Waiter* waiter
        cdef int32_t replica
        while True:
            ring = self._first_waiter()
            replica = self._least_loaded() if ring != NULL else NONE
            if replica == NONE:
                return 0
            waiter = ring_first(ring)
            ring.head += 1
            self._grant(replica, waiter.service, self.now - waiter.arrived)

    cdef int _grant(self, int32_t replica, int64_t service, int64_t waited) except -1:
        cdef Departure departure
        if <size_t> self.in_flight == self.leaving_room:
            self.leaving_room = 2 * self.leaving_room + 64
            self.leaving = <Departure*> grown(self.leaving, self.leaving_room, sizeof(Departure))
        departure.at, departure.number, departure.replica = self.now + service, self.grants, replica
        heap_push(self.leaving, self.in_flight, departure)
        self.grants += 1
        self.in_flight += 1
        self.granted += 1
        self.wait_ns += waited
        self.counted[bucket_of(waited)] += 1
        self._shift(replica, 1)
        return 0

    cdef inline void _account(self, int64_t at) noexcept:
        cdef int64_t passed = at - self.now
        self.in_flight_integral += passed * self.in_flight
        self.queue_integral += passed * self._queue_length()
        self.ready_integral += passed * self.ready
        self.replica_integral += passed * (self.ready + self.draining)
        self.now = at

    # --- the queue: two rings, one order ---

    cdef inline int64_t _queue_length(self) noexcept:
        return (self.usual.tail - self.usual.head) + (self.cold.tail - self.cold.head)

    cdef inline int64_t _next_deadline(self) noexcept:
        cdef Waiter* usual = ring_first(&self.usual)
        cdef Waiter* cold = ring_first(&self.cold)
        return min(NEVER if usual is NULL else usual.deadline, NEVER if cold is NULL else cold.deadline)

    cdef Ring* _first_waiter(self) noexcept:
        """The ring whose first waits longest, after those whose wait is over have gone; NULL when nobody waits."""
        cdef Waiter* usual = self._drop_expired(&self.usual)
        cdef Waiter* cold = self._drop_expired(&self.cold)
        if usual is NULL or (cold is not NULL and cold.number < usual.number):
            return NULL if cold is NULL else &self.cold
        return &self.usual

    cdef inline Waiter* _drop_expired(self, Ring* ring) noexcept:
        cdef Waiter* first = ring_first(ring)
        while first is not NULL and first.deadline <= self.now:
            ring.head += 1
            self.queue_wait += 1
            first = ring_first(ring)
        return first

    # --- replicas by load ---

    cdef inline int32_t _least_loaded(self) noexcept:
        while self.lowest < self.capacity and self.levels[self.lowest].head == NONE:
            self.lowest += 1
        return self.levels[self.lowest].head if self.lowest < self.capacity else NONE

    cdef inline void _shift(self, int32_t replica, int32_t by) noexcept:
        self._leave_level(replica)
        self.replicas[replica].in_flight += by
        self._enter(replica)

    cdef inline void _enter(self, int32_t replica) noexcept:
        cdef Replica* entering = &self.replicas[replica]
        cdef Level* level = &self.levels[entering.in_flight]
        entering.prev, entering.next = level.tail, NONE
        if level.tail == NONE:
            level.head = replica
        else:
            self.replicas[level.tail].next = replica
        level.tail = replica
        self.lowest = min(self.lowest, entering.in_flight)

    cdef inline void _leave_level(self, int32_t replica) noexcept:
        cdef Replica* leaving = &self.replicas[replica]
        cdef Level* level = &self.levels[leaving.in_flight]
        if leaving.prev == NONE:
            level.head = leaving.next
        else:
            self.replicas[leaving.prev].next = leaving.next
        if leaving.next == NONE:
            level.tail = leaving.prev
        else:
            self.replicas[leaving.next].prev = leaving.prev

    cdef inline void _free_if_empty(self, int32_t replica) noexcept:
        if self.replicas[replica].in_flight == 0:
            self.replicas[replica].next = self.replicas_free
            self.replicas_free = replica
            self.draining -= 1
