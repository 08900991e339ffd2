/* What happens under a deployment's lock: who gets a free place, and the recount that mends what a dead process left.
 *
 * Owns: entering and leaving the lock, every change of a word on behalf of another holder, the order of those stores.
 * Never: allocates slots (their owner does, fe/_core.pyx) or records (fe/_control.h), rings before the lock is free.
 * The order is always: word (truth), lists and counts (caches), mark; and once the lock is free, the doorbell.
 */
#ifndef FE_PROTOCOL_H
#define FE_PROTOCOL_H

#include "_caches.h"

static void fe_recount(const fe_view *v, fe_deployment *d, fe_rings *rings);

static inline uint32_t fe_index_of(const fe_view *v, const fe_deployment *d) { return (uint32_t)(d - v->deployments); }

static inline void fe_enter(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t caller) {
    fe_rings_none(rings, caller);
    if (__builtin_expect(fe_lock(&d->lock), 0)) {
        fe_recount(v, d, rings);
        fe_mended(&d->lock);
    }
}

static inline void fe_leave(const fe_view *v, fe_deployment *d, fe_rings *rings) {
    fe_unlock(&d->lock);
    fe_ring_them(v, rings);
}

/* ---- Grants ------------------------------------------------------------------------------------------------------ */

/* From the word on the place is taken, whatever becomes of the caller. The caller counts it. */
static void fe_grant_to(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t waiter, uint32_t replica) {
    put64(&v->slots[waiter].word, fe_slot_word(FE_SLOT_GRANTED, fe_index_of(v, d), replica,
                                               fe_deployment_generation(d->word)), "grant: word");
    fe_queue_unlink(v, d, waiter);
    fe_mark(v, rings, waiter);
}

static void fe_expire(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t waiter) {
    put64(&v->slots[waiter].word, fe_slot_word(FE_SLOT_EXPIRED, fe_index_of(v, d), 0,
                                               fe_deployment_generation(d->word)), "expire: word");
    fe_queue_unlink(v, d, waiter);
    fe_mark(v, rings, waiter);
}

/* Free places to waiters, oldest first, until one of both has run out. */
static void fe_grant_free(const fe_view *v, fe_deployment *d, fe_rings *rings, int64_t now) {
    while (d->queue_head != FE_NONE) {
        uint32_t waiter = d->queue_head, replica = fe_least_loaded(v, d);
        if (replica == FE_NONE) return;
        if (v->slots[waiter].deadline_ns <= now) {
            fe_expire(v, d, rings, waiter);
        } else {
            fe_grant_to(v, d, rings, waiter, replica);
            fe_replica_up(v, d, replica);
        }
    }
}

/* A place just given back goes straight to the first waiter: the load of the replica does not change at all. */
static int fe_hand_over(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t replica, int64_t now) {
    const fe_replica *r = &v->replicas[replica];
    uint32_t capacity = fe_capacity(d);
    if (fe_replica_state(r->word) != FE_REPLICA_READY || (capacity != 0 && r->in_flight > capacity)) return 0;
    while (d->queue_head != FE_NONE) {
        uint32_t waiter = d->queue_head;
        if (v->slots[waiter].deadline_ns > now) {
            fe_grant_to(v, d, rings, waiter, replica);
            return 1;
        }
        fe_expire(v, d, rings, waiter);
    }
    return 0;
}

static void fe_finish_deployment(fe_deployment *d, fe_rings *rings) {
    if (fe_deployment_state(d->word) != FE_DEPLOYMENT_REMOVING || d->replicas != 0) return;
    put64(&d->word, fe_deployment_word(FE_DEPLOYMENT_FREE, fe_deployment_generation(d->word)), "deployment free: word");
    rings->control = 1;
}

/* A replica's last lease may be gone: a record being removed is freed, the controller is told.
 * Unlinked first, FREE last: once it says so, the controller may use it under another deployment's lock. */
static void fe_finish_replica(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t replica) {
    fe_replica *r = &v->replicas[replica];
    uint64_t word = r->word;
    if (r->in_flight != 0 || fe_replica_state(word) < FE_REPLICA_DRAINING) return;
    rings->control = 1;
    if (fe_replica_state(word) != FE_REPLICA_REMOVING) return;
    fe_member_remove(v, d, replica);
    put64(&r->word, fe_replica_word(FE_REPLICA_FREE, 0, fe_replica_incarnation(word)), "replica free: word");
    fe_finish_deployment(d, rings);
}

/* A slot no longer says that it holds a place at this replica. */
static inline void fe_give_back(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t replica, int64_t now) {
    if (d->queue_head != FE_NONE && fe_hand_over(v, d, rings, replica, now)) return;
    fe_replica_down(v, d, replica);
    fe_finish_replica(v, d, rings, replica);
}

/* A replica's new state, with all that follows from it. */
static void fe_set_state(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t replica, uint32_t state) {
    fe_replica *r = &v->replicas[replica];
    int was_ready = fe_replica_state(r->word) == FE_REPLICA_READY;
    int64_t now = fe_account(d);
    if (state == FE_REPLICA_READY && !was_ready) put32(&r->failures, 0, "state: failures");
    put64(&r->word, fe_replica_word(state, fe_index_of(v, d), fe_replica_incarnation(r->word)), "state: word");
    if (was_ready && state != FE_REPLICA_READY) fe_replica_leave(v, d, replica);
    if (!was_ready && state == FE_REPLICA_READY) fe_replica_enter(v, d, replica);
    fe_grant_free(v, d, rings, now);
    fe_finish_replica(v, d, rings, replica);
}

/* ---- The recount ------------------------------------------------------------------------------------------------- */

static int fe_belongs(const fe_view *v, const fe_deployment *d, uint32_t replica) {
    uint64_t word = get64(&v->replicas[replica].word);
    return fe_replica_state(word) != FE_REPLICA_FREE && fe_replica_deployment(word) == fe_index_of(v, d);
}

/* Zero leases each; and where the deployment is being removed, so is every replica. */
static void fe_recount_replicas(const fe_view *v, fe_deployment *d) {
    for (uint32_t i = 0, used = get32(&v->header->replicas_used); i < used; i++) {
        if (!fe_belongs(v, d, i)) continue;
        fe_replica *r = &v->replicas[i];
        if (fe_deployment_state(d->word) != FE_DEPLOYMENT_ACTIVE && fe_replica_state(r->word) != FE_REPLICA_REMOVING)
            put64(&r->word, fe_replica_word(FE_REPLICA_REMOVING, fe_index_of(v, d), fe_replica_incarnation(r->word)),
                  "recount: replica removing");
        put32(&r->in_flight, 0, "recount: replica zero");
    }
}

/* One slot in use: counts a lease, tells its owner the news again, puts a waiter before `waiting`. */
static void fe_recount_slot(const fe_view *v, fe_deployment *d, fe_rings *rings, uint32_t i, uint64_t word,
                            uint32_t *waiting, uint32_t *in_flight) {
    uint32_t state = fe_slot_state(word);
    if (state == FE_SLOT_GRANTED || state == FE_SLOT_EXPIRED) fe_mark(v, rings, i);
    if (state == FE_SLOT_EXPIRED || fe_slot_generation(word) != fe_deployment_generation(d->word)) return;
    if (state != FE_SLOT_WAITING) {
        fe_replica *r = &v->replicas[fe_slot_replica(word)];
        put32(&r->in_flight, r->in_flight + 1, "recount: lease");
        ++*in_flight;
    } else if (fe_deployment_state(d->word) == FE_DEPLOYMENT_ACTIVE) {
        put32(&v->slots[i].next, *waiting, "recount: waiting");
        *waiting = i;
    } else {
        put64(&v->slots[i].word, fe_slot_word(FE_SLOT_EXPIRED, fe_index_of(v, d), 0, fe_slot_generation(word)),
              "recount: word expired");
        fe_mark(v, rings, i);
    }
}

/* Returns the waiting slots, linked by `next` in no order. */
static uint32_t fe_recount_slots(const fe_view *v, fe_deployment *d, fe_rings *rings) {
    uint32_t waiting = FE_NONE, in_flight = 0, self = fe_index_of(v, d);
    for (uint32_t holder = 0; holder < v->header->holders; holder++) {
        uint32_t first = holder * v->header->slots, end = first + get32(&v->holders[holder].high_water);
        for (uint32_t i = first; i < end; i++) {
            uint64_t word = get64(&v->slots[i].word);
            if (fe_slot_state(word) != FE_SLOT_FREE && fe_slot_deployment(word) == self)
                fe_recount_slot(v, d, rings, i, word, &waiting, &in_flight);
        }
    }
    put32(&d->in_flight, in_flight, "recount: in_flight");
    return waiting;
}

/* Links the members, frees those whose removal is complete, and returns the READY ones linked by `next`: the lowest
 * record first, because who waited longest among equals is not part of the truth. */
static uint32_t fe_recount_members(const fe_view *v, fe_deployment *d, fe_rings *rings) {
    uint32_t ready = FE_NONE;
    for (uint32_t i = get32(&v->header->replicas_used); i-- > 0;) {
        if (!fe_belongs(v, d, i)) continue;
        fe_replica *r = &v->replicas[i];
        uint32_t state = fe_replica_state(r->word);
        if (state >= FE_REPLICA_DRAINING && r->in_flight == 0) rings->control = 1;
        if (state == FE_REPLICA_REMOVING && r->in_flight == 0) {
            put64(&r->word, fe_replica_word(FE_REPLICA_FREE, 0, fe_replica_incarnation(r->word)),
                  "recount: replica free");
            continue;
        }
        fe_member_add(v, d, i);
        if (state != FE_REPLICA_READY) continue;
        put32(&r->next, ready, "recount: ready");
        ready = i;
    }
    return ready;
}

/* Rebuilds every cache of a deployment from its truths and finishes what was begun: removals, grants, marks.
 * Can itself be cut short at any store and begun anew. Whoever has news is rung again, whatever the summaries say:
 * the process that died may have marked and not rung. */
static void fe_recount(const fe_view *v, fe_deployment *d, fe_rings *rings) {
    rings->always = 1;
    int64_t now = fe_account(d);
    fe_caches_forget(d);
    fe_recount_replicas(v, d);
    uint32_t waiting = fe_recount_slots(v, d, rings);
    uint32_t ready = fe_recount_members(v, d, rings);
    fe_levels_rebuild(v, d, ready);
    fe_queue_rebuild(v, d, waiting);
    fe_finish_deployment(d, rings);
    fe_grant_free(v, d, rings, now);
}

static void fe_recount_all(const fe_view *v) {
    fe_rings rings;
    for (uint32_t i = 0, used = get32(&v->header->deployments_used); i < used; i++) {
        fe_enter(v, &v->deployments[i], &rings, FE_NONE);
        fe_recount(v, &v->deployments[i], &rings);
        fe_leave(v, &v->deployments[i], &rings);
    }
    fe_ring_marked(v);
}

/* Frees every slot of a dead holder, deployment by deployment, and mends what else its death has left. Returns how many.
 * A death between unlocking and ringing leaves no trace in the deployment: so all are recounted, and whoever has a mark
 * is rung. */
static uint32_t fe_recover(const fe_view *v, uint32_t holder) {
    fe_holder *h = &v->holders[holder];
    fe_slot *slots = &v->slots[(size_t)holder * v->header->slots];
    uint32_t dropped = 0;
    fe_rings rings;
    for (uint32_t i = 0, used = get32(&v->header->deployments_used); i < used; i++) {
        fe_enter(v, &v->deployments[i], &rings, FE_NONE);
        for (uint32_t slot = 0, end = get32(&h->high_water); slot < end; slot++) {
            uint64_t word = slots[slot].word;
            if (fe_slot_state(word) == FE_SLOT_FREE || fe_slot_deployment(word) != i) continue;
            put64(&slots[slot].word, 0, "recover: slot free");
            dropped++;
        }
        fe_recount(v, &v->deployments[i], &rings);
        fe_leave(v, &v->deployments[i], &rings);
    }
    for (uint32_t i = 0; i < v->header->mail_words; i++) put64(&fe_mailbox(v, holder)[i], 0, "recover: mail");
    put64(&h->summary, 0, "recover: summary");
    put32(&h->high_water, 0, "recover: high water");
    fe_ring_marked(v);
    return dropped;
}

#endif
