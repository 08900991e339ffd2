/* The lease table's protocol as fe/_core.pyx runs it: slots, queue, hand-over, mailboxes, and kill -9 at every shared store.
 *
 * Owns: what a death, a race or a capacity change may do to slots, queue order and wake-ups. Never: the shapes of the lists
 * by load, deadlines as times, generations (lifetime.pml), words of the mailbox (mailbox.pml), the snapshot (publish.pml).
 * Sizes and features come as -D from run.py, mutants as -DMUTANT_<NAME>; README.md says what is modelled and what is not.
 *
 * Truth: st, at, seq, cap, ready.  Caches: load, head, tail, nxt.  Idempotent marks: bits, summary, ring.
 * STEP(...) is one shared store: the process may be killed instead of doing it. Everything between two STEPs is private.
 */
#ifndef HOLDERS
#define HOLDERS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef DEPLOYMENTS
#define DEPLOYMENTS 1
#endif
#ifndef REPLICAS
#define REPLICAS DEPLOYMENTS
#endif
#ifndef CAP
#define CAP 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef ROUNDS            /* requests one holder makes */
#define ROUNDS 2
#endif
#ifndef CANCELS           /* waiters that lose patience, in all */
#define CANCELS 0
#endif
#ifndef EXPIRIES          /* waiters whose deadline the grant loop finds passed, in all */
#define EXPIRIES 0
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef FIRST_CAP
#define FIRST_CAP (CAP + 1)
#define SECOND_CAP CAP
#endif
#ifndef PHASES            /* steps of the controller: capacity or drain, see controller() */
#define PHASES 0
#endif

#define N (HOLDERS * SLOTS)
#define NONE 255
#define CTL HOLDERS
#define SUP (HOLDERS + 1)
#define OF(s) ((s) / SLOTS)
#define DEP(s) ((s) % DEPLOYMENTS)     /* slot k of every holder asks deployment k mod DEPLOYMENTS */
#define RDEP(r) ((r) % DEPLOYMENTS)

mtype = { FREE, WAITING, GRANTED, HELD, EXPIRED };
mtype st[N] = FREE;
byte at[N];
byte seq[N];
byte nextseq[DEPLOYMENTS] = 1;
byte cap[DEPLOYMENTS] = CAP;
bool ready[REPLICAS] = true;

byte load[REPLICAS];
byte head[DEPLOYMENTS] = NONE;
byte tail[DEPLOYMENTS] = NONE;
byte nxt[N] = NONE;

bool bits[N];
bool summary[HOLDERS];
bool ring[HOLDERS];

byte owner[DEPLOYMENTS] = NONE;
bool torn[DEPLOYMENTS];                /* the lock's last owner died inside: EOWNERDEAD for the next */

/* the processes themselves */
bool alive[HOLDERS] = true;
bool working[HOLDERS];                 /* in the middle of an operation */
bool finished[HOLDERS];
bool deferred[HOLDERS];                /* an operation is over, but its own marks are not collected yet: no sleep before */
bool controller_dead, controller_working;
byte crashes, cancels, expiries, retries, phase;

#define LOCALS byte x, p, r, n, i, q, d; bit after = AFTER_OPERATION; bool toring[HOLDERS]

/* --- Ghosts: looked at in one step, never part of the protocol ------------------------------------------------------- */

inline truth(rep) {
  n = 0; i = 0;
  do :: i < N -> if :: (st[i] == GRANTED || st[i] == HELD) && at[i] == rep -> n++ :: else fi; i++ :: else -> break od;
  i = 0
}

/* a lease was just given to slot s under the lock: there was room, the replica was ready, nobody who came earlier waits */
inline justified(s) {
  truth(at[s]);
  assert(n <= cap[DEP(s)]);
  assert(ready[at[s]]);
  n = 0;
  do :: i < N -> assert(st[i] != WAITING || DEP(i) != DEP(s) || seq[i] > seq[s]); i++ :: else -> break od;
  i = 0
}

/* nobody is in the middle of anything and no bell is ringing: the caches are true, nobody waits in vain */
inline quiet() {
  q = 1; i = 0;
  do :: i < HOLDERS -> if :: !alive[i] || working[i] || deferred[i] || (ring[i] && !finished[i]) -> q = 0 :: else fi; i++ :: else -> break od;
  if :: controller_dead || controller_working -> q = 0 :: else fi;
  if
  :: q == 1 ->
     i = 0; do :: i < HOLDERS -> assert(!summary[i] || finished[i]); i++ :: else -> break od;
     i = 0; do :: i < N -> assert(st[i] != GRANTED && st[i] != EXPIRED); i++ :: else -> break od;
     p = 0;
     do
     :: p < DEPLOYMENTS -> assert(owner[p] == NONE && !torn[p]); p++
     :: else -> break
     od;
     p = 0;
     do
     :: p < REPLICAS ->
        truth(p); assert(load[p] == n);
        if :: ready[p] && n < cap[RDEP(p)] -> i = 0; do :: i < N -> assert(st[i] != WAITING || DEP(i) != RDEP(p)); i++ :: else -> break od :: else fi;
        p++
     :: else -> break
     od;
     p = 0;
     do  /* the list holds every waiter, in the order of their numbers */
     :: p < DEPLOYMENTS ->
        q = 0; i = head[p]; n = 0;
        do :: i != NONE -> assert(st[i] == WAITING && DEP(i) == p && seq[i] > n); n = seq[i]; q++; i = nxt[i] :: else -> break od;
        i = 0; do :: i < N -> if :: st[i] == WAITING && DEP(i) == p -> q-- :: else fi; i++ :: else -> break od;
        assert(q == 0);
        p++
     :: else -> break
     od
  :: else
  fi;
  p = 0; q = 0; n = 0; i = 0
}

/* --- Death ------------------------------------------------------------------------------------------------------------ */

/* The kernel hands the locks of the dead on; a little later than the death itself. */
inline release_locks(who) {
  i = 0;
  do :: i < DEPLOYMENTS -> if :: owner[i] == who -> owner[i] = NONE; torn[i] = true :: else fi; i++ :: else -> break od;
  i = 0
}
#define STEP(...) atomic { if :: crashes < CRASHES && MORTAL(me) -> crashes++; goto dead :: true fi; __VA_ARGS__ }
#define MORTAL(who) ((who) < HOLDERS || (who) == CTL || RECOVERY_DIES)
#ifndef RECOVERY_DIES
#define RECOVERY_DIES 0
#endif

/* --- Under the lock ----------------------------------------------------------------------------------------------------- */

inline pick() {   /* r: a ready replica of d with room */
  r = NONE; i = 0;
  do :: i < REPLICAS -> if :: r == NONE && RDEP(i) == d && ready[i] && load[i] < cap[d] -> r = i :: else fi; i++ :: else -> break od;
  i = 0
}

#ifdef MUTANT_RING_BEFORE_MARK
#define MARK(s) STEP(if :: OF(s) != me -> ring[OF(s)] = true :: else fi); STEP(bits[s] = true); STEP(summary[OF(s)] = true)
#elif defined(MUTANT_SUMMARY_BEFORE_BIT)
#define MARK(s) STEP(if :: !summary[OF(s)] -> summary[OF(s)] = true; toring[OF(s)] = true :: else fi); \
  if :: toring[OF(s)] && OF(s) != me -> STEP(ring[OF(s)] = true); toring[OF(s)] = false :: else fi; STEP(bits[s] = true)
#else
#define MARK(s) STEP(bits[s] = true); STEP(if :: !summary[OF(s)] -> summary[OF(s)] = true; toring[OF(s)] = true :: else fi)
#endif

#define APPEND(s) \
  STEP(nxt[s] = NONE); \
  STEP(if :: tail[d] == NONE -> head[d] = s :: else -> nxt[tail[d]] = s fi); \
  STEP(tail[d] = s)

/* before the first waiter with a higher number */
inline successor(s) {
  p = NONE; x = head[d];
  do :: x != NONE && seq[x] < seq[s] -> p = x; x = nxt[x] :: else -> break od
}
#define INSERT(s) \
  d_step { successor(s) }; \
  STEP(nxt[s] = x); \
  STEP(if :: p == NONE -> head[d] = s :: else -> nxt[p] = s fi); \
  STEP(if :: x == NONE -> tail[d] = s :: else fi); \
  p = NONE; x = NONE

inline predecessor(s) { p = NONE; x = head[d]; do :: x != s && x != NONE -> p = x; x = nxt[x] :: else -> break od; assert(x == s); x = NONE }
#define UNLINK(s) \
  d_step { predecessor(s) }; \
  STEP(if :: p == NONE -> head[d] = nxt[s] :: else -> nxt[p] = nxt[s] fi); \
  STEP(if :: tail[d] == s -> tail[d] = p :: else fi); \
  p = NONE

/* Subroutines that end with a jump back, because spin would copy an inline into every place of its use. */
#define AFTER_RECOUNT 0
#define AFTER_OPERATION 1

/* free places go to waiters, oldest first; a waiter whose deadline has passed gets an answer instead */
#define GRANT_SECTION \
grant: \
  do \
  :: head[d] == NONE -> break \
  :: else -> \
     d_step { pick() }; \
     if :: r == NONE -> break :: else fi; \
     x = head[d]; \
     if \
     :: atomic { expiries < EXPIRIES -> expiries++ }; STEP(st[x] = EXPIRED); r = NONE \
     :: STEP(d_step { st[x] = GRANTED; at[x] = r; justified(x) }) \
     fi; \
     STEP(head[d] = nxt[x]); \
     STEP(if :: head[d] == NONE -> tail[d] = NONE :: else fi); \
     if :: r != NONE -> STEP(load[r]++) :: else fi; \
     MARK(x) \
  od; \
  x = NONE; r = NONE; \
  if :: after == AFTER_RECOUNT -> goto granted_in_recount :: else -> goto granted fi

inline rebuild() {   /* the caches of d, from nothing but the truth */
  r = 0;
  do :: r < REPLICAS -> if :: RDEP(r) == d -> truth(r); load[r] = n :: else fi; r++ :: else -> break od;
  head[d] = NONE; tail[d] = NONE; n = 0;
  do
  :: x = NONE; i = 0;
     do :: i < N -> if :: st[i] == WAITING && DEP(i) == d && seq[i] > n && (x == NONE || seq[i] < seq[x]) -> x = i :: else fi; i++ :: else -> break od;
     if
     :: x == NONE -> break
     :: else -> n = seq[x]; nxt[x] = NONE; if :: tail[d] == NONE -> head[d] = x :: else -> nxt[tail[d]] = x fi; tail[d] = x
     fi
  od;
  n = 0; i = 0; x = NONE; r = NONE
}

#ifdef MUTANT_REMARK_ONLY_GRANTED
#define LOST(s) (st[s] == GRANTED)
#elif defined(MUTANT_RECOUNT_REMARKS_NOBODY)
#define LOST(s) false
#else
#define LOST(s) (st[s] == GRANTED || st[s] == EXPIRED)
#endif
#ifdef VARIANT_REMARK_RINGS_ON_EDGE
#define REMARK(s) MARK(s)
#elif defined(MUTANT_REMARK_RINGS_ONLY)
#define REMARK(s) toring[OF(s)] = true
#else
#define REMARK(s) STEP(bits[s] = true); STEP(summary[OF(s)] = true; toring[OF(s)] = true)
#endif

/* the dead may have left any bell unrung: every GRANTED and EXPIRED slot is marked again and its holder rung whatever its summary says */
#ifdef MUTANT_RECOUNT_GRANTS_NOTHING
#define RECOUNT_GRANTS goto granted_in_recount
#else
#define RECOUNT_GRANTS goto grant
#endif
#define RECOUNT_SECTION \
recount: \
  STEP(d_step { head[d] = NONE; tail[d] = NONE; r = 0; do :: r < REPLICAS -> if :: RDEP(r) == d -> load[r] = 0 :: else fi; r++ :: else -> break od; r = NONE }); \
  STEP(d_step { rebuild() }); \
  after = AFTER_RECOUNT; RECOUNT_GRANTS; \
granted_in_recount: \
  after = AFTER_OPERATION; \
  x = 0; \
  do :: x < N && DEP(x) == d && LOST(x) -> REMARK(x); x++ :: x < N && !(DEP(x) == d && LOST(x)) -> x++ :: x >= N -> break od; \
  x = NONE; \
  STEP(torn[d] = false); \
  goto recounted

#define LOCK atomic { owner[d] == NONE -> owner[d] = me }
#ifdef MUTANT_NO_RECOUNT
#define TAKE LOCK; STEP(torn[d] = false); recounted: skip
#else
#define TAKE LOCK; if :: torn[d] -> goto recount :: else fi; recounted: skip
#endif
/* bells after the lock: a wake-up costs microseconds; the caller's own holder is left to collect by itself */
#define UNLOCK \
  STEP(owner[d] = NONE); \
  x = 0; \
  do :: x < HOLDERS && toring[x] && x != me -> STEP(ring[x] = true; toring[x] = false; x++) \
     :: x < HOLDERS && !(toring[x] && x != me) -> toring[x] = false; x++ \
     :: x >= HOLDERS -> break od; \
  x = NONE

#define FREE_SLOTS \
  n = 0; x = 0; \
  do \
  :: x < N && OF(x) == w && DEP(x) == d && st[x] != FREE -> n = 1; STEP(st[x] = FREE); x++ \
  :: x < N && !(OF(x) == w && DEP(x) == d && st[x] != FREE) -> x++ \
  :: x >= N -> break \
  od; \
  x = NONE

#define FORGET \
  x = NONE; p = NONE; r = NONE; n = 0; q = 0; d = 0; after = AFTER_OPERATION; \
  i = 0; do :: i < HOLDERS -> toring[i] = false; i++ :: else -> break od; i = 0

/* --- A worker: an event loop with SLOTS slots ------------------------------------------------------------------------------- */

#ifdef MUTANT_COLLECT_TRUSTS_THE_MARK
#define OPEN_LETTER(k) STEP(st[k] = HELD); STEP(bits[k] = false)
#else
#ifdef MUTANT_NO_SECOND_LOOK
#define SECOND_LOOK(k) skip
#else
#define SECOND_LOOK(k) OPEN_NEWS(k)
#endif
#define OPEN_NEWS(k) \
  if :: st[k] == GRANTED -> STEP(st[k] = HELD); STEP(bits[k] = false) :: st[k] == EXPIRED -> STEP(st[k] = FREE); STEP(bits[k] = false) :: else fi
/* a mark without news goes before a second look: a grant in between is seen by it or has marked again */
#define OPEN_LETTER(k) \
  if :: st[k] != GRANTED && st[k] != EXPIRED -> STEP(bits[k] = false); SECOND_LOOK(k) :: else -> OPEN_NEWS(k) fi
#endif
#define COLLECT_BITS \
  s = me * SLOTS; \
  do :: s < (me + 1) * SLOTS && bits[s] -> OPEN_LETTER(s); s++ :: s < (me + 1) * SLOTS && !bits[s] -> s++ :: s >= (me + 1) * SLOTS -> break od; \
  s = NONE
#ifdef MUTANT_BITS_BEFORE_SUMMARY
#define COLLECT COLLECT_BITS; STEP(summary[me] = false)
#else
#define COLLECT STEP(summary[me] = false); COLLECT_BITS
#endif

inline free_slot() {   /* s: the first free one of mine */
  s = NONE; i = me * SLOTS;
  do :: i < (me + 1) * SLOTS -> if :: s == NONE && st[i] == FREE -> s = i :: else fi; i++ :: else -> break od;
  i = 0
}
#if SLOTS == 1
#define SOME_FREE (st[me] == FREE)
#define ALL_FREE (st[me] == FREE)
#else
#define SOME_FREE (st[me * 2] == FREE || st[me * 2 + 1] == FREE)
#define ALL_FREE (st[me * 2] == FREE && st[me * 2 + 1] == FREE)
#endif

#define BEGIN(what, slot) op = what; s = slot; d = DEP(s); working[me] = true
#define HELD_OPERATIONS(k) \
  :: atomic { st[k] == HELD -> BEGIN(RELEASE, k) }; goto locked \
  :: atomic { st[k] == HELD && retries < RETRIES -> retries++; BEGIN(RETRY, k) }; goto locked \
  :: atomic { st[k] == WAITING && cancels < CANCELS -> cancels++; BEGIN(CANCEL, k) }; goto locked

mtype = { ACQUIRE, RELEASE, RETRY, CANCEL, WAKE };

proctype worker(byte me) {
  LOCALS;
  byte s = NONE;
  byte round = 0;
  mtype op;
loop:
  do
  :: atomic { round < ROUNDS && SOME_FREE -> round++; d_step { free_slot() }; BEGIN(ACQUIRE, s) }; goto locked
  HELD_OPERATIONS(me * SLOTS)
#if SLOTS > 1
  HELD_OPERATIONS(me * SLOTS + 1)
#endif
  :: atomic { ring[me] -> op = WAKE; working[me] = true };
#ifndef MUTANT_BELL_READ_LAST
     STEP(ring[me] = false);
#endif
     goto collect
#ifdef DEFER
  :: atomic { deferred[me] -> working[me] = true }; goto collect
#endif
  :: atomic { round == ROUNDS && ALL_FREE && !deferred[me] -> finished[me] = true; d_step { quiet() } }; goto over
  :: atomic { crashes < CRASHES -> crashes++ }; goto dead
  od;

locked:
  if :: op == CANCEL && st[s] != WAITING -> goto answered :: else fi;
  TAKE;
  if
  :: op == ACQUIRE ->
     STEP(nextseq[d]++);
#ifndef MUTANT_SEQ_AFTER_STATE
     STEP(seq[s] = nextseq[d]);
#endif
     d_step { pick() };
     if
#ifdef VARIANT_QUEUE_NOT_LOOKED_AT
     :: r != NONE ->
#else
     :: r != NONE && head[d] == NONE ->
#endif
        STEP(d_step { at[s] = r; st[s] = HELD; justified(s) });
        STEP(load[r]++)
     :: else ->
        STEP(st[s] = WAITING);
#ifdef MUTANT_SEQ_AFTER_STATE
        STEP(seq[s] = nextseq[d]);
#endif
        APPEND(s)
     fi;
     r = NONE;
     goto granted
  :: op == RELEASE ->
     r = at[s];
#if !defined(MUTANT_GRANT_BEFORE_FREE) && !defined(VARIANT_CACHE_BEFORE_TRUTH)
     STEP(st[s] = FREE);
#endif
     STEP(load[r]--);
#ifdef VARIANT_CACHE_BEFORE_TRUTH
     STEP(st[s] = FREE);
#endif
     r = NONE;
#ifdef MUTANT_RELEASE_WITHOUT_HANDOVER
     goto granted
#else
     goto grant
#endif
  :: op == CANCEL ->
#ifdef MUTANT_CANCEL_BLIND
     d_step { p = NONE; x = head[d]; do :: x != s && x != NONE -> p = x; x = nxt[x] :: else -> break od };
     if :: x == s -> x = NONE; UNLINK(s) :: else -> x = NONE; p = NONE fi;
     STEP(st[s] = FREE);
#else
     if :: st[s] == WAITING -> STEP(st[s] = FREE); UNLINK(s) :: else fi;
#endif
     goto granted
  :: op == RETRY ->    /* the place goes back, the number stays */
     r = at[s];
     STEP(st[s] = WAITING);
     STEP(load[r]--);
     r = NONE;
#ifdef MUTANT_RETRY_AT_THE_TAIL
     APPEND(s);
#else
     INSERT(s);
#endif
     goto grant
  fi;
  RECOUNT_SECTION;
  GRANT_SECTION;
granted:
#ifdef MUTANT_GRANT_BEFORE_FREE
  if :: op == RELEASE -> STEP(st[s] = FREE) :: else fi;
#endif
  if :: op == RETRY && st[s] == GRANTED -> STEP(st[s] = HELD) :: else fi;
  UNLOCK;
answered:  /* a cancel that came too late: the place, or the answer, is taken up without the lock */
  if :: op == CANCEL && st[s] == GRANTED -> STEP(st[s] = HELD) :: op == CANCEL && st[s] == EXPIRED -> STEP(st[s] = FREE) :: else fi;
  s = NONE;
#ifdef DEFER
  if :: d_step { op != WAKE && !deferred[me] -> deferred[me] = true; working[me] = false }; goto loop :: true fi;
#endif

collect:   /* until nothing is marked, also by the operation just done: nobody rings its own holder */
  do
#ifdef MUTANT_OWN_MARKS_LEFT
  :: summary[me] && op == WAKE -> COLLECT
  :: d_step { !summary[me] || op != WAKE -> deferred[me] = false; working[me] = false; quiet() } break
#elif defined(MUTANT_BELL_READ_LAST)
  :: summary[me] -> COLLECT
  :: !summary[me] -> STEP(if :: op == WAKE -> ring[me] = false :: else fi; d_step { deferred[me] = false; working[me] = false; quiet() }); break
#else
  :: summary[me] -> COLLECT
  :: d_step { !summary[me] -> deferred[me] = false; working[me] = false; quiet() } break
#endif
  od;
  goto loop;

dead:     /* kill -9: nothing private survives; a new process claims the holder once it is recovered */
  skip;
  d_step { release_locks(me); FORGET; s = NONE; op = 0; alive[me] = false; working[me] = false; deferred[me] = false };
  alive[me];
#ifndef MUTANT_CLAIM_KEEPS_SUMMARY
  d_step { summary[me] = false; ring[me] = false; i = 0; do :: i < SLOTS -> bits[me * SLOTS + i] = false; i++ :: else -> break od; i = 0 };
#endif
  d_step { working[me] = false; quiet() };
  goto loop;
over:
  skip
}

/* --- The controller: states a target, again after a death -------------------------------------------------------------------- */

proctype controller() {
  LOCALS;
  byte me = CTL;
again:
  if
  :: atomic { phase < PHASES -> controller_working = true }
  :: phase == PHASES -> goto over
  fi;
  TAKE;
  if
#ifdef DRAIN
  :: phase % 2 == 0 -> STEP(ready[0] = false)
  :: phase % 2 == 1 -> STEP(ready[0] = true)
#else
  :: phase % 2 == 0 -> STEP(cap[0] = FIRST_CAP)
  :: phase % 2 == 1 -> STEP(cap[0] = SECOND_CAP)
#endif
  fi;
#ifdef MUTANT_CONTROLLER_GRANTS_NOTHING
  goto granted;
#else
  goto grant;
#endif
  RECOUNT_SECTION;
  GRANT_SECTION;
granted:
  UNLOCK;
  STEP(d_step { phase++; controller_working = false; quiet() });
  goto again;
dead:
  skip;
  d_step { release_locks(me); FORGET; controller_working = false; controller_dead = true };
  !controller_dead;
  goto again;
over:
  skip
}

/* --- The supervisor: what waitpid tells it ------------------------------------------------------------------------------------ */

proctype supervisor() {
  LOCALS;
  byte me = SUP;
  byte w = NONE;
end:
  do
  :: atomic { !alive[0] -> w = 0; break }
#if HOLDERS > 1
  :: atomic { !alive[1] -> w = 1; break }
#endif
#if HOLDERS > 2
  :: atomic { !alive[2] -> w = 2; break }
#endif
  :: atomic { controller_dead -> w = CTL; break }
  od;
recover:
  d = 0;
#ifdef MUTANT_CONTROLLER_NOT_RECOVERED
  if :: w == CTL -> goto all_recounted :: else fi;
#endif
next:
#ifdef MUTANT_RECOVER_FREES_UNLOCKED
  FREE_SLOTS;
  LOCK;
#else
  LOCK;
  FREE_SLOTS;
#endif
#ifdef VARIANT_RECOVER_WITHOUT_REMARK
  if :: torn[d] -> goto recount :: else -> STEP(d_step { rebuild() }); goto grant fi;
#elif defined(VARIANT_RECOVER_ONLY_WHAT_WAS_HELD)
  if :: n > 0 || torn[d] -> n = 0; goto recount :: else -> goto granted fi;
#else
  n = 0;
  goto recount;
#endif
  RECOUNT_SECTION;
  GRANT_SECTION;
recounted:
granted:
  UNLOCK;
  d++;
  if :: d < DEPLOYMENTS -> goto next :: else fi;
#ifdef MUTANT_CONTROLLER_NOT_RECOVERED
all_recounted:
#endif
  d = 0;
#ifndef MUTANT_RECOVER_RINGS_ONLY_GRANTED
  /* the dead may have set a summary after its holder had already picked the slot up: no slot tells of it, and no later mark would ring */
  x = 0;
  do :: x < HOLDERS && summary[x] && x != w -> STEP(ring[x] = true; x++) :: x < HOLDERS && !(summary[x] && x != w) -> x++ :: x >= HOLDERS -> break od;
  x = NONE;
#endif
  d_step {
    if :: w == CTL -> controller_dead = false :: else -> alive[w] = true; working[w] = true fi;
    w = NONE;
    quiet()
  };
  goto end;
dead:     /* its death ends fe-serve; a recovery that was cut off and is begun anew must do no harm all the same */
  skip;
  d_step { release_locks(me); FORGET };
  goto recover
}

init {
  atomic {
    byte k = 0;
    do :: k < HOLDERS -> run worker(k); k++ :: else -> break od;
    run supervisor();
#if PHASES > 0
    run controller()
#endif
  }
}
