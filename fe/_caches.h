/* The lease table's caches: a deployment's queue, its members and its replicas by load.
 *
 * Owns: the links among slots and replicas and the counts beside them; each function is O(1) unless it says otherwise.
 * Never: stores a truth (no slot word, no replica word), takes the lock (the caller holds it), rings anyone.
 * All of it can be thrown away and rebuilt from truths: the last section does that, for the recount in fe/_core.pyx.
 */
#ifndef FE_CACHES_H
#define FE_CACHES_H

#include "_layout.h"

/* ---- Queue: waiting slots in the order of seq -------------------------------------------------------------------- */

/* Links slot `i` behind `before` (FE_NONE: at the front). */
static void fe_queue_link(const fe_view *v, fe_deployment *d, uint32_t i, uint32_t before) {
    uint32_t after = before == FE_NONE ? d->queue_head : v->slots[before].next;
    put32(&v->slots[i].prev, before, "queue link: prev");
    put32(&v->slots[i].next, after, "queue link: next");
    put32(before == FE_NONE ? &d->queue_head : &v->slots[before].next, i, "queue link: from the front");
    put32(after == FE_NONE ? &d->queue_tail : &v->slots[after].prev, i, "queue link: from the back");
    put32(&d->queue_length, d->queue_length + 1, "queue link: length");
}

static inline void fe_queue_append(const fe_view *v, fe_deployment *d, uint32_t i) {
    fe_queue_link(v, d, i, d->queue_tail);
}

/* Puts slot `i` where its seq belongs: O(how many are ahead of it). A retried request was early, so few are. */
static void fe_queue_insert(const fe_view *v, fe_deployment *d, uint32_t i) {
    uint32_t before = FE_NONE, next = d->queue_head;
    while (next != FE_NONE && v->slots[next].seq < v->slots[i].seq) {
        before = next;
        next = v->slots[next].next;
    }
    fe_queue_link(v, d, i, before);
}

static void fe_queue_unlink(const fe_view *v, fe_deployment *d, uint32_t i) {
    uint32_t next = v->slots[i].next, prev = v->slots[i].prev;
    put32(prev == FE_NONE ? &d->queue_head : &v->slots[prev].next, next, "queue unlink: from the front");
    put32(next == FE_NONE ? &d->queue_tail : &v->slots[next].prev, prev, "queue unlink: from the back");
    put32(&d->queue_length, d->queue_length - 1, "queue unlink: length");
}

/* ---- Levels: READY replicas by load ------------------------------------------------------------------------------ */

static void fe_node_release(const fe_view *v, fe_deployment *d, uint32_t node) {
    fe_replica *n = &v->replicas[node];
    put32(&n->node_head, FE_NONE, "node free: head");
    put32(&n->node_prev, FE_NONE, "node free: prev");
    put32(&n->node_next, d->node_free, "node free: next");
    if (d->node_free != FE_NONE) put32(&v->replicas[d->node_free].node_prev, node, "node free: link back");
    put32(&d->node_free, node, "node free: first");
}

/* A node for `load` behind the level `before` (FE_NONE: the lowest). There is always one: see fe_replica. */
static uint32_t fe_level_open(const fe_view *v, fe_deployment *d, uint32_t before, uint32_t load) {
    uint32_t node = d->node_free;
    fe_replica *n = &v->replicas[node];
    put32(&d->node_free, n->node_next, "level open: taken");
    if (d->node_free != FE_NONE) put32(&v->replicas[d->node_free].node_prev, FE_NONE, "level open: first free");
    uint32_t after = before == FE_NONE ? d->level_head : v->replicas[before].node_next;
    put32(&n->node_load, load, "level open: load");
    put32(&n->node_prev, before, "level open: prev");
    put32(&n->node_next, after, "level open: next");
    put32(before == FE_NONE ? &d->level_head : &v->replicas[before].node_next, node, "level open: from below");
    if (after != FE_NONE) put32(&v->replicas[after].node_prev, node, "level open: from above");
    return node;
}

static void fe_level_close(const fe_view *v, fe_deployment *d, uint32_t node) {
    uint32_t next = v->replicas[node].node_next, prev = v->replicas[node].node_prev;
    put32(prev == FE_NONE ? &d->level_head : &v->replicas[prev].node_next, next, "level close: from below");
    if (next != FE_NONE) put32(&v->replicas[next].node_prev, prev, "level close: from above");
    fe_node_release(v, d, node);
}

/* Replica `i` goes to the tail of a level; an empty one (not yet in use) has FE_NONE for its head. */
static inline void fe_level_append(const fe_view *v, uint32_t node, uint32_t i) {
    fe_replica *n = &v->replicas[node], *r = &v->replicas[i];
    uint32_t tail = n->node_head == FE_NONE ? FE_NONE : n->node_tail;
    put32(&r->level, node, "level append: level");
    put32(&r->prev, tail, "level append: prev");
    put32(&r->next, FE_NONE, "level append: next");
    put32(tail == FE_NONE ? &n->node_head : &v->replicas[tail].next, i, "level append: link");
    put32(&n->node_tail, i, "level append: tail");
}

static inline void fe_level_unlink(const fe_view *v, uint32_t i) {
    fe_replica *r = &v->replicas[i], *n = &v->replicas[r->level];
    uint32_t next = r->next, prev = r->prev;
    /* Thousands of replicas, in the order of their last releases, miss the nearest cache one after the other: while the
     * first is taken, the third is fetched. */
    uint32_t third = prev == FE_NONE && next != FE_NONE ? v->replicas[next].next : FE_NONE;
    if (third != FE_NONE) __builtin_prefetch(&v->replicas[third], 1);
    put32(prev == FE_NONE ? &n->node_head : &v->replicas[prev].next, next, "level unlink: from the front");
    put32(next == FE_NONE ? &n->node_tail : &v->replicas[next].prev, prev, "level unlink: from the back");
    put32(&r->level, FE_NONE, "level unlink: level");
}

/* A READY replica whose load went up or down by one. */
static void fe_level_shift(const fe_view *v, fe_deployment *d, uint32_t i, uint32_t load) {
    uint32_t node = v->replicas[i].level;
    fe_replica *n = &v->replicas[node];
    int up = load > n->node_load;
    uint32_t near = up ? n->node_next : n->node_prev;
    fe_level_unlink(v, i);
    int empty = n->node_head == FE_NONE;
    if (near != FE_NONE && v->replicas[near].node_load == load) {
        fe_level_append(v, near, i);
        if (empty) fe_level_close(v, d, node);
    } else if (empty) {
        put32(&n->node_load, load, "level shift: load");
        fe_level_append(v, node, i);
    } else {
        fe_level_append(v, fe_level_open(v, d, up ? node : n->node_prev, load), i);
    }
}

/* The first replica of the lowest level if it may take one more, else FE_NONE. */
static inline uint32_t fe_least_loaded(const fe_view *v, const fe_deployment *d) {
    if (d->level_head == FE_NONE) return FE_NONE;
    const fe_replica *n = &v->replicas[d->level_head];
    uint32_t capacity = fe_capacity(d);
    return capacity == 0 || n->node_load < capacity ? n->node_head : FE_NONE;
}

/* ---- Replicas ---------------------------------------------------------------------------------------------------- */

/* A replica has become READY: O(levels). */
static void fe_replica_enter(const fe_view *v, fe_deployment *d, uint32_t i) {
    uint32_t before = FE_NONE, node = d->level_head, load = v->replicas[i].in_flight;
    while (node != FE_NONE && v->replicas[node].node_load < load) {
        before = node;
        node = v->replicas[node].node_next;
    }
    if (node == FE_NONE || v->replicas[node].node_load != load) node = fe_level_open(v, d, before, load);
    fe_level_append(v, node, i);
    put32(&d->ready, d->ready + 1, "ready: more");
}

/* A replica is no longer READY. */
static void fe_replica_leave(const fe_view *v, fe_deployment *d, uint32_t i) {
    uint32_t node = v->replicas[i].level;
    fe_level_unlink(v, i);
    if (v->replicas[node].node_head == FE_NONE) fe_level_close(v, d, node);
    put32(&d->ready, d->ready - 1, "ready: fewer");
}

static void fe_replica_up(const fe_view *v, fe_deployment *d, uint32_t i) {
    fe_replica *r = &v->replicas[i];
    put32(&d->in_flight, d->in_flight + 1, "in_flight: deployment up");
    put32(&r->in_flight, r->in_flight + 1, "in_flight: replica up");
    if (r->level != FE_NONE) fe_level_shift(v, d, i, r->in_flight);
}

static void fe_replica_down(const fe_view *v, fe_deployment *d, uint32_t i) {
    fe_replica *r = &v->replicas[i];
    put32(&d->in_flight, d->in_flight - 1, "in_flight: deployment down");
    put32(&r->in_flight, r->in_flight - 1, "in_flight: replica down");
    if (r->level != FE_NONE) fe_level_shift(v, d, i, r->in_flight);
}

/* ---- Members: every replica of a deployment, with the node it brings ---------------------------------------------- */

static void fe_member_add(const fe_view *v, fe_deployment *d, uint32_t i) {
    fe_replica *r = &v->replicas[i];
    put32(&r->level, FE_NONE, "member add: level");
    put32(&r->member_prev, FE_NONE, "member add: prev");
    put32(&r->member_next, d->member_head, "member add: next");
    if (d->member_head != FE_NONE) put32(&v->replicas[d->member_head].member_prev, i, "member add: link back");
    put32(&d->member_head, i, "member add: first");
    put32(&d->replicas, d->replicas + 1, "member add: count");
    fe_node_release(v, d, i);
}

/* The node of a leaving replica may be in use by others: they move to a free one, O(replicas in that level). */
static void fe_node_retire(const fe_view *v, fe_deployment *d, uint32_t i) {
    fe_replica *n = &v->replicas[i];
    if (n->node_head == FE_NONE) {
        uint32_t next = n->node_next, prev = n->node_prev;
        put32(prev == FE_NONE ? &d->node_free : &v->replicas[prev].node_next, next, "node retire: from the front");
        if (next != FE_NONE) put32(&v->replicas[next].node_prev, prev, "node retire: from the back");
        return;
    }
    uint32_t other = fe_level_open(v, d, i, n->node_load), head = n->node_head, tail = n->node_tail;
    for (uint32_t r = head; r != FE_NONE; r = v->replicas[r].next)
        put32(&v->replicas[r].level, other, "node retire: level");
    put32(&v->replicas[other].node_head, head, "node retire: head");
    put32(&v->replicas[other].node_tail, tail, "node retire: tail");
    uint32_t next = n->node_next, prev = n->node_prev;
    put32(prev == FE_NONE ? &d->level_head : &v->replicas[prev].node_next, next, "node retire: from below");
    put32(&v->replicas[next].node_prev, prev, "node retire: from above");
    put32(&n->node_head, FE_NONE, "node retire: empty");
}

/* Before its word says FREE: from then on another deployment may use the record. It is not READY any more. */
static void fe_member_remove(const fe_view *v, fe_deployment *d, uint32_t i) {
    fe_replica *r = &v->replicas[i];
    uint32_t next = r->member_next, prev = r->member_prev;
    fe_node_retire(v, d, i);
    put32(prev == FE_NONE ? &d->member_head : &v->replicas[prev].member_next, next, "member remove: from the front");
    if (next != FE_NONE) put32(&v->replicas[next].member_prev, prev, "member remove: from the back");
    put32(&d->replicas, d->replicas - 1, "member remove: count");
}

/* ---- Rebuilding all of it ---------------------------------------------------------------------------------------- */

static void fe_caches_forget(fe_deployment *d) {
    put32(&d->queue_head, FE_NONE, "forget: queue head");
    put32(&d->queue_tail, FE_NONE, "forget: queue tail");
    put32(&d->queue_length, 0, "forget: queue length");
    put32(&d->replicas, 0, "forget: replicas");
    put32(&d->ready, 0, "forget: ready");
    put32(&d->level_head, FE_NONE, "forget: levels");
    put32(&d->node_free, FE_NONE, "forget: nodes");
    put32(&d->member_head, FE_NONE, "forget: members");
}

/* A list to be sorted: waiting slots by seq, or replicas by in_flight, linked by `next` alone. */
typedef enum { FE_BY_SEQ, FE_BY_LOAD } fe_order;

static inline uint64_t fe_key(const fe_view *v, fe_order order, uint32_t i) {
    return order == FE_BY_SEQ ? v->slots[i].seq : v->replicas[i].in_flight;
}
static inline uint32_t *fe_next(const fe_view *v, fe_order order, uint32_t i) {
    return order == FE_BY_SEQ ? &v->slots[i].next : &v->replicas[i].next;
}

/* Merges the runs at `a` (`a_left` long) and `b` (`b_left`) behind `tail`; returns the last element. *rest: what follows. */
static uint32_t fe_merge(const fe_view *v, fe_order order, uint32_t *head, uint32_t tail, uint32_t a, uint64_t a_left,
                         uint32_t b, uint64_t b_left, uint32_t *rest) {
    while (a_left > 0 || (b_left > 0 && b != FE_NONE)) {
        int take_a = a_left > 0 && (b_left == 0 || b == FE_NONE || fe_key(v, order, a) <= fe_key(v, order, b));
        uint32_t i = take_a ? a : b;
        uint32_t next = *fe_next(v, order, i);
        if (take_a) { a = next; a_left--; } else { b = next; b_left--; }
        if (tail == FE_NONE) *head = i;
        else put32(fe_next(v, order, tail), i, "sort: link");
        tail = i;
    }
    *rest = b;
    return tail;
}

/* Sorts in place, bottom up, O(n log n), stable, no memory: returns the new head. */
static uint32_t fe_sort(const fe_view *v, fe_order order, uint32_t head) {
    for (uint64_t run = 1, merges = 2; merges > 1 && head != FE_NONE; run *= 2) {
        uint32_t a = head, tail = FE_NONE;
        for (merges = 0; a != FE_NONE; merges++) {
            uint32_t b = a;
            uint64_t a_left = 0;
            for (; a_left < run && b != FE_NONE; a_left++) b = *fe_next(v, order, b);
            tail = fe_merge(v, order, &head, tail, a, a_left, b, run, &a);
        }
        put32(fe_next(v, order, tail), FE_NONE, "sort: end");
    }
    return head;
}

/* `waiting`: the deployment's WAITING slots, linked by next in any order. */
static void fe_queue_rebuild(const fe_view *v, fe_deployment *d, uint32_t waiting) {
    uint32_t i = fe_sort(v, FE_BY_SEQ, waiting);
    while (i != FE_NONE) {
        uint32_t next = v->slots[i].next;
        fe_queue_append(v, d, i);
        i = next;
    }
}

/* `ready`: the deployment's READY replicas, members already, linked by next in any order. */
static void fe_levels_rebuild(const fe_view *v, fe_deployment *d, uint32_t ready) {
    uint32_t i = fe_sort(v, FE_BY_LOAD, ready), node = FE_NONE;
    while (i != FE_NONE) {
        uint32_t next = v->replicas[i].next;
        if (node == FE_NONE || v->replicas[node].node_load != v->replicas[i].in_flight)
            node = fe_level_open(v, d, node, v->replicas[i].in_flight);
        fe_level_append(v, node, i);
        put32(&d->ready, d->ready + 1, "rebuild: ready");
        i = next;
    }
}

#endif
