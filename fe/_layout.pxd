# The C half of the lease table, declared for Cython: records and primitives of _layout.h, lists of _caches.h.
#
# Owns nothing: field names and signatures repeat the headers, which say what they mean. Only fe._core cimports it.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "_layout.h" nogil:
    uint32_t FE_NONE, FE_GENERATIONS
    uint32_t FE_MOST_DEPLOYMENTS, FE_MOST_REPLICAS, FE_MOST_HOLDERS, FE_MOST_SLOTS
    uint32_t FE_COUNTERS, FE_HISTOGRAMS, FE_BUCKETS, FE_RECORD, FE_SUMS, FE_NAME_BYTES, FE_SOCKADDR_BYTES
    uint64_t FE_MAGIC
    bint FE_DEBUGGING
    const char* FE_BUILD_NAME
    uint32_t FE_SLOT_FREE, FE_SLOT_WAITING, FE_SLOT_GRANTED, FE_SLOT_HELD, FE_SLOT_EXPIRED
    uint32_t FE_REPLICA_FREE, FE_REPLICA_STARTING, FE_REPLICA_READY, FE_REPLICA_EJECTED, FE_REPLICA_DRAINING
    uint32_t FE_REPLICA_REMOVING
    uint32_t FE_DEPLOYMENT_FREE, FE_DEPLOYMENT_ACTIVE, FE_DEPLOYMENT_REMOVING
    uint32_t FE_HOLDER_FREE, FE_HOLDER_STARTING, FE_HOLDER_ACTIVE, FE_HOLDER_ABSENT

    ctypedef struct fe_slot:
        uint64_t word
        uint64_t seq
        int64_t deadline_ns
        uint32_t next, prev
    ctypedef struct fe_replica:
        uint64_t word
        uint32_t in_flight, failures, level, next, prev, member_next, member_prev
        uint32_t node_load, node_head, node_tail, node_next, node_prev
    ctypedef struct fe_address:
        uint32_t length
        uint8_t* sockaddr
    ctypedef struct fe_totals:
        int64_t at_ns
        uint64_t in_flight, queue, ready
    ctypedef struct fe_deployment:
        uint64_t word, settings, seq
        uint32_t ceiling, in_flight, queue_head, queue_tail, queue_length, replicas, ready
        uint32_t level_head, node_free, member_head
        fe_totals* totals
        uint32_t current, name_length
        uint8_t* name
    ctypedef struct fe_holder:
        uint32_t state, generation
        int pid, eventfd
        uint32_t high_water
        int64_t beat_ns, changed_ns
        uint64_t summary
    ctypedef struct fe_header:
        uint64_t magic, signature, size, config_bytes
        uint32_t deployments, replicas, holders, slots, workers, mail_words, mail_span
        uint32_t deployments_used, replicas_used
        int control_eventfd
        uint64_t config_version
        uint64_t* config_length
    ctypedef struct fe_view:
        fe_header* header
        fe_deployment* deployments
        fe_replica* replicas
        fe_address* addresses
        fe_holder* holders
        fe_slot* slots
        uint64_t* mail
        uint64_t* statistics
        uint8_t* config
    ctypedef struct fe_rings:
        uint8_t always, control

    void put32(void* at, uint32_t value, const char* name)
    void put64(void* at, uint64_t value, const char* name)
    void FE_POINT(const char* name)
    uint32_t get32(uint32_t* at)
    uint64_t get64(uint64_t* at)
    uint64_t fetch_and "__atomic_fetch_and"(uint64_t* at, uint64_t value, int order)
    uint64_t fetch_or "__atomic_fetch_or"(uint64_t* at, uint64_t value, int order)
    uint64_t exchange "__atomic_exchange_n"(uint64_t* at, uint64_t value, int order)
    int lowest_bit "__builtin_ctzll"(uint64_t word)
    void fence "__atomic_thread_fence"(int order)
    int ACQUIRE "__ATOMIC_ACQUIRE"
    int ACQ_REL "__ATOMIC_ACQ_REL"
    void fe_crash_arm(uint64_t after, int signal)
    size_t fe_points()
    const char* fe_point_name(size_t i)
    uint32_t fe_passed()
    const char* fe_passed_name(uint32_t i)

    uint64_t fe_slot_word(uint32_t state, uint32_t deployment, uint32_t replica, uint32_t generation)
    uint32_t fe_slot_state(uint64_t word)
    uint32_t fe_slot_deployment(uint64_t word)
    uint32_t fe_slot_replica(uint64_t word)
    uint32_t fe_slot_generation(uint64_t word)
    uint64_t fe_replica_word(uint32_t state, uint32_t deployment, uint32_t incarnation)
    uint32_t fe_replica_state(uint64_t word)
    uint32_t fe_replica_deployment(uint64_t word)
    uint32_t fe_replica_incarnation(uint64_t word)
    uint64_t fe_deployment_word(uint32_t state, uint32_t generation)
    uint32_t fe_deployment_state(uint64_t word)
    uint32_t fe_deployment_generation(uint64_t word)
    uint64_t fe_settings(uint32_t capacity, uint32_t max_queue)
    uint32_t fe_capacity(fe_deployment* d)
    uint32_t fe_max_queue(fe_deployment* d)
    int64_t fe_now()
    int64_t fe_account(fe_deployment* d)
    void fe_rings_none(fe_rings* rings, uint32_t self)
    uint64_t* fe_mailbox(fe_view* v, uint32_t holder)
    void fe_mark(fe_view* v, fe_rings* rings, uint32_t index)
    void fe_ring(int eventfd)
    void fe_ring_them(fe_view* v, fe_rings* rings)
    void fe_ring_marked(fe_view* v)
    uint32_t fe_bucket(int64_t ns)
    uint64_t fe_bucket_bound(uint32_t bucket)
    void fe_layout(fe_header* h)
    uint64_t fe_signature()
    void fe_view_of(void* base, fe_view* v)
    int fe_format(fe_view* v)
    void* map_shared "fe_map"(int fd, size_t length, bint touch)
    int munmap(void* at, size_t length)


cdef extern from "_caches.h" nogil:
    void fe_queue_append(fe_view* v, fe_deployment* d, uint32_t i)
    void fe_queue_insert(fe_view* v, fe_deployment* d, uint32_t i)
    void fe_queue_unlink(fe_view* v, fe_deployment* d, uint32_t i)
    uint32_t fe_least_loaded(fe_view* v, fe_deployment* d)
    void fe_replica_up(fe_view* v, fe_deployment* d, uint32_t i)
    void fe_replica_down(fe_view* v, fe_deployment* d, uint32_t i)


cdef extern from "_protocol.h" nogil:
    uint32_t fe_index_of(fe_view* v, fe_deployment* d)
    void fe_enter(fe_view* v, fe_deployment* d, fe_rings* rings, uint32_t caller)
    void fe_leave(fe_view* v, fe_deployment* d, fe_rings* rings)
    void fe_grant_free(fe_view* v, fe_deployment* d, fe_rings* rings, int64_t now)
    void fe_give_back(fe_view* v, fe_deployment* d, fe_rings* rings, uint32_t replica, int64_t now)
    void fe_finish_replica(fe_view* v, fe_deployment* d, fe_rings* rings, uint32_t replica)
    bint fe_belongs(fe_view* v, fe_deployment* d, uint32_t replica)
    uint32_t fe_recover(fe_view* v, uint32_t holder)


cdef extern from "_control.h" nogil:
    uint32_t fe_ceiling(uint32_t capacity)
    int64_t fe_deployment_open(fe_view* v, const uint8_t* name, uint32_t length, uint64_t settings,
                               uint32_t* generation)
    void fe_deployment_configure(fe_view* v, fe_deployment* d, uint64_t settings)
    void fe_deployment_close(fe_view* v, fe_deployment* d)
    int64_t fe_replica_open(fe_view* v, fe_deployment* d, const uint8_t* sockaddr, uint32_t length, uint32_t state)
    fe_deployment* fe_enter_of(fe_view* v, uint32_t replica, fe_rings* rings, uint32_t caller)
    bint fe_replica_change(fe_view* v, uint32_t replica, uint32_t state, int64_t expect)
    bint fe_replica_fail(fe_view* v, uint32_t replica, uint32_t incarnation, uint32_t threshold, uint32_t caller)
    void fe_ring_everyone(fe_view* v)
    void fe_repair(fe_view* v)
    uint64_t fe_publish(fe_view* v, const uint8_t* data, uint64_t length)
    uint64_t fe_snapshot(fe_view* v, uint8_t* to, uint64_t* length)


cdef extern from "_check.h" nogil:
    uint32_t fe_check_deployment(fe_view* v, fe_deployment* d, uint32_t* counts)
    uint32_t fe_check_table(fe_view* v)
    uint32_t FE_INVARIANTS
    const char* fe_invariant(uint32_t number)
    uint32_t FE_MARKED
