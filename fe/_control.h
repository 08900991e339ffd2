/* What a controller does to the table: deployments and replicas come, change and go; a snapshot is published.
 *
 * Owns: allocation of both records, under the table's control lock. Never: touches a slot or a lease except by way of
 * fe/_protocol.h. A controller may die at any store here: what exists is decided by one word, stored last (or, when
 * something is removed, first), and a recount draws the consequences. Lock order: control, then a deployment.
 */
#ifndef FE_CONTROL_H
#define FE_CONTROL_H

#include "_protocol.h"

/* Nothing to mend behind a dead owner: free records are found by their words, a snapshot is named last. */
static void fe_control_enter(const fe_view *v) {
    if (fe_lock(&v->header->control)) fe_mended(&v->header->control);
}

static inline uint32_t fe_ceiling(uint32_t capacity) { return capacity != 0 ? capacity : FE_NONE; }
static inline uint32_t fe_greater(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* A fresh record is FREE, so nobody reads it: plain writes, in any order, up to the word. */
static uint32_t fe_deployment_fill(const fe_view *v, uint32_t i, const uint8_t *name, uint32_t length, uint64_t settings) {
    fe_deployment *d = &v->deployments[i];
    for (uint32_t worker = 0; worker < v->header->workers; worker++) {
        memset(&v->statistics[((size_t)worker * (v->header->deployments + 1) + i) * FE_RECORD], 0, FE_RECORD * 8);
        FE_POINT("add deployment: statistics");
    }
    memcpy(d->name, name, length);
    put32(&d->name_length, length, "add deployment: name");
    put64(&d->settings, settings, "add deployment: settings");
    put32(&d->ceiling, fe_ceiling((uint32_t)settings), "add deployment: ceiling");
    fe_totals *totals = &d->totals[~d->current & 1];
    memset(totals, 0, sizeof *totals);
    put64(&totals->at_ns, fe_now(), "add deployment: totals");
    put32(&d->current, ~d->current & 1, "add deployment: totals named");
    uint32_t generation = fe_deployment_generation(d->word) % (FE_GENERATIONS - 1) + 1;
    put64(&d->word, fe_deployment_word(FE_DEPLOYMENT_ACTIVE, generation), "add deployment: word");
    return generation;
}

/* The index of the new deployment, or -1 when all records are in use. */
static int64_t fe_deployment_open(const fe_view *v, const uint8_t *name, uint32_t length, uint64_t settings,
                                  uint32_t *generation) {
    fe_rings rings;
    int64_t result = -1;
    fe_control_enter(v);
    for (uint32_t i = 0; i < v->header->deployments; i++) {
        fe_deployment *d = &v->deployments[i];
        if (fe_deployment_state(get64(&d->word)) != FE_DEPLOYMENT_FREE) continue;
        if (i >= v->header->deployments_used) put32(&v->header->deployments_used, i + 1, "add deployment: used");
        fe_enter(v, d, &rings, FE_NONE);
        *generation = fe_deployment_fill(v, i, name, length, settings);
        fe_leave(v, d, &rings);
        result = i;
        break;
    }
    fe_unlock(&v->header->control);
    return result;
}

static void fe_deployment_configure(const fe_view *v, fe_deployment *d, uint64_t settings) {
    fe_rings rings;
    fe_enter(v, d, &rings, FE_NONE);
    put32(&d->ceiling, fe_greater(d->ceiling, fe_ceiling((uint32_t)settings)), "configure: ceiling");
    put64(&d->settings, settings, "configure: settings");
    fe_grant_free(v, d, &rings, fe_account(d));
    fe_leave(v, d, &rings);
}

static void fe_deployment_close(const fe_view *v, fe_deployment *d) {
    fe_rings rings;
    fe_enter(v, d, &rings, FE_NONE);
    if (fe_deployment_state(d->word) == FE_DEPLOYMENT_ACTIVE) {
        put64(&d->word, fe_deployment_word(FE_DEPLOYMENT_REMOVING, fe_deployment_generation(d->word)),
              "remove deployment: word");
        fe_recount(v, d, &rings);
    }
    fe_leave(v, d, &rings);
}

static void fe_replica_fill(const fe_view *v, fe_deployment *d, uint32_t i, const uint8_t *sockaddr, uint32_t length) {
    fe_replica *r = &v->replicas[i];
    if (i >= v->header->replicas_used) put32(&v->header->replicas_used, i + 1, "add replica: used");
    memcpy(v->addresses[i].sockaddr, sockaddr, length);
    put32(&v->addresses[i].length, length, "add replica: address");
    put32(&r->failures, 0, "add replica: failures");
    put32(&r->in_flight, 0, "add replica: in_flight");
    put64(&r->word, fe_replica_word(FE_REPLICA_STARTING, fe_index_of(v, d), fe_replica_incarnation(r->word) + 1),
          "add replica: word");
    fe_member_add(v, d, i);
}

/* The index of the new replica; -1 when all records are in use, -2 when the deployment is not active. */
static int64_t fe_replica_open(const fe_view *v, fe_deployment *d, const uint8_t *sockaddr, uint32_t length,
                               uint32_t state) {
    uint32_t i = 0;
    int64_t result = -2;
    fe_rings rings;
    fe_control_enter(v);
    while (i < v->header->replicas && fe_replica_state(get64(&v->replicas[i].word)) != FE_REPLICA_FREE) i++;
    fe_enter(v, d, &rings, FE_NONE);
    if (fe_deployment_state(d->word) == FE_DEPLOYMENT_ACTIVE) {
        result = i < v->header->replicas ? (int64_t)i : -1;
        if (result >= 0) {
            fe_replica_fill(v, d, i, sockaddr, length);
            fe_set_state(v, d, &rings, i, state);
        }
    }
    fe_leave(v, d, &rings);
    fe_unlock(&v->header->control);
    return result;
}

/* Locks the deployment that a replica belongs to; NULL when it belongs to none. */
static fe_deployment *fe_enter_of(const fe_view *v, uint32_t replica, fe_rings *rings, uint32_t caller) {
    for (;;) {
        uint64_t word = get64(&v->replicas[replica].word);
        if (fe_replica_state(word) == FE_REPLICA_FREE) return NULL;
        fe_deployment *d = &v->deployments[fe_replica_deployment(word)];
        fe_enter(v, d, rings, caller);
        if (fe_belongs(v, d, replica)) return d;
        fe_leave(v, d, rings);
    }
}

/* `expect` -1: any state but REMOVING, from which there is no way back. */
static int fe_replica_change(const fe_view *v, uint32_t replica, uint32_t state, int64_t expect) {
    fe_rings rings;
    fe_deployment *d = fe_enter_of(v, replica, &rings, FE_NONE);
    if (d == NULL) return 0;
    uint32_t now = fe_replica_state(v->replicas[replica].word);
    int allowed = now != FE_REPLICA_REMOVING && (expect == -1 || expect == now);
    if (allowed) fe_set_state(v, d, &rings, replica, state);
    fe_leave(v, d, &rings);
    return allowed;
}

/* A failed exchange of `caller`; true when it was the one that set the replica aside. */
static int fe_replica_fail(const fe_view *v, uint32_t replica, uint32_t incarnation, uint32_t threshold,
                           uint32_t caller) {
    fe_rings rings;
    int ejected = 0;
    fe_replica *r = &v->replicas[replica];
    fe_deployment *d = fe_enter_of(v, replica, &rings, caller);
    if (d == NULL) return 0;
    if (fe_replica_incarnation(r->word) == incarnation) {
        put32(&r->failures, r->failures + 1, "failed: count");
        ejected = threshold != 0 && r->failures >= threshold && fe_replica_state(r->word) == FE_REPLICA_READY;
    }
    if (ejected) {
        fe_set_state(v, d, &rings, replica, FE_REPLICA_EJECTED);
        rings.control = 1;
    }
    fe_leave(v, d, &rings);
    return ejected;
}

static void fe_ring_everyone(const fe_view *v) {
    for (uint32_t i = 0; i < v->header->holders; i++) fe_ring((int32_t)get32((uint32_t *)&v->holders[i].eventfd));
}

/* After a controller's death: as fe_recover, for a process that held no slots. */
static void fe_repair(const fe_view *v) {
    fe_control_enter(v);
    fe_unlock(&v->header->control);
    fe_recount_all(v);
    fe_ring_everyone(v);
}

/* Into the region that is not being read, and last the version that names it. */
static uint64_t fe_publish(const fe_view *v, const uint8_t *data, uint64_t length) {
    fe_control_enter(v);
    uint64_t version = v->header->config_version + 1;
    memcpy(v->config + (version & 1) * v->header->config_bytes, data, length);
    FE_POINT("publish: bytes");
    put64(&v->header->config_length[version & 1], length, "publish: length");
    put64(&v->header->config_version, version, "publish: version");
    fe_unlock(&v->header->control);
    fe_ring_everyone(v);
    return version;
}

/* A reader that was overtaken, even by a publisher that has only begun, reads again. */
static uint64_t fe_snapshot(const fe_view *v, uint8_t *to, uint64_t *length) {
    for (;;) {
        uint64_t version = get64(&v->header->config_version), bytes = get64(&v->header->config_length[version & 1]);
        *length = bytes < v->header->config_bytes ? bytes : v->header->config_bytes;
        memcpy(to, v->config + (version & 1) * v->header->config_bytes, *length);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (get64(&v->header->config_version) == version) return version;
    }
}

#endif
