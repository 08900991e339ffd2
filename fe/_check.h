/* The invariants of the lease table, numbered: what holds whenever a deployment's lock is free.
 *
 * Owns: their names and how each is evaluated, truths against caches. Never: mends (that is the recount).
 * Tests, `Table.check()` and the documentation use the same list.
 */
#ifndef FE_CHECK_H
#define FE_CHECK_H

#include "_caches.h"

#define FE_INVARIANT_LIST(X) \
    X(FE_COUNTED, "a deployment's in_flight is the number of its held and granted slots") \
    X(FE_LOADED, "a replica's in_flight is the number of held and granted slots that name it") \
    X(FE_QUEUED, "the queue holds exactly the waiting slots, in the order of seq") \
    X(FE_WORKING, "no request waits while a place is free") \
    X(FE_WITHIN, "no replica has more in flight than the deployment's ceiling") \
    X(FE_LEVELLED, "the levels hold exactly the READY replicas, ascending, each at its load") \
    X(FE_MEMBERS, "the members are exactly the replicas whose word names the deployment, and each brings a node") \
    X(FE_MARKED_SLOTS, "every granted or expired slot is marked in its holder's mailbox") \
    X(FE_REFERRING, "a slot in use names a deployment and a replica that exist, and lies below the high-water mark") \
    X(FE_FINISHED, "what is being removed is freed once nothing refers to it") \
    X(FE_ORDERED, "the deployment's next seq is above every slot's") \
    X(FE_SOUND, "the header's limits, marks and snapshot lengths are within their bounds")

#define FE_AS_BIT(name, text) name##_BIT,
enum { FE_INVARIANT_LIST(FE_AS_BIT) FE_INVARIANTS };
#undef FE_AS_BIT
#define FE_AS_MASK(name, text) name = 1u << name##_BIT,
enum { FE_INVARIANT_LIST(FE_AS_MASK) };
#undef FE_AS_MASK
#define FE_MARKED ((uint32_t)FE_MARKED_SLOTS)

/* Text of invariant `number`, counted from 1. */
static const char *fe_invariant(uint32_t number) {
#define FE_AS_TEXT(name, text) text,
    static const char *const texts[] = {FE_INVARIANT_LIST(FE_AS_TEXT)};
#undef FE_AS_TEXT
    return texts[number - 1];
}

static int fe_member_of(const fe_view *v, const fe_deployment *d, uint32_t i) {
    uint64_t word = get64(&v->replicas[i].word);
    return i < v->header->replicas && fe_replica_state(word) != FE_REPLICA_FREE
        && fe_replica_deployment(word) == (uint32_t)(d - v->deployments);
}

static uint32_t fe_check_slot(const fe_view *v, const fe_deployment *d, uint32_t i, uint64_t word, uint32_t *counts) {
    uint32_t state = fe_slot_state(word), bad = 0, slot = i % v->header->slots;
    uint64_t marks = get64(&fe_mailbox(v, i / v->header->slots)[slot / 64]);
    /* The owner may have taken it up meanwhile, which needs no lock: look again before calling it unmarked. */
    if ((state == FE_SLOT_GRANTED || state == FE_SLOT_EXPIRED) && !(marks >> (slot % 64) & 1)
        && get64(&v->slots[i].word) == word) bad |= FE_MARKED_SLOTS;
    if (state == FE_SLOT_EXPIRED) return bad;
    if (v->slots[i].seq >= d->seq) bad |= FE_ORDERED;
    if (state == FE_SLOT_WAITING) return bad;
    if (fe_slot_replica(word) >= v->header->replicas || !fe_member_of(v, d, fe_slot_replica(word)))
        return bad | FE_REFERRING;
    counts[fe_slot_replica(word)]++;
    return bad;
}

/* Counts leases by replica; *held and *waiting are totals. */
static uint32_t fe_check_slots(const fe_view *v, const fe_deployment *d, uint32_t *counts, uint32_t *held,
                               uint32_t *waiting) {
    uint32_t bad = 0, self = (uint32_t)(d - v->deployments);
    for (uint32_t h = 0; h < v->header->holders; h++)
        for (uint32_t i = h * v->header->slots, end = i + get32(&v->holders[h].high_water); i < end; i++) {
            uint64_t word = get64(&v->slots[i].word);
            uint32_t state = fe_slot_state(word);
            if (state == FE_SLOT_FREE || fe_slot_deployment(word) != self) continue;
            if (state != FE_SLOT_EXPIRED && (fe_deployment_state(d->word) == FE_DEPLOYMENT_FREE
                || fe_slot_generation(word) != fe_deployment_generation(d->word))) {
                bad |= FE_REFERRING; /* and as in the recount it counts for nothing */
                continue;
            }
            bad |= fe_check_slot(v, d, i, word, counts);
            *held += state == FE_SLOT_HELD || state == FE_SLOT_GRANTED;
            *waiting += state == FE_SLOT_WAITING;
        }
    return bad;
}

static uint32_t fe_check_queue(const fe_view *v, const fe_deployment *d, uint32_t waiting) {
    uint32_t length = 0, prev = FE_NONE, most = v->header->holders * v->header->slots;
    for (uint32_t i = d->queue_head; i != FE_NONE; prev = i, i = v->slots[i].next) {
        if (i >= most || ++length > waiting) return FE_QUEUED;
        uint64_t word = get64(&v->slots[i].word);
        if (fe_slot_state(word) != FE_SLOT_WAITING || fe_slot_deployment(word) != (uint32_t)(d - v->deployments)
            || v->slots[i].prev != prev || (prev != FE_NONE && v->slots[prev].seq >= v->slots[i].seq)) return FE_QUEUED;
    }
    uint32_t bad = length != waiting || d->queue_length != waiting || d->queue_tail != prev ? FE_QUEUED : 0;
    return bad | (waiting > 0 && fe_least_loaded(v, d) != FE_NONE ? FE_WORKING : 0);
}

/* *nodes: levels in use. */
static uint32_t fe_check_levels(const fe_view *v, const fe_deployment *d, uint32_t ready, uint32_t *nodes) {
    uint32_t most = v->header->replicas, found = 0, below = FE_NONE;
    for (uint32_t node = d->level_head; node != FE_NONE; below = node, node = v->replicas[node].node_next) {
        if (node >= most || ++*nodes > ready) return FE_LEVELLED;
        const fe_replica *n = &v->replicas[node];
        if (n->node_head == FE_NONE || n->node_prev != below || !fe_member_of(v, d, node)
            || (below != FE_NONE && v->replicas[below].node_load >= n->node_load)) return FE_LEVELLED;
        uint32_t prev = FE_NONE;
        for (uint32_t i = n->node_head; i != FE_NONE; prev = i, i = v->replicas[i].next) {
            if (i >= most || ++found > ready || !fe_member_of(v, d, i)) return FE_LEVELLED;
            const fe_replica *r = &v->replicas[i];
            if (r->level != node || r->prev != prev || r->in_flight != n->node_load
                || fe_replica_state(r->word) != FE_REPLICA_READY) return FE_LEVELLED;
        }
        if (n->node_tail != prev) return FE_LEVELLED;
    }
    return found != ready || d->ready != ready ? FE_LEVELLED : 0;
}

static uint32_t fe_check_members(const fe_view *v, const fe_deployment *d, uint32_t replicas, uint32_t nodes) {
    uint32_t found = 0, unused = 0, prev = FE_NONE, most = v->header->replicas;
    for (uint32_t i = d->member_head; i != FE_NONE; prev = i, i = v->replicas[i].member_next)
        if (i >= most || ++found > replicas || v->replicas[i].member_prev != prev || !fe_member_of(v, d, i))
            return FE_MEMBERS;
    prev = FE_NONE;
    for (uint32_t i = d->node_free; i != FE_NONE; prev = i, i = v->replicas[i].node_next)
        if (i >= most || ++unused > replicas || v->replicas[i].node_prev != prev
            || v->replicas[i].node_head != FE_NONE || !fe_member_of(v, d, i)) return FE_MEMBERS;
    return found != replicas || d->replicas != replicas || nodes + unused != replicas ? FE_MEMBERS : 0;
}

/* Under the deployment's lock. `counts` has a zero for each replica. The mask of what does not hold. */
static uint32_t fe_check_deployment(const fe_view *v, fe_deployment *d, uint32_t *counts) {
    uint32_t held = 0, waiting = 0, replicas = 0, ready = 0, nodes = 0, most = 0, state = fe_deployment_state(d->word);
    uint32_t bad = fe_check_slots(v, d, counts, &held, &waiting);
    for (uint32_t i = 0; i < get32(&v->header->replicas_used); i++) {
        if (!fe_member_of(v, d, i)) continue;
        const fe_replica *r = &v->replicas[i];
        replicas++;
        ready += fe_replica_state(r->word) == FE_REPLICA_READY;
        if (r->in_flight != counts[i]) bad |= FE_LOADED;
        if (fe_replica_state(r->word) == FE_REPLICA_REMOVING && counts[i] == 0) bad |= FE_FINISHED;
        most = counts[i] > most ? counts[i] : most;
    }
    if (d->in_flight != held) bad |= FE_COUNTED;
    if (most > d->ceiling) bad |= FE_WITHIN;
    if (state != FE_DEPLOYMENT_ACTIVE && (waiting || ready)) bad |= FE_FINISHED;
    if (state == FE_DEPLOYMENT_FREE ? replicas > 0 : state == FE_DEPLOYMENT_REMOVING && replicas == 0) bad |= FE_FINISHED;
    bad |= fe_check_queue(v, d, waiting) | fe_check_levels(v, d, ready, &nodes);
    return bad | fe_check_members(v, d, replicas, nodes);
}

/* What belongs to no deployment; needs no lock. */
static uint32_t fe_check_table(const fe_view *v) {
    const fe_header *h = v->header;
    uint32_t bad = 0;
    if (h->magic != FE_MAGIC || h->signature != fe_signature() || get32(&h->deployments_used) > h->deployments
        || get32(&h->replicas_used) > h->replicas || h->config_length[0] > h->config_bytes
        || h->config_length[1] > h->config_bytes) bad |= FE_SOUND;
    for (uint32_t holder = 0; holder < h->holders; holder++)
        for (uint32_t slot = 0; slot < h->slots; slot++) {
            uint64_t word = get64(&v->slots[(size_t)holder * h->slots + slot].word);
            if (fe_slot_state(word) == FE_SLOT_FREE) continue;
            if (slot >= get32(&v->holders[holder].high_water) || fe_slot_state(word) > FE_SLOT_EXPIRED
                || fe_slot_deployment(word) >= get32(&v->header->deployments_used)) bad |= FE_REFERRING;
        }
    return bad;
}

#endif
