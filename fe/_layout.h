/* The lease table's records in shared memory, and the few primitives that touch them: stores, lock, mailbox, doorbell.
 *
 * Owns: every struct that processes share, its size and offset, how words are packed, how a store is published.
 * Never: decides who gets a lease (fe/_core.pyx) nor keeps lists in order (fe/_caches.h).
 * Each field says `truth` (written on purpose, survives a crash as it stands) or `cache` (recounted from truths).
 * Read docs/shared-memory.md first, then fe/_caches.h, then fe/_core.pyx.
 */
#ifndef FE_LAYOUT_H
#define FE_LAYOUT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FE_MAGIC UINT64_C(0x6665207461626c65) /* "fe table" */
#define FE_FORMAT 1                           /* raise it when a meaning changes and no size does */
#define FE_LINE 64                            /* a cache line; records that different processes write stand on their own */
#define FE_NONE UINT32_MAX                    /* no slot, no replica, no level */
#define FE_CONTENDED __attribute__((aligned(FE_LINE)))

/* Bounds that the packed words and the set of doorbells impose. */
#define FE_MOST_DEPLOYMENTS (1u << 16)
#define FE_MOST_REPLICAS (1u << 20)
#define FE_MOST_HOLDERS 256u
#define FE_MOST_SLOTS (1u << 20)
#define FE_GENERATIONS (1u << 24)

#define FE_NAME_BYTES 128
#define FE_SOCKADDR_BYTES 116

/* Log-linear histograms: four buckets to an octave from 2^16 ns (66 us) to beyond 2^39 ns (550 s). */
#define FE_COUNTERS 128
#define FE_HISTOGRAMS 3
#define FE_BUCKETS 96
#define FE_FIRST_OCTAVE 16
#define FE_SUMS (FE_COUNTERS - FE_HISTOGRAMS) /* the last counters hold each histogram's sum in ns */
#define FE_RECORD (FE_COUNTERS + FE_HISTOGRAMS * FE_BUCKETS)

enum { FE_SLOT_FREE, FE_SLOT_WAITING, FE_SLOT_GRANTED, FE_SLOT_HELD, FE_SLOT_EXPIRED };
enum { FE_REPLICA_FREE, FE_REPLICA_STARTING, FE_REPLICA_READY, FE_REPLICA_EJECTED, FE_REPLICA_DRAINING,
       FE_REPLICA_REMOVING };
enum { FE_DEPLOYMENT_FREE, FE_DEPLOYMENT_ACTIVE, FE_DEPLOYMENT_REMOVING };
enum { FE_HOLDER_FREE, FE_HOLDER_STARTING, FE_HOLDER_ACTIVE, FE_HOLDER_ABSENT };

/* ---- Records ---------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t word;       /* truth: state, deployment, replica and the deployment's generation, stored at once */
    uint64_t seq;        /* truth: place in the deployment's order; written before the word says WAITING or HELD */
    int64_t deadline_ns; /* truth: CLOCK_MONOTONIC; written before the word says WAITING */
    uint32_t next;       /* cache: the queue, by slot number across all holders */
    uint32_t prev;       /* cache */
} fe_slot;

typedef struct {
    uint64_t word;        /* truth: state, deployment and incarnation, stored at once */
    uint32_t in_flight;   /* cache: held and granted slots that name this replica */
    uint32_t failures;    /* truth: consecutive failed exchanges */
    uint32_t level;       /* cache: the level it stands in; FE_NONE unless READY */
    uint32_t next;        /* cache: neighbours in that level, longest waiting first */
    uint32_t prev;        /* cache */
    uint32_t member_next; /* cache: all replicas of the deployment */
    uint32_t member_prev; /* cache */
    /* Storage of one level. Each replica brings room for one, so that a deployment never has too few. */
    uint32_t node_load; /* cache: in_flight of every replica in this level */
    uint32_t node_head; /* cache: FE_NONE when this level is not in use */
    uint32_t node_tail; /* cache */
    uint32_t node_next; /* cache: the next higher level, or the next unused one */
    uint32_t node_prev; /* cache */
} FE_CONTENDED fe_replica;

typedef struct {
    uint32_t length;                     /* truth: written before the replica's word says that it exists */
    uint8_t sockaddr[FE_SOCKADDR_BYTES]; /* truth */
    uint64_t reserved;
} FE_CONTENDED fe_address;

/* A robust, process-shared mutex alone on its line, whatever size this C library gives it. */
typedef union {
    pthread_mutex_t mutex;
    uint8_t line[FE_LINE];
} fe_mutex;

typedef struct {
    int64_t at_ns;      /* until when the integrals have been taken */
    uint64_t in_flight; /* ns times requests at replicas */
    uint64_t queue;     /* ns times requests waiting */
    uint64_t ready;     /* ns times READY replicas */
} fe_totals;

typedef struct {
    fe_mutex lock;         /* protects all below, the replicas and the queue */
    uint64_t word;         /* truth: state and generation, stored at once */
    uint64_t settings;     /* truth: capacity and max_queue, stored at once */
    uint64_t seq;          /* truth: the next place in the order; raised before it is used */
    uint32_t ceiling;      /* truth: no replica has more in flight; above capacity after it was lowered, or adoption */
    uint32_t in_flight;    /* cache */
    uint32_t queue_head;   /* cache */
    uint32_t queue_tail;   /* cache */
    uint32_t queue_length; /* cache */
    uint32_t replicas;     /* cache */
    uint32_t ready;        /* cache */
    uint32_t level_head;   /* cache: the lowest level; its first replica is the next to be chosen */
    uint32_t node_free;    /* cache: unused levels */
    uint32_t member_head;  /* cache */
    fe_totals totals[2] FE_CONTENDED; /* truth: the one that `current` names; the other is written, then named */
    uint32_t current;      /* truth */
    uint32_t name_length;  /* truth: the name is written before the word says ACTIVE */
    uint8_t name[FE_NAME_BYTES];
} FE_CONTENDED fe_deployment;

typedef struct {
    uint32_t state;      /* truth: FE_HOLDER_* */
    uint32_t generation; /* truth: how often it was claimed */
    int32_t pid;         /* for people; never to decide who owns what */
    int32_t eventfd;     /* truth: a descriptor that every process inherits under this number; -1 none */
    uint32_t high_water; /* truth: slots below it may be in use; raised before the first use */
    uint32_t reserved;
    int64_t beat_ns;     /* truth: last sign of life */
    int64_t changed_ns;  /* truth: when state was last stored */
    uint64_t summary FE_CONTENDED; /* truth: which parts of the mailbox may have marks; rung when it leaves 0 */
} FE_CONTENDED fe_holder;

typedef struct {
    uint64_t magic;
    uint64_t signature; /* of all sizes and offsets below: another build is refused */
    uint64_t size;
    uint64_t config_bytes;
    uint32_t deployments, replicas, holders, slots, workers;
    uint32_t mail_words; /* 64-bit words in one holder's mailbox */
    uint32_t mail_span;  /* words that one bit of the summary stands for */
    uint32_t reserved;
    uint64_t at_deployments, at_replicas, at_addresses, at_holders, at_slots, at_mail, at_statistics, at_config;
    fe_mutex control; /* allocation of deployments and replicas, and publishing */
    uint32_t deployments_used; /* truth: high-water mark, raised before the first use */
    uint32_t replicas_used;                 /* truth: likewise */
    int32_t control_eventfd;                /* truth: the controller's */
    uint64_t config_version FE_CONTENDED;   /* truth: its lowest bit names the region; stored last */
    uint64_t config_length[2];              /* truth */
} FE_CONTENDED fe_header;

_Static_assert(sizeof(fe_slot) == 32, "two slots to a cache line");
_Static_assert(sizeof(fe_replica) == FE_LINE, "one replica, one cache line: 10,000 fit a second-level cache");
_Static_assert(sizeof(fe_address) == 2 * FE_LINE, "cold, beside the replicas");
_Static_assert(sizeof(fe_totals) == 32, "both copies share one line");
_Static_assert(sizeof(fe_mutex) == FE_LINE, "the lock has a line of its own");
_Static_assert(offsetof(fe_deployment, word) == FE_LINE, "what an acquire reads lies in one line");
_Static_assert(offsetof(fe_deployment, totals) == 2 * FE_LINE, "no hole grew among the caches");
_Static_assert(sizeof(fe_deployment) == 6 * FE_LINE, "deployment");
_Static_assert(sizeof(fe_holder) == 2 * FE_LINE, "a ring does not disturb the beat");
_Static_assert(sizeof(fe_header) % FE_LINE == 0, "header");

/* What one process knows of the mapping: private, never shared. */
typedef struct {
    fe_header *header;
    fe_deployment *deployments;
    fe_replica *replicas;
    fe_address *addresses;
    fe_holder *holders;
    fe_slot *slots;
    uint64_t *mail;
    uint64_t *statistics;
    uint8_t *config;
} fe_view;

/* Whom to ring once the lock is free. */
typedef struct {
    uint64_t holders[FE_MOST_HOLDERS / 64];
    uint32_t self;  /* the caller's holder is marked, never rung: it is awake */
    uint8_t any;
    uint8_t always; /* ring whatever the summary said: after a recount */
    uint8_t control;
} fe_rings;

/* ---- Stores, and the points at which a process may die ----------------------------------------------------------- */

/* Every store to shared memory goes through put32 or put64: at once, in program order (a release store: nothing written
 * before it is seen after it), and followed in a debug build by a named point at which a test can end the process. */
#define put32(at, value, name) do { __atomic_store_n((uint32_t *)(at), (value), __ATOMIC_RELEASE); FE_POINT(name); } while (0)
#define put64(at, value, name) do { __atomic_store_n((uint64_t *)(at), (uint64_t)(value), __ATOMIC_RELEASE); FE_POINT(name); } while (0)

static inline uint32_t get32(const uint32_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static inline uint64_t get64(const uint64_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }

#ifdef FE_DEBUG
#define FE_BUILD_NAME "debug"
#define FE_TRACE_MOST 65536
#define FE_POINT(name) do { \
        static const char *const fe_site __attribute__((section("fe_points"), used)) = (name); \
        fe_point_passed(fe_site); \
    } while (0)
extern const char *const __start_fe_points[] __attribute__((visibility("hidden")));
extern const char *const __stop_fe_points[] __attribute__((visibility("hidden")));
static uint64_t fe_crash_after;   /* process-private: the n-th point passed from now is the last; 0 never */
static int fe_crash_signal = SIGKILL;
static uint32_t fe_trace_length;
static const char *fe_trace[FE_TRACE_MOST];
static void fe_point_passed(const char *name) {
    if (fe_trace_length < FE_TRACE_MOST) fe_trace[fe_trace_length++] = name;
    if (fe_crash_after != 0 && --fe_crash_after == 0) kill(getpid(), fe_crash_signal);
}
static inline void fe_crash_arm(uint64_t after, int signal) {
    fe_crash_after = after; fe_crash_signal = signal; fe_trace_length = 0;
}
static inline size_t fe_points(void) { return (size_t)(__stop_fe_points - __start_fe_points); }
static inline const char *fe_point_name(size_t i) { return __start_fe_points[i]; }
static inline uint32_t fe_passed(void) { return fe_trace_length; }
static inline const char *fe_passed_name(uint32_t i) { return fe_trace[i]; }
#define FE_DEBUGGING 1
#else
#ifdef CYTHON_TRACE_NOGIL
#define FE_BUILD_NAME "coverage"
#else
#define FE_BUILD_NAME "release"
#endif
#define FE_POINT(name) do { (void)(name); } while (0)
static inline void fe_crash_arm(uint64_t after, int signal) { (void)after; (void)signal; }
static inline size_t fe_points(void) { return 0; }
static inline const char *fe_point_name(size_t i) { (void)i; return ""; }
static inline uint32_t fe_passed(void) { return 0; }
static inline const char *fe_passed_name(uint32_t i) { (void)i; return ""; }
#define FE_DEBUGGING 0
#endif

/* ---- Packed words ------------------------------------------------------------------------------------------------ */

static inline uint64_t fe_slot_word(uint32_t state, uint32_t deployment, uint32_t replica, uint32_t generation) {
    return (uint64_t)state | (uint64_t)deployment << 4 | (uint64_t)replica << 20 | (uint64_t)generation << 40;
}
static inline uint32_t fe_slot_state(uint64_t word) { return word & 15; }
static inline uint32_t fe_slot_deployment(uint64_t word) { return word >> 4 & (FE_MOST_DEPLOYMENTS - 1); }
static inline uint32_t fe_slot_replica(uint64_t word) { return word >> 20 & (FE_MOST_REPLICAS - 1); }
static inline uint32_t fe_slot_generation(uint64_t word) { return (uint32_t)(word >> 40); }

static inline uint64_t fe_replica_word(uint32_t state, uint32_t deployment, uint32_t incarnation) {
    return (uint64_t)state | (uint64_t)deployment << 4 | (uint64_t)incarnation << 32;
}
static inline uint32_t fe_replica_state(uint64_t word) { return word & 15; }
static inline uint32_t fe_replica_deployment(uint64_t word) { return word >> 4 & (FE_MOST_DEPLOYMENTS - 1); }
static inline uint32_t fe_replica_incarnation(uint64_t word) { return (uint32_t)(word >> 32); }

static inline uint64_t fe_deployment_word(uint32_t state, uint32_t generation) {
    return (uint64_t)state | (uint64_t)generation << 32;
}
static inline uint32_t fe_deployment_state(uint64_t word) { return word & 15; }
static inline uint32_t fe_deployment_generation(uint64_t word) { return (uint32_t)(word >> 32); }

static inline uint64_t fe_settings(uint32_t capacity, uint32_t max_queue) {
    return (uint64_t)capacity | (uint64_t)max_queue << 32;
}
static inline uint32_t fe_capacity(const fe_deployment *d) { return (uint32_t)d->settings; }
static inline uint32_t fe_max_queue(const fe_deployment *d) { return (uint32_t)(d->settings >> 32); }

/* ---- Time -------------------------------------------------------------------------------------------------------- */

static inline int64_t fe_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Takes the integrals up to now. Under the lock, before in_flight, queue_length or ready change. */
static inline int64_t fe_account(fe_deployment *d) {
    int64_t now = fe_now();
    const fe_totals *old = &d->totals[d->current & 1];
    fe_totals *new = &d->totals[~d->current & 1];
    uint64_t passed = now > old->at_ns ? (uint64_t)(now - old->at_ns) : 0;
    put64(&new->in_flight, old->in_flight + passed * d->in_flight, "totals: in_flight");
    put64(&new->queue, old->queue + passed * d->queue_length, "totals: queue");
    put64(&new->ready, old->ready + passed * d->ready, "totals: ready");
    put64(&new->at_ns, old->at_ns + (int64_t)passed, "totals: time");
    put32(&d->current, ~d->current & 1, "totals: named");
    return now;
}

/* ---- Lock -------------------------------------------------------------------------------------------------------- */

static inline int fe_mutex_init(fe_mutex *lock) {
    pthread_mutexattr_t a;
    int failed = pthread_mutexattr_init(&a);
    if (failed) return failed;
    failed = pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    if (!failed) failed = pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    if (!failed) failed = pthread_mutex_init(&lock->mutex, &a);
    pthread_mutexattr_destroy(&a);
    return failed;
}

#define FE_FIRST_PAUSES 4
#define FE_LAST_PAUSES 128

static inline void fe_pause(int times) {
    for (int i = 0; i < times; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb");
#endif
    }
}

/* True: the last owner died inside. The caller mends what the lock protects, then calls fe_mended.
 * It is held for tens of ns and a sleep costs microseconds, so a few tries come first, further and further apart: each
 * try takes the line away from the owner. (Two processes that do nothing else: 1,300 ns a pair without the pauses, 370
 * with them.) */
static inline int fe_lock(fe_mutex *lock) {
    int got = pthread_mutex_trylock(&lock->mutex);
    for (int pauses = FE_FIRST_PAUSES; got == EBUSY && pauses <= FE_LAST_PAUSES; pauses *= 2) {
        fe_pause(pauses);
        got = pthread_mutex_trylock(&lock->mutex);
    }
    if (got == EBUSY) got = pthread_mutex_lock(&lock->mutex);
    FE_POINT("lock: taken");
    return got == EOWNERDEAD;
}

static inline void fe_mended(fe_mutex *lock) {
    pthread_mutex_consistent(&lock->mutex);
    FE_POINT("lock: mended");
}

static inline void fe_unlock(fe_mutex *lock) {
    pthread_mutex_unlock(&lock->mutex);
    FE_POINT("lock: free");
}

/* ---- Mailbox and doorbell ---------------------------------------------------------------------------------------- */

static inline void fe_rings_none(fe_rings *rings, uint32_t self) {
    memset(rings, 0, sizeof *rings);
    rings->self = self;
}

static inline uint64_t *fe_mailbox(const fe_view *v, uint32_t holder) {
    return v->mail + (size_t)holder * v->header->mail_words;
}

/* After the slot's word was stored, under its deployment's lock. Marking twice does no harm. */
static inline void fe_mark(const fe_view *v, fe_rings *rings, uint32_t index) {
    uint32_t holder = index / v->header->slots, slot = index % v->header->slots;
    fe_holder *h = &v->holders[holder];
    __atomic_fetch_or(&fe_mailbox(v, holder)[slot / 64], UINT64_C(1) << (slot % 64), __ATOMIC_ACQ_REL);
    FE_POINT("mail: marked");
    uint64_t bit = UINT64_C(1) << (slot / 64 / v->header->mail_span);
    uint64_t before = __atomic_fetch_or(&h->summary, bit, __ATOMIC_ACQ_REL);
    FE_POINT("mail: summary");
    if ((before == 0 || rings->always) && holder != rings->self) {
        rings->holders[holder / 64] |= UINT64_C(1) << (holder % 64);
        rings->any = 1;
    }
}

static inline void fe_ring(int32_t eventfd) {
    uint64_t one = 1;
    /* A full counter (EAGAIN) is a doorbell already rung; a closed one belongs to nobody. */
    if (eventfd >= 0 && write(eventfd, &one, sizeof one) < 0) { }
    FE_POINT("doorbell: rung");
}

/* After the lock is free: a wake-up costs microseconds. */
static inline void fe_ring_them(const fe_view *v, fe_rings *rings) {
    for (uint32_t i = 0; rings->any && i < FE_MOST_HOLDERS / 64; i++)
        for (uint64_t left = rings->holders[i]; left; left &= left - 1)
            fe_ring((int32_t)get32((uint32_t *)&v->holders[i * 64 + __builtin_ctzll(left)].eventfd));
    if (rings->control) fe_ring((int32_t)get32((uint32_t *)&v->header->control_eventfd));
}

/* Rings whoever has marks, whether or not it was rung for them: its ringer may have died in between. No record tells
 * whether the controller still has to hear of an ejection or of a record freed, so it looks in any case. */
static inline void fe_ring_marked(const fe_view *v) {
    for (uint32_t i = 0; i < v->header->holders; i++)
        if (get64(&v->holders[i].summary)) fe_ring((int32_t)get32((uint32_t *)&v->holders[i].eventfd));
    fe_ring((int32_t)get32((uint32_t *)&v->header->control_eventfd));
}

/* ---- Statistics -------------------------------------------------------------------------------------------------- */

/* The bucket of a duration: 0 up to 2^16 ns, then quarters of an octave, each with its upper bound included. */
static inline uint32_t fe_bucket(int64_t ns) {
    if (ns <= INT64_C(1) << FE_FIRST_OCTAVE) return 0;
    uint64_t below = (uint64_t)ns - 1;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(below);
    uint32_t bucket = (octave - FE_FIRST_OCTAVE) * 4 + (uint32_t)(below >> (octave - 2) & 3) + 1;
    return bucket < FE_BUCKETS ? bucket : FE_BUCKETS - 1;
}

static inline uint64_t fe_bucket_bound(uint32_t bucket) {
    return (uint64_t)(4 + bucket % 4) << (FE_FIRST_OCTAVE - 2 + bucket / 4);
}

/* ---- Layout of the mapping --------------------------------------------------------------------------------------- */

static inline uint64_t fe_place(uint64_t *end, uint64_t bytes) {
    uint64_t at = *end;
    *end = (at + bytes + FE_LINE - 1) / FE_LINE * FE_LINE;
    return at;
}

/* Fills offsets and size of a header that has its limits. */
static inline void fe_layout(fe_header *h) {
    uint64_t end = 0, page = 4096;
    fe_place(&end, sizeof(fe_header));
    h->mail_words = (h->slots + 63) / 64;
    h->mail_span = (h->mail_words + 63) / 64;
    h->at_deployments = fe_place(&end, (uint64_t)h->deployments * sizeof(fe_deployment));
    h->at_replicas = fe_place(&end, (uint64_t)h->replicas * sizeof(fe_replica));
    h->at_addresses = fe_place(&end, (uint64_t)h->replicas * sizeof(fe_address));
    h->at_holders = fe_place(&end, (uint64_t)h->holders * sizeof(fe_holder));
    h->at_slots = fe_place(&end, (uint64_t)h->holders * h->slots * sizeof(fe_slot));
    h->at_mail = fe_place(&end, (uint64_t)h->holders * h->mail_words * sizeof(uint64_t));
    h->at_statistics = fe_place(&end, (uint64_t)h->workers * (h->deployments + 1) * FE_RECORD * sizeof(uint64_t));
    h->at_config = fe_place(&end, 2 * h->config_bytes);
    h->size = (end + page - 1) / page * page;
}

static inline uint64_t fe_signature(void) {
    const uint64_t parts[] = {
        FE_FORMAT, FE_LINE, FE_RECORD, FE_BUCKETS, FE_COUNTERS, FE_NAME_BYTES, FE_SOCKADDR_BYTES,
        sizeof(fe_mutex), sizeof(pthread_mutex_t), sizeof(fe_header), sizeof(fe_deployment), sizeof(fe_replica), sizeof(fe_address),
        sizeof(fe_holder), sizeof(fe_slot), sizeof(fe_totals), offsetof(fe_header, control),
        offsetof(fe_header, config_version), offsetof(fe_deployment, totals), offsetof(fe_deployment, name),
        offsetof(fe_replica, node_load), offsetof(fe_holder, summary),
    };
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) hash = (hash ^ parts[i]) * UINT64_C(1099511628211);
    return hash;
}

static inline void fe_view_of(void *base, fe_view *v) {
    uint8_t *b = base;
    v->header = base;
    v->deployments = (fe_deployment *)(b + v->header->at_deployments);
    v->replicas = (fe_replica *)(b + v->header->at_replicas);
    v->addresses = (fe_address *)(b + v->header->at_addresses);
    v->holders = (fe_holder *)(b + v->header->at_holders);
    v->slots = (fe_slot *)(b + v->header->at_slots);
    v->mail = (uint64_t *)(b + v->header->at_mail);
    v->statistics = (uint64_t *)(b + v->header->at_statistics);
    v->config = b + v->header->at_config;
}

/* NULL when the address space has no room for it. */
static inline void *fe_map(int fd, size_t length, int touch) {
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | (touch ? MAP_POPULATE : 0), fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* First contents of a mapping whose header has its limits and offsets. The magic comes last. */
static inline int fe_format(fe_view *v) {
    fe_header *h = v->header;
    int failed = fe_mutex_init(&h->control);
    h->control_eventfd = -1;
    for (uint32_t i = 0; i < h->deployments && !failed; i++) {
        fe_deployment *d = &v->deployments[i];
        failed = fe_mutex_init(&d->lock);
        d->queue_head = d->queue_tail = d->level_head = d->node_free = d->member_head = FE_NONE;
        d->seq = 1;
    }
    for (uint32_t i = 0; i < h->replicas; i++) v->replicas[i].level = v->replicas[i].node_head = FE_NONE;
    for (uint32_t i = 0; i < h->holders; i++) v->holders[i].eventfd = -1;
    h->signature = fe_signature();
    put64(&h->magic, FE_MAGIC, "create: magic");
    return failed;
}

#endif
