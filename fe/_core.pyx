"""The lease table: who may have a request in flight at which replica, decided in shared memory by all processes alike.

Owns: the slots (the truth), the order of stores, the recount that mends whatever a dead process left, and the Python
types over them. Never: knows of event loops, HTTP or configuration; calls Python while a deployment's lock is held.
Records and primitives are in _layout.h, the lists that make choices O(1) in _caches.h; _core.pxd is what other modules
call on a request's path, _core.pyi what everyone else calls. Read docs/shared-memory.md for the why.
"""

import os
import time
from collections import namedtuple

from fe import _memory

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close

from fe._layout cimport (
    ACQ_REL, exchange, fe_account, fe_address, fe_belongs, fe_bucket, fe_bucket_bound, FE_BUCKETS, FE_BUILD_NAME,
    fe_capacity, fe_ceiling, fe_check_deployment, fe_check_table, FE_COUNTERS, fe_crash_arm, FE_DEBUGGING,
    fe_deployment, FE_DEPLOYMENT_ACTIVE, fe_deployment_close, fe_deployment_configure, FE_DEPLOYMENT_FREE,
    fe_deployment_generation, fe_deployment_open, fe_deployment_state, fe_deployment_word, fe_enter, fe_enter_of,
    fe_finish_replica, fe_format, fe_give_back, fe_grant_free, fe_header, FE_HISTOGRAMS, fe_holder,
    FE_HOLDER_ABSENT, FE_HOLDER_ACTIVE, FE_HOLDER_FREE, FE_HOLDER_STARTING, fe_index_of, fe_invariant,
    FE_INVARIANTS, fe_layout, fe_least_loaded, fe_leave, FE_MAGIC, fe_mailbox, FE_MARKED, fe_max_queue,
    FE_MOST_DEPLOYMENTS, FE_MOST_HOLDERS, FE_MOST_REPLICAS, FE_MOST_SLOTS, FE_NAME_BYTES, FE_NONE, fe_now,
    fe_passed, fe_passed_name, FE_POINT, fe_point_name, fe_points, fe_publish, fe_queue_append, fe_queue_insert,
    fe_queue_unlink, FE_RECORD, fe_recover, fe_repair, fe_replica, fe_replica_change, fe_replica_deployment,
    fe_replica_down, FE_REPLICA_DRAINING, fe_replica_fail, FE_REPLICA_FREE, fe_replica_incarnation, fe_replica_open,
    FE_REPLICA_REMOVING, FE_REPLICA_STARTING, fe_replica_state, fe_replica_up, fe_ring_everyone, fe_rings,
    fe_settings, fe_signature, fe_slot, fe_slot_deployment, FE_SLOT_EXPIRED, FE_SLOT_FREE, fe_slot_generation,
    FE_SLOT_GRANTED, FE_SLOT_HELD, fe_slot_replica, fe_slot_state, FE_SLOT_WAITING, fe_slot_word, fe_snapshot,
    FE_SOCKADDR_BYTES, FE_SUMS, fe_totals, fe_view, fe_view_of, fetch_and, fetch_or, get32, get64, lowest_bit,
    map_shared, munmap, put32, put64,
)


# --- A request's path ------------------------------------------------------------------------------------------------

cdef inline void use_slot(Holder holder, uint32_t slot) noexcept nogil:
    """Before a slot's first use the high-water mark says so: a recount must not overlook it."""
    cdef fe_view* v = <fe_view*> holder.view
    if slot >= holder.high_water:
        holder.high_water = slot + 1
        put32(&v.holders[holder.index].high_water, slot + 1, b"acquire: high water")


cdef inline void free_slot(Holder holder, uint32_t slot) noexcept nogil:
    # More free slots than there are: two copies of one Holder, in two processes. Wrong answers, but no wild write.
    if holder.free_count < (<fe_view*> holder.view).header.slots:
        holder.free_stack[holder.free_count] = slot
        holder.free_count += 1


cdef inline fe_slot* begin(Holder holder, fe_deployment* d, uint32_t slot) noexcept nogil:
    """A free slot on its way into use: all but its word."""
    cdef fe_slot* s = &(<fe_view*> holder.view).slots[holder.first + slot]
    cdef uint64_t seq = d.seq
    fe_account(d)
    use_slot(holder, slot)
    put64(&d.seq, seq + 1, b"acquire: next seq")
    put64(&s.seq, seq, b"acquire: seq")
    return s


cdef enum Patience:
    # what a request may wait for
    NOTHING = 0
    PLACE = 1       # at a replica that is ready
    REPLICA = 2     # also until there is one


cdef inline void call_for_replica(fe_deployment* d, fe_rings* rings) noexcept nogil:
    """Before somebody enters the queue: the first who waits for a replica wakes the one who can start it."""
    if d.ready == 0 and d.queue_head == FE_NONE:
        rings.control = 1


cdef inline int hold_or_wait(Holder holder, fe_deployment* d, fe_rings* rings, uint32_t slot, uint32_t generation,
                             Patience patience, int64_t deadline_ns, uint32_t* replica) noexcept nogil:
    cdef fe_view* v = <fe_view*> holder.view
    cdef fe_slot* s
    cdef uint32_t chosen
    if d.word != fe_deployment_word(FE_DEPLOYMENT_ACTIVE, generation):
        return FE_GONE
    if d.ready == 0 and patience != REPLICA:
        return FE_NO_REPLICA
    chosen = fe_least_loaded(v, d) if d.queue_head == FE_NONE else FE_NONE
    if chosen != FE_NONE:
        s = begin(holder, d, slot)
        put64(&s.word, fe_slot_word(FE_SLOT_HELD, fe_index_of(v, d), chosen, generation), b"acquire: held")
        fe_replica_up(v, d, chosen)
        replica[0] = chosen
        return FE_HELD
    if patience == NOTHING:
        return FE_BUSY
    if d.queue_length >= fe_max_queue(d):
        return FE_QUEUE_FULL
    call_for_replica(d, rings)
    s = begin(holder, d, slot)
    put64(&s.deadline_ns, <uint64_t> deadline_ns, b"acquire: deadline")
    put64(&s.word, fe_slot_word(FE_SLOT_WAITING, fe_index_of(v, d), 0, generation), b"acquire: waiting")
    fe_queue_append(v, d, holder.first + slot)
    return FE_WAITING


cdef inline int ask(Holder holder, uint32_t deployment, uint32_t generation, Patience patience, int64_t deadline_ns,
                    uint32_t* slot, uint32_t* replica) noexcept nogil:
    cdef fe_view* v = <fe_view*> holder.view
    cdef fe_deployment* d
    cdef fe_rings rings
    cdef int result
    if deployment >= v.header.deployments:
        return FE_GONE
    if holder.free_count == 0:
        return FE_NO_SLOT
    d = &v.deployments[deployment]
    slot[0] = holder.free_stack[holder.free_count - 1]
    fe_enter(v, d, &rings, holder.index)
    result = hold_or_wait(holder, d, &rings, slot[0], generation, patience, deadline_ns, replica)
    fe_leave(v, d, &rings)
    if result == FE_HELD or result == FE_WAITING:
        holder.free_count -= 1
    return result


cdef int lease_acquire(Holder holder, uint32_t deployment, uint32_t generation, int64_t deadline_ns,
                       uint32_t* slot, uint32_t* replica) noexcept nogil:
    return ask(holder, deployment, generation, PLACE, deadline_ns, slot, replica)


cdef int lease_await(Holder holder, uint32_t deployment, uint32_t generation, int64_t deadline_ns,
                     uint32_t* slot, uint32_t* replica) noexcept nogil:
    return ask(holder, deployment, generation, REPLICA, deadline_ns, slot, replica)


cdef int lease_try_acquire(Holder holder, uint32_t deployment, uint32_t generation,
                           uint32_t* slot, uint32_t* replica) noexcept nogil:
    return ask(holder, deployment, generation, NOTHING, 0, slot, replica)


cdef inline bint has_place(uint64_t word) noexcept nogil:
    return fe_slot_state(word) == FE_SLOT_HELD or fe_slot_state(word) == FE_SLOT_GRANTED


cdef void lease_release(Holder holder, uint32_t slot) noexcept nogil:
    cdef fe_view* v = <fe_view*> holder.view
    cdef fe_slot* s = &v.slots[holder.first + slot]
    cdef uint64_t word = s.word
    cdef fe_deployment* d = &v.deployments[fe_slot_deployment(word)]
    cdef fe_rings rings
    cdef int64_t now
    if not has_place(word):
        return
    fe_enter(v, d, &rings, holder.index)
    now = fe_account(d)
    # FREE before another slot says GRANTED: at no store has the replica more leases than it may.
    put64(&s.word, 0, b"release: free")
    fe_give_back(v, d, &rings, fe_slot_replica(word), now)
    fe_leave(v, d, &rings)
    free_slot(holder, slot)


cdef int lease_retry(Holder holder, uint32_t slot, int64_t deadline_ns, bint awaits,
                     uint32_t* replica) noexcept nogil:
    cdef fe_view* v = <fe_view*> holder.view
    cdef uint32_t index = holder.first + slot
    cdef fe_slot* s = &v.slots[index]
    cdef uint64_t word = s.word
    cdef fe_deployment* d = &v.deployments[fe_slot_deployment(word)]
    cdef fe_rings rings
    cdef int64_t now
    cdef int result
    if not has_place(word):
        return FE_GONE
    fe_enter(v, d, &rings, holder.index)
    now = fe_account(d)
    if fe_deployment_state(d.word) != FE_DEPLOYMENT_ACTIVE or d.ready == 0 and not awaits:
        result = FE_NO_REPLICA if fe_deployment_state(d.word) == FE_DEPLOYMENT_ACTIVE else FE_GONE
        put64(&s.word, 0, b"retry: free")
    else:
        result = FE_WAITING
        call_for_replica(d, &rings)
        # However little time is left it may have a place that is free now, as with an acquire.
        put64(&s.deadline_ns, <uint64_t> max(deadline_ns, now + 1), b"retry: deadline")
        put64(&s.word, fe_slot_word(FE_SLOT_WAITING, fe_index_of(v, d), 0, fe_slot_generation(word)), b"retry: waiting")
        fe_queue_insert(v, d, index)
    # The place itself is given to the longest waiting, which may be this very slot.
    fe_replica_down(v, d, fe_slot_replica(word))
    fe_finish_replica(v, d, &rings, fe_slot_replica(word))
    fe_grant_free(v, d, &rings, now)
    word = s.word
    if fe_slot_state(word) == FE_SLOT_GRANTED:
        result = take_up(s, word, replica)
    fe_leave(v, d, &rings)
    if result == FE_NO_REPLICA or result == FE_GONE:
        free_slot(holder, slot)
    return result


cdef inline int take_up(fe_slot* s, uint64_t word, uint32_t* replica) noexcept nogil:
    """GRANTED to HELD: the place stays the same, so it needs no lock."""
    put64(&s.word, fe_slot_word(FE_SLOT_HELD, fe_slot_deployment(word), fe_slot_replica(word),
                                fe_slot_generation(word)), b"take up: held")
    replica[0] = fe_slot_replica(word)
    return FE_HELD


cdef int lease_cancel(Holder holder, uint32_t slot, uint32_t* replica) noexcept nogil:
    cdef fe_view* v = <fe_view*> holder.view
    cdef fe_slot* s = &v.slots[holder.first + slot]
    cdef uint64_t word = get64(&s.word)
    cdef fe_deployment* d = &v.deployments[fe_slot_deployment(word)]
    cdef fe_rings rings
    if fe_slot_state(word) == FE_SLOT_WAITING:
        fe_enter(v, d, &rings, holder.index)
        word = s.word
        if fe_slot_state(word) == FE_SLOT_WAITING:
            fe_account(d)
            put64(&s.word, 0, b"cancel: free")
            fe_queue_unlink(v, d, holder.first + slot)
        fe_leave(v, d, &rings)
    if fe_slot_state(word) == FE_SLOT_GRANTED:
        return take_up(s, word, replica)
    if fe_slot_state(word) == FE_SLOT_HELD:
        replica[0] = fe_slot_replica(word)
        return FE_HELD
    if fe_slot_state(word) == FE_SLOT_EXPIRED:
        put64(&s.word, 0, b"cancel: expired free")
    if fe_slot_state(word) != FE_SLOT_FREE:
        free_slot(holder, slot)
    return FE_CANCELLED


cdef bint lease_mail(Holder holder) noexcept nogil:
    return get64(&(<fe_view*> holder.view).holders[holder.index].summary) != 0


cdef inline int open_letter(Holder holder, uint32_t slot, uint64_t* mail, Outcome* outcome) noexcept nogil:
    """One marked slot: 1 when it has news.

    The mark goes after the slot has been taken up, or else before a second look: a grant that falls in between either
    is seen by that look or has marked the slot again.
    """
    cdef fe_slot* s = &(<fe_view*> holder.view).slots[holder.first + slot]
    cdef uint64_t word = get64(&s.word), mark = <uint64_t> 1 << (slot % 64)
    if fe_slot_state(word) != FE_SLOT_GRANTED and fe_slot_state(word) != FE_SLOT_EXPIRED:
        fetch_and(mail, ~mark, ACQ_REL)
        FE_POINT(b"collect: stale mark")
        word = get64(&s.word)
    outcome.slot = slot
    if fe_slot_state(word) == FE_SLOT_GRANTED:
        outcome.result = take_up(s, word, &outcome.replica)
    elif fe_slot_state(word) == FE_SLOT_EXPIRED:
        outcome.replica = 0
        outcome.result = FE_EXPIRED
        put64(&s.word, 0, b"collect: expired free")
        free_slot(holder, slot)
    else:
        return 0
    fetch_and(mail, ~mark, ACQ_REL)
    FE_POINT(b"collect: unmarked")
    return 1


cdef int lease_collect(Holder holder, Outcome* outcomes, int most) noexcept nogil:
    """The summary is cleared before the marks are read: a mark that comes later sets it again and rings."""
    cdef fe_view* v = <fe_view*> holder.view
    cdef uint64_t* summary = &v.holders[holder.index].summary
    cdef uint64_t* mail = fe_mailbox(v, holder.index)
    cdef uint32_t span = v.header.mail_span, part, i
    cdef uint64_t parts, marks
    cdef int written = 0
    if get64(summary) == 0:
        return 0
    parts = exchange(summary, 0, ACQ_REL)
    FE_POINT(b"collect: summary")
    while parts != 0:
        part = <uint32_t> lowest_bit(parts)
        for i in range(part * span, min((part + 1) * span, v.header.mail_words)):
            marks = get64(&mail[i])
            while marks != 0:
                if written == most:
                    fetch_or(summary, parts, ACQ_REL)
                    FE_POINT(b"collect: summary again")
                    return written
                written += open_letter(holder, i * 64 + lowest_bit(marks), &mail[i], &outcomes[written])
                marks &= marks - 1
        parts &= parts - 1
    return written


cdef void deployment_state(Table table, uint32_t deployment, DeploymentState* state) noexcept nogil:
    cdef fe_deployment* d = &(<fe_view*> table.view).deployments[deployment]
    cdef uint64_t settings = get64(&d.settings)
    state.in_flight = get32(&d.in_flight)
    state.capacity = <uint32_t> settings
    state.ready = get32(&d.ready)
    state.queue_length = get32(&d.queue_length)
    state.max_queue = <uint32_t> (settings >> 32)


cdef void replica_address(Table table, uint32_t replica, ReplicaAddress* address) noexcept nogil:
    cdef fe_view* v = <fe_view*> table.view
    cdef uint64_t word = get64(&v.replicas[replica].word)
    address.incarnation = fe_replica_incarnation(word)
    address.state = fe_replica_state(word)
    address.length = min(v.addresses[replica].length, FE_SOCKADDR_BYTES)
    memcpy(address.sockaddr, v.addresses[replica].sockaddr, FE_SOCKADDR_BYTES)


cdef bint replica_failed(Holder holder, uint32_t replica, uint32_t incarnation, uint32_t threshold) noexcept nogil:
    return fe_replica_fail(<fe_view*> holder.view, replica, incarnation, threshold, holder.index)


cdef void replica_succeeded(Holder holder, uint32_t replica) noexcept nogil:
    cdef fe_view* v = <fe_view*> holder.view
    if get32(&v.replicas[replica].failures) != 0:
        put32(&v.replicas[replica].failures, 0, b"succeeded: count")


cdef void holder_beat(Holder holder, int64_t now_ns) noexcept nogil:
    put64(&(<fe_view*> holder.view).holders[holder.index].beat_ns, <uint64_t> now_ns, b"beat")


cdef uint64_t config_version(Table table) noexcept nogil:
    return get64(&(<fe_view*> table.view).header.config_version)


cdef int64_t monotonic_ns() noexcept nogil:
    return fe_now()


cdef void stat_add(Holder holder, uint32_t deployment, uint32_t counter, uint64_t n) noexcept nogil:
    if holder.statistics != NULL and deployment <= holder.table.unrouted and counter < FE_COUNTERS:
        holder.statistics[<size_t> deployment * FE_RECORD + counter] += n


cdef void stat_observe(Holder holder, uint32_t deployment, uint32_t histogram, int64_t ns) noexcept nogil:
    cdef uint64_t* record
    if holder.statistics == NULL or deployment > holder.table.unrouted or histogram >= FE_HISTOGRAMS:
        return
    record = &holder.statistics[<size_t> deployment * FE_RECORD]
    record[FE_COUNTERS + histogram * FE_BUCKETS + fe_bucket(ns)] += 1
    if ns > 0:
        record[FE_SUMS + histogram] += <uint64_t> ns


cdef int64_t adopt(Holder holder, uint32_t deployment, uint32_t replica) noexcept nogil:
    """The slot, HELD; -1 when none is free, -2 when the replica is not one of the deployment's."""
    cdef fe_view* v = <fe_view*> holder.view
    cdef fe_deployment* d = &v.deployments[deployment]
    cdef uint32_t slot
    cdef fe_slot* s
    cdef fe_rings rings
    if holder.free_count == 0:
        return -1
    slot = holder.free_stack[holder.free_count - 1]
    fe_enter(v, d, &rings, holder.index)
    if not fe_belongs(v, d, replica):
        fe_leave(v, d, &rings)
        return -2
    holder.free_count -= 1
    s = begin(holder, d, slot)
    put32(&d.ceiling, max(d.ceiling, v.replicas[replica].in_flight + 1), b"adopt: ceiling")
    put64(&s.word, fe_slot_word(FE_SLOT_HELD, deployment, replica, fe_deployment_generation(d.word)), b"adopt: held")
    fe_replica_up(v, d, replica)
    fe_leave(v, d, &rings)
    return slot


cdef uint32_t check_deployment(fe_view* v, uint32_t i, uint32_t* counts) noexcept nogil:
    """The mask of invariants that do not hold. Where all hold, a ceiling no longer needed comes down."""
    cdef fe_deployment* d = &v.deployments[i]
    cdef fe_rings rings
    cdef uint32_t bad, replica, most = 0
    memset(counts, 0, v.header.replicas * sizeof(uint32_t))
    fe_enter(v, d, &rings, FE_NONE)
    bad = fe_check_deployment(v, d, counts)
    for replica in range(v.header.replicas):
        most = max(most, counts[replica])
    if bad == 0:
        put32(&d.ceiling, max(most, fe_ceiling(fe_capacity(d))), b"check: ceiling")
    fe_leave(v, d, &rings)
    return bad


# --- For Python ------------------------------------------------------------------------------------------------------

HELD, WAITING, QUEUE_FULL, NO_REPLICA, NO_SLOT, GONE, BUSY, CANCELLED, EXPIRED = range(9)
REPLICA_FREE, REPLICA_STARTING, REPLICA_READY, REPLICA_EJECTED, REPLICA_DRAINING, REPLICA_REMOVING = range(6)
HOLDER_FREE, HOLDER_STARTING, HOLDER_ACTIVE, HOLDER_ABSENT = range(4)
COUNTERS = FE_COUNTERS
HISTOGRAMS = FE_HISTOGRAMS
HISTOGRAM_SUMS = FE_SUMS
HISTOGRAM_BOUNDS_NS = tuple(fe_bucket_bound(bucket) for bucket in range(FE_BUCKETS - 1))
INVARIANTS = tuple(fe_invariant(number + 1).decode() for number in range(FE_INVARIANTS))
BUILD = FE_BUILD_NAME.decode()

Limits = namedtuple(
    "Limits", "deployments replicas holders slots workers config_bytes", module=__name__,
    defaults=(1024, 10_000, 64, 8192, 1, 2 << 20),
)
DeploymentLoad = namedtuple(
    "DeploymentLoad",
    "name generation state capacity max_queue replicas ready in_flight queue_depth now_ns in_flight_integral"
    " queue_integral ready_integral", module=__name__,
)
ReplicaLoad = namedtuple(
    "ReplicaLoad", "deployment incarnation state in_flight failures sockaddr", module=__name__,
)
HolderState = namedtuple(
    "HolderState", "state generation pid beat_ns changed_ns slots_in_use", module=__name__,
)

# What the packed words and the set of doorbells allow; slot numbers across all holders then fit 32 bits.
MOST = Limits(FE_MOST_DEPLOYMENTS, FE_MOST_REPLICAS, FE_MOST_HOLDERS, FE_MOST_SLOTS, FE_MOST_HOLDERS, 1 << 30)


cdef fe_header plan(limits) except *:
    """A header with these limits and the offsets that follow from them."""
    cdef fe_header header
    for name, wanted, most in zip(Limits._fields, limits, MOST, strict=True):
        if not 1 <= wanted <= most:
            raise ValueError(f"limits.{name} is {wanted}; it must be from 1 to {most}")
    memset(&header, 0, sizeof(header))
    header.deployments, header.replicas, header.holders = limits.deployments, limits.replicas, limits.holders
    header.slots, header.workers, header.config_bytes = limits.slots, limits.workers, limits.config_bytes
    fe_layout(&header)
    return header


cdef uint32_t below(index, uint32_t most, str what) except? 0xFFFFFFFF:
    """A record's number, or IndexError."""
    if not 0 <= index < most:
        raise IndexError(f"{what} {index} does not exist: there are {most}")
    return index


cdef inline fe_view* view_of(Table table) noexcept:
    return <fe_view*> table.view


cdef fe_deployment* record(Table table, deployment) except NULL:
    return &view_of(table).deployments[below(deployment, table.unrouted, "deployment")]


cdef fe_holder* holder_record(Table table, holder) except NULL:
    return &view_of(table).holders[below(holder, table.limits.holders, "holder")]


cdef uint32_t own_slot(Holder holder, slot) except? 0xFFFFFFFF:
    return below(slot, (<fe_view*> holder.view).header.slots, "slot")


cdef void set_holder(fe_holder* h, uint32_t state) noexcept:
    put64(&h.changed_ns, <uint64_t> fe_now(), b"holder: changed")
    put32(&h.state, state, b"holder: state")


cdef list names_of(uint32_t bad, str where):
    return [f"{i + 1}: {INVARIANTS[i]} ({where})" for i in range(FE_INVARIANTS) if bad >> i & 1]


cdef Table map_table(int fd, size_t size, bint touch):
    """A Table over the whole descriptor, not yet looked into."""
    cdef Table table = Table.__new__(Table)
    table.fd, table.size = fd, size
    table.view = calloc(1, sizeof(fe_view))
    if table.view == NULL:
        raise MemoryError
    table.base = map_shared(fd, size, touch)
    if table.base == NULL:
        raise MemoryError(f"cannot map a lease table of {size} bytes: no room in the address space (ulimit -v)")
    return table


cdef void look_into(Table table):
    """Its header is sound: where the records are, and how many."""
    cdef fe_header* h = <fe_header*> table.base
    fe_view_of(table.base, view_of(table))
    table.unrouted = h.deployments
    table.limits = Limits(h.deployments, h.replicas, h.holders, h.slots, h.workers, h.config_bytes)


cdef Holder claim(Table table, uint32_t index):
    """The record now belongs to this process; what a predecessor may have left in it is given back."""
    cdef Holder holder = Holder.__new__(Holder)
    cdef fe_view* v = view_of(table)
    cdef fe_holder* h = &v.holders[index]
    cdef uint32_t slots = v.header.slots, slot
    holder.table, holder.index, holder.view, holder.first = table, index, table.view, index * slots
    holder.free_stack = <uint32_t*> malloc(slots * sizeof(uint32_t))
    if holder.free_stack == NULL:
        raise MemoryError
    if index < v.header.workers:
        holder.statistics = &v.statistics[<size_t> index * (v.header.deployments + 1) * FE_RECORD]
    if h.high_water != 0:
        fe_recover(v, index)
    for slot in range(slots):
        free_slot(holder, slots - 1 - slot)
    put32(&h.pid, os.getpid(), b"claim: pid")
    put32(&h.generation, h.generation + 1, b"claim: generation")
    put64(&h.beat_ns, <uint64_t> fe_now(), b"claim: beat")
    set_holder(h, FE_HOLDER_STARTING)
    return holder


@cython.final
cdef class _Region:
    """Read-only bytes of a table, which stays mapped as long as anyone looks at them."""

    cdef Table table
    cdef void* at
    cdef size_t length

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.length, 1, flags)


@cython.final
cdef class Table:
    def __init__(self):
        raise TypeError("use Table.create or Table.attach")

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)
        free(self.view)
        if self.owns_fd:
            close(self.fd)  # of libc: at the end of the interpreter the os module may be gone already

    @staticmethod
    def size_of(limits):
        return plan(limits).size

    @staticmethod
    def create(limits):
        """A new table in anonymous shared memory, every page of it present."""
        cdef fe_header header = plan(limits)
        cdef Table table
        _memory.require(header.size)
        fd = os.memfd_create("fe-lease-table", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, header.size)
            table = map_table(fd, header.size, True)
        except OSError as error:
            os.close(fd)
            raise MemoryError(f"cannot allocate a lease table of {header.size} bytes: {error.strerror}") from error
        except MemoryError:
            os.close(fd)
            raise
        table.owns_fd = True
        memcpy(table.base, &header, sizeof(header))
        look_into(table)
        if fe_format(view_of(table)) != 0:
            raise OSError("this system has no robust process-shared mutexes")
        return table

    @staticmethod
    def attach(int fd):
        """The table that another process created. The descriptor stays the caller's."""
        cdef size_t size = os.fstat(fd).st_size
        cdef Table table
        cdef fe_header* h
        if size < sizeof(fe_header):
            raise ValueError(f"not a lease table: {size} bytes are less than its header")
        table = map_table(fd, size, False)
        h = <fe_header*> table.base
        if get64(&h.magic) != FE_MAGIC:
            raise ValueError("not a lease table: another magic number")
        if h.signature != fe_signature():
            raise ValueError("a lease table of another build of fe: its records have other sizes")
        if h.size != size:
            raise ValueError(f"a lease table cut short: {size} bytes of {h.size}")
        look_into(table)
        return table

    def add_deployment(self, str name, uint32_t capacity, uint32_t max_queue):
        cdef bytes raw = name.encode()
        cdef uint32_t generation = 0
        if not 0 < len(raw) <= FE_NAME_BYTES:
            raise ValueError(f"the name of a deployment has 1 to {FE_NAME_BYTES} bytes, {name!r} has {len(raw)}")
        index = fe_deployment_open(view_of(self), raw, len(raw), fe_settings(capacity, max_queue), &generation)
        if index < 0:
            raise OverflowError(f"all {self.limits.deployments} deployments are in use; raise limits.deployments")
        return index, generation

    def configure_deployment(self, deployment, uint32_t capacity, uint32_t max_queue):
        fe_deployment_configure(view_of(self), record(self, deployment), fe_settings(capacity, max_queue))

    def remove_deployment(self, deployment):
        fe_deployment_close(view_of(self), record(self, deployment))

    def deployment(self, deployment):
        cdef fe_deployment* d = record(self, deployment)
        cdef fe_deployment copy
        cdef fe_totals* totals
        cdef fe_rings rings
        fe_enter(view_of(self), d, &rings, FE_NONE)
        fe_account(d)
        memcpy(&copy, d, sizeof(copy))
        fe_leave(view_of(self), d, &rings)
        totals = &copy.totals[copy.current & 1]
        return DeploymentLoad(
            copy.name[:copy.name_length].decode(), fe_deployment_generation(copy.word), fe_deployment_state(copy.word),
            fe_capacity(&copy), fe_max_queue(&copy), copy.replicas, copy.ready, copy.in_flight, copy.queue_length,
            totals.at_ns, totals.in_flight, totals.queue, totals.ready,
        )

    def glance(self, deployment):
        cdef DeploymentState state
        deployment_state(self, below(deployment, self.unrouted, "deployment"), &state)
        return state.in_flight, state.capacity, state.ready, state.queue_length, state.max_queue

    def deployments(self):
        cdef fe_view* v = view_of(self)
        return [i for i in range(get32(&v.header.deployments_used))
                if fe_deployment_state(get64(&v.deployments[i].word)) != FE_DEPLOYMENT_FREE]

    def add_replica(self, deployment, bytes sockaddr, uint32_t state=FE_REPLICA_STARTING):
        if not 0 < len(sockaddr) <= FE_SOCKADDR_BYTES:
            raise ValueError(f"a sockaddr has 1 to {FE_SOCKADDR_BYTES} bytes, this one has {len(sockaddr)}")
        if not FE_REPLICA_STARTING <= state <= FE_REPLICA_DRAINING:
            raise ValueError(f"{state} is no state for a new replica")
        index = fe_replica_open(view_of(self), record(self, deployment), sockaddr, len(sockaddr), state)
        if index == -1:
            raise OverflowError(f"all {self.limits.replicas} replicas are in use; raise limits.replicas")
        if index == -2:
            raise ValueError(f"deployment {deployment} is not active")
        return index

    def set_replica_state(self, replica, uint32_t state, expect=None):
        if not FE_REPLICA_STARTING <= state <= FE_REPLICA_REMOVING:
            raise ValueError(f"{state} is no state of a replica")
        below(replica, self.limits.replicas, "replica")
        return fe_replica_change(view_of(self), replica, state, -1 if expect is None else expect)

    def remove_replica(self, replica):
        self.set_replica_state(replica, FE_REPLICA_REMOVING)

    def replica(self, replica):
        cdef fe_view* v = view_of(self)
        cdef uint32_t i = below(replica, self.limits.replicas, "replica")
        cdef fe_rings rings
        cdef fe_replica r
        cdef fe_address a
        cdef fe_deployment* d = fe_enter_of(v, i, &rings, FE_NONE)
        if d == NULL:
            return ReplicaLoad(0, fe_replica_incarnation(get64(&v.replicas[i].word)), FE_REPLICA_FREE, 0, 0, b"")
        memcpy(&r, &v.replicas[i], sizeof(r))
        memcpy(&a, &v.addresses[i], sizeof(a))
        fe_leave(v, d, &rings)
        return ReplicaLoad(
            fe_replica_deployment(r.word), fe_replica_incarnation(r.word), fe_replica_state(r.word), r.in_flight,
            r.failures, a.sockaddr[:a.length],
        )

    def replicas(self, deployment):
        cdef fe_view* v = view_of(self)
        cdef fe_deployment* d = record(self, deployment)
        return [i for i in range(get32(&v.header.replicas_used)) if fe_belongs(v, d, i)]

    def holder(self, index):
        return claim(self, below(index, self.limits.holders, "holder"))

    def name_eventfd(self, holder, int eventfd):
        put32(&holder_record(self, holder).eventfd, <uint32_t> eventfd, b"name: eventfd")

    def name_control_eventfd(self, int eventfd):
        put32(&view_of(self).header.control_eventfd, <uint32_t> eventfd, b"name: control eventfd")

    def mark_absent(self, holder):
        set_holder(holder_record(self, holder), FE_HOLDER_ABSENT)

    def recover(self, holder):
        cdef fe_holder* h = holder_record(self, holder)
        if h.state != FE_HOLDER_FREE:
            set_holder(h, FE_HOLDER_ABSENT)
        return fe_recover(view_of(self), holder)

    def repair(self):
        fe_repair(view_of(self))

    def holder_state(self, holder):
        cdef fe_holder* h = holder_record(self, holder)
        cdef fe_slot* slots = &view_of(self).slots[<size_t> holder * view_of(self).header.slots]
        cdef uint32_t i, in_use = 0
        for i in range(get32(&h.high_water)):  # in C: the supervisor asks for every worker, many times a second
            in_use += fe_slot_state(get64(&slots[i].word)) != FE_SLOT_FREE
        return HolderState(h.state, h.generation, h.pid, h.beat_ns, h.changed_ns, in_use)

    def publish(self, bytes snapshot):
        if len(snapshot) > self.limits.config_bytes:
            raise ValueError(f"the configuration has {len(snapshot)} bytes encoded; limits.config_bytes is"
                             f" {self.limits.config_bytes}")
        return fe_publish(view_of(self), snapshot, len(snapshot))

    def snapshot(self):
        cdef uint64_t length = 0
        cdef uint8_t* copy = <uint8_t*> malloc(self.limits.config_bytes)
        if copy == NULL:
            raise MemoryError
        try:
            version = fe_snapshot(view_of(self), copy, &length)
            return version, copy[:length]
        finally:
            free(copy)

    def ring_all(self):
        fe_ring_everyone(view_of(self))

    def check(self):
        cdef fe_view* v = view_of(self)
        cdef uint32_t* counts = <uint32_t*> calloc(v.header.replicas, sizeof(uint32_t))
        cdef uint32_t bad, i
        if counts == NULL:
            raise MemoryError
        found = names_of(fe_check_table(v), "the table")
        for i in range(get32(&v.header.deployments_used)):
            bad = check_deployment(v, i, counts)
            for _ in range(50):
                # A mark may lag behind for as long as the owner is about to take the slot up: that is no fault.
                if bad != FE_MARKED:
                    break
                time.sleep(0.002)
                bad = check_deployment(v, i, counts)
            found += names_of(bad, f"deployment {i}")
        free(counts)
        return found

    def statistics(self):
        cdef _Region region = _Region.__new__(_Region)
        cdef fe_header* h = view_of(self).header
        shape = (h.workers, h.deployments + 1, FE_RECORD)
        region.table, region.at = self, view_of(self).statistics
        region.length = <size_t> h.workers * (h.deployments + 1) * FE_RECORD * sizeof(uint64_t)
        return memoryview(region).cast("B").cast("Q", shape)


@cython.final
cdef class Holder:
    def __init__(self):
        raise TypeError("use Table.holder")

    def __dealloc__(self):
        free(self.free_stack)

    def acquire(self, uint32_t deployment, uint32_t generation, int64_t deadline_ns):
        cdef uint32_t slot = 0, replica = 0
        return lease_acquire(self, deployment, generation, deadline_ns, &slot, &replica), slot, replica

    def try_acquire(self, uint32_t deployment, uint32_t generation):
        cdef uint32_t slot = 0, replica = 0
        return lease_try_acquire(self, deployment, generation, &slot, &replica), slot, replica

    def await_(self, uint32_t deployment, uint32_t generation, int64_t deadline_ns):
        cdef uint32_t slot = 0, replica = 0
        return lease_await(self, deployment, generation, deadline_ns, &slot, &replica), slot, replica

    def release(self, slot):
        lease_release(self, own_slot(self, slot))

    def retry(self, slot, int64_t deadline_ns, bint awaits=False):
        cdef uint32_t replica = 0
        return lease_retry(self, own_slot(self, slot), deadline_ns, awaits, &replica), replica

    def cancel(self, slot):
        cdef uint32_t replica = 0
        return lease_cancel(self, own_slot(self, slot), &replica), replica

    def mail(self):
        return lease_mail(self)

    def collect(self, int most=256):
        cdef Outcome outcomes[256]
        cdef int written = lease_collect(self, outcomes, max(0, min(most, 256)))
        return [(outcomes[i].slot, outcomes[i].replica, outcomes[i].result) for i in range(written)]

    def failed(self, replica, uint32_t incarnation, uint32_t threshold):
        return replica_failed(self, below(replica, self.table.limits.replicas, "replica"), incarnation, threshold)

    def succeeded(self, replica):
        replica_succeeded(self, below(replica, self.table.limits.replicas, "replica"))

    def beat(self, int64_t now_ns):
        holder_beat(self, now_ns)

    def set_active(self):
        set_holder(holder_record(self.table, self.index), FE_HOLDER_ACTIVE)

    def adopt(self, deployment, replica):
        below(deployment, self.table.limits.deployments, "deployment")
        below(replica, self.table.limits.replicas, "replica")
        slot = adopt(self, deployment, replica)
        if slot == -1:
            raise OverflowError(f"all {self.table.limits.slots} slots of holder {self.index} are in use")
        if slot == -2:
            raise ValueError(f"replica {replica} does not belong to deployment {deployment}")
        return slot

    def stat_add(self, uint32_t deployment, uint32_t counter, uint64_t n):
        stat_add(self, deployment, counter, n)

    def stat_observe(self, uint32_t deployment, uint32_t histogram, int64_t ns):
        stat_observe(self, deployment, histogram, ns)

    def churn(self, uint32_t deployment, uint32_t generation, uint32_t rounds):
        """Nanoseconds that `rounds` of acquire and release take in C: what a request pays for its lease.

        Raises RuntimeError where there is no place to be had at once.
        """
        cdef uint32_t slot = 0, replica = 0, _round
        cdef int result = FE_HELD
        cdef int64_t began
        with nogil:
            began = fe_now()
            for _round in range(rounds):
                result = lease_acquire(self, deployment, generation, 1 << 62, &slot, &replica)
                if result != FE_HELD:
                    break
                lease_release(self, slot)
            began = fe_now() - began
        if result == FE_WAITING:
            lease_cancel(self, slot, &replica)
        if result != FE_HELD:
            raise RuntimeError("no place to be had at once")
        return began


def crash_arm(uint64_t after, int signal=9):
    """The `after`-th point passed from now on sends this process `signal`; 0 disarms. The trace begins anew."""
    fe_crash_arm(after, signal)


def crash_points():
    """Every named point of this build."""
    return sorted({fe_point_name(i).decode() for i in range(fe_points())})


def crash_passed():
    """Points passed since `crash_arm`, in order."""
    return [fe_passed_name(i).decode() for i in range(fe_passed())]


if not FE_DEBUGGING:
    del crash_arm, crash_points, crash_passed
