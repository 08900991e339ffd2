# fe._core, as seen by the other Cython modules: the lease table in shared memory.
#
# The functions below are what a request's path calls: plain C, no exception, no GIL, each result a named code.
# Everything a controller or a test needs is a Python method of `Table` and `Holder` (see _core.pyi).
# Read docs/shared-memory.md for the records, their truths and their caches.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef enum Result:
    FE_HELD = 0        # a lease is held; *replica is where
    FE_WAITING = 1     # the slot stands in the deployment's queue
    FE_QUEUE_FULL = 2  # max_queue waiters stand there already
    FE_NO_REPLICA = 3  # no replica is ready, and the caller does not wait for the first
    FE_NO_SLOT = 4     # every slot of this holder is in use
    FE_GONE = 5        # the deployment no longer has this generation
    FE_BUSY = 6        # try_acquire: no place is free
    FE_CANCELLED = 7   # cancel: the place in the queue was given up, the slot is free
    FE_EXPIRED = 8     # collect: the deadline passed before a place was free; the slot is free


cdef struct Outcome:
    # one entry of the mailbox, as `lease_collect` hands it over
    uint32_t slot
    uint32_t replica   # meaningful with FE_HELD only
    int result         # FE_HELD or FE_EXPIRED


cdef struct DeploymentState:
    # what a refusal tells about; each number was true a moment ago, not all of them at one moment
    uint32_t in_flight
    uint32_t capacity             # of one replica; 0: no limit
    uint32_t ready                # replicas
    uint32_t queue_length
    uint32_t max_queue


cdef struct ReplicaAddress:
    # what a worker needs to reach the replica it holds a lease on; constant while the lease is held
    uint32_t incarnation          # differs whenever the record was reused for another address
    uint32_t state                # REPLICA_* of _core.pyi
    uint32_t length               # of sockaddr, in bytes
    uint8_t sockaddr[116]         # a struct sockaddr_in, sockaddr_in6 or sockaddr_un; opaque to the table


cdef class Table:
    cdef void* base
    cdef void* view               # fe_view of _layout.h: where each array of records begins
    cdef bint owns_fd
    cdef readonly int fd
    cdef readonly size_t size
    cdef readonly object limits
    cdef readonly uint32_t unrouted


cdef class Holder:
    cdef Table table
    cdef readonly uint32_t index
    cdef void* view
    cdef uint32_t first           # its first slot among all holders' slots
    cdef uint32_t high_water      # of the slots ever used; the shared copy is raised before the first use
    cdef uint32_t free_count
    cdef uint32_t* free_stack     # free slots, private: nobody but the owner allocates or frees them
    cdef uint64_t* statistics     # this worker's records; NULL for a holder that is no worker


# Every function that can grant a lease to another holder rings that holder's eventfd after the lock is free.
# A grant to a waiter of the caller's own holder is only marked in its mailbox and not rung: call
# `lease_collect` until it returns 0 whenever `lease_mail` is true, at the latest before returning to the event loop.
# `deadline_ns` is on CLOCK_MONOTONIC; INT64_MAX is never.
# A Holder belongs to one thread of the process that claimed it.
cdef int lease_acquire(Holder holder, uint32_t deployment, uint32_t generation, int64_t deadline_ns,
                       uint32_t* slot, uint32_t* replica) noexcept nogil
# As lease_acquire, but without a ready replica it waits for the first one, in the same queue and within the same bound.
# The controller is rung when nobody had waited there.
cdef int lease_await(Holder holder, uint32_t deployment, uint32_t generation, int64_t deadline_ns,
                     uint32_t* slot, uint32_t* replica) noexcept nogil
cdef int lease_try_acquire(Holder holder, uint32_t deployment, uint32_t generation,
                           uint32_t* slot, uint32_t* replica) noexcept nogil   # FE_BUSY instead of waiting
# Of a held slot (or one granted and not yet collected); any other is left as it is.
cdef void lease_release(Holder holder, uint32_t slot) noexcept nogil
# Gives the place at this replica back and asks again with the request's first place in the order: FE_HELD (perhaps at
# the same replica), FE_WAITING (ahead of everyone who came later), or FE_NO_REPLICA / FE_GONE with the slot freed.
# `awaits`: without a ready replica it waits for the first one, as with lease_await.
cdef int lease_retry(Holder holder, uint32_t slot, int64_t deadline_ns, bint awaits, uint32_t* replica) noexcept nogil
# A waiting slot: FE_CANCELLED, or FE_HELD when a grant came first: then the caller has a lease to release.
cdef int lease_cancel(Holder holder, uint32_t slot, uint32_t* replica) noexcept nogil
cdef bint lease_mail(Holder holder) noexcept nogil                            # something lies in the mailbox
cdef int lease_collect(Holder holder, Outcome* outcomes, int most) noexcept nogil   # how many were written
# Without the lock, from the caches: a few loads. They may be low while a recount is under way, after a death.
cdef void deployment_state(Table table, uint32_t deployment, DeploymentState* state) noexcept nogil
cdef void replica_address(Table table, uint32_t replica, ReplicaAddress* address) noexcept nogil
# A failed exchange: adds to the replica's consecutive failures; at `threshold` a READY replica becomes EJECTED, the
# controller is rung, true is returned. A success clears the count (one plain read when there is nothing to clear).
cdef bint replica_failed(Holder holder, uint32_t replica, uint32_t incarnation, uint32_t threshold) noexcept nogil
cdef void replica_succeeded(Holder holder, uint32_t replica) noexcept nogil
cdef void holder_beat(Holder holder, int64_t now_ns) noexcept nogil      # the supervisor reads it: a sign of life
cdef uint64_t config_version(Table table) noexcept nogil                      # of the published snapshot; 0: none yet
cdef int64_t monotonic_ns() noexcept nogil                                    # CLOCK_MONOTONIC

# Statistics of this worker; `deployment` may be Table.unrouted for what belongs to none. One writer, no lock.
# `stat_observe` also adds to the histogram's sum, counter HISTOGRAM_SUMS + histogram.
cdef void stat_add(Holder holder, uint32_t deployment, uint32_t counter, uint64_t n) noexcept nogil
cdef void stat_observe(Holder holder, uint32_t deployment, uint32_t histogram, int64_t ns) noexcept nogil
