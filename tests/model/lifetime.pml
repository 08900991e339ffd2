/* Records that are used again: a deployment is removed while leases are held, its replica's record goes to another deployment
 * (that is: under another lock), its own record to its successor of the next generation. Workers and the controller die anywhere.
 *
 * Owns: generations and incarnations, who frees a record and when, what a recount finishes. Never: queues and wake-ups
 * (lease.pml). One slot per worker.
 * Truth: dep_state/dep_gen, rep_state/rep_dep/rep_inc and st/at/gen, each group one word. Caches: load, member.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef PLACES            /* the capacity of a replica */
#define PLACES 2
#endif
#define REPLICAS 2
#define NONE 255
#define CTL WORKERS

mtype = { FREE, ACTIVE, REMOVING, READY, HELD };
mtype dep_state[2] = ACTIVE;
byte dep_gen[2] = 1;
mtype rep_state[REPLICAS];
byte rep_dep[REPLICAS], rep_inc[REPLICAS];
mtype st[WORKERS] = FREE;
byte dep[WORKERS], at[WORKERS], gen[WORKERS];
byte load[REPLICAS], member[REPLICAS] = NONE;

byte owner[2] = NONE;
bool torn[2];
bool alive[WORKERS] = true;
bool busy[WORKERS + 1];
bool controller_dead;
byte crashes, phase;

#define BELONGS(r) (rep_state[r] != FREE && rep_dep[r] == d)
#define STEP(...) atomic { if :: crashes < CRASHES && me <= CTL -> crashes++; goto dead :: true fi; __VA_ARGS__ }
#define LOCALS byte r, i, n, d

inline leases(rep) {
  n = 0; i = 0;
  do :: i < WORKERS -> if :: st[i] == HELD && at[i] == rep -> n++ :: else fi; i++ :: else -> break od;
  i = 0
}
inline members() { n = 0; i = 0; do :: i < REPLICAS -> if :: member[i] == d -> n++ :: else fi; i++ :: else -> break od; i = 0 }

inline quiet() {
  n = 1; i = 0;
  do :: i < WORKERS -> if :: busy[i] || !alive[i] -> n = 0 :: else fi; i++ :: else -> break od;
  if
  :: n == 1 && !busy[CTL] && !controller_dead ->
     r = 0;
     do
     :: r < REPLICAS ->
        leases(r);
        assert(rep_state[r] != FREE || (n == 0 && member[r] == NONE));
        assert(rep_state[r] == FREE || (member[r] == rep_dep[r] && load[r] == n && dep_state[rep_dep[r]] != FREE));
        assert(rep_state[r] != REMOVING || n > 0);
        r++
     :: else -> break
     od;
     r = 0;
     do :: r < 2 -> d = r; members(); assert(dep_state[r] != REMOVING || n > 0); assert(owner[r] == NONE && !torn[r]); r++ :: else -> break od
  :: else
  fi;
  r = 0; n = 0; i = 0; d = 0
}

inline release_locks(who) { i = 0; do :: i < 2 -> if :: owner[i] == who -> owner[i] = NONE; torn[i] = true :: else fi; i++ :: else -> break od; i = 0 }

#define LOCK atomic { owner[d] == NONE -> owner[d] = me }
#define UNLOCK STEP(owner[d] = NONE)

#define FINISH_DEPLOYMENT \
  d_step { members() }; \
  if :: dep_state[d] == REMOVING && n == 0 -> STEP(dep_state[d] = FREE) :: else fi; \
  n = 0

#ifdef MUTANT_FREE_BEFORE_UNLINK
#define FREE_REPLICA STEP(rep_state[r] = FREE); STEP(member[r] = NONE)
#else
#define FREE_REPLICA STEP(member[r] = NONE); STEP(rep_state[r] = FREE)
#endif

/* as fe_recount: replicas to zero (and, of a deployment on its way out, to REMOVING), leases counted, removals finished */
#ifdef MUTANT_RECOUNT_LEAVES_REPLICAS
#define LEAVES false
#else
#define LEAVES (dep_state[d] != ACTIVE && rep_state[r] != REMOVING)
#endif
#ifdef MUTANT_RECOUNT_FINISHES_NOTHING
#define FINISHED false
#else
#define FINISHED (rep_state[r] == REMOVING && load[r] == 0)
#endif
#define RECOUNT_SECTION \
recount: \
  r = 0; \
  do \
  :: r < REPLICAS && BELONGS(r) -> \
     if :: member[r] == d -> STEP(member[r] = NONE) :: else fi; \
     if :: LEAVES -> STEP(rep_state[r] = REMOVING) :: else fi; \
     d_step { leases(r) }; \
     STEP(load[r] = n); n = 0; \
     if :: FINISHED -> STEP(rep_state[r] = FREE) :: else -> STEP(member[r] = d) fi; \
     r++ \
  :: r < REPLICAS && !BELONGS(r) -> r++ \
  :: r >= REPLICAS -> break \
  od; \
  r = 0; \
  FINISH_DEPLOYMENT; \
  STEP(torn[d] = false); \
  goto recounted
#define TAKE LOCK; if :: torn[d] -> goto recount :: else fi; recounted: skip

proctype worker(byte me) {
  LOCALS;
  byte round, g, inc;
loop:
  if
  :: atomic { round < ROUNDS -> round++; busy[me] = true };
     if :: d = 0 :: d = 1 fi;
     g = dep_gen[d]      /* from the snapshot: what follows may come much later */
  :: round == ROUNDS -> goto over
  :: atomic { crashes < CRASHES -> crashes++ }; goto dead
  fi;
locked:
  TAKE;
  if :: st[me] == HELD -> goto give_back :: else fi;
#ifndef MUTANT_GENERATION_NOT_COMPARED
  if :: dep_state[d] != ACTIVE || dep_gen[d] != g -> goto unlock :: else fi;
#else
  if :: dep_state[d] != ACTIVE -> goto unlock :: else fi;
#endif
  r = 0;
  do :: r < REPLICAS && !(member[r] == d && rep_state[r] == READY && load[r] < PLACES) -> r++ :: else -> break od;
  if
  :: r < REPLICAS ->
     STEP(st[me] = HELD; dep[me] = d; at[me] = r; gen[me] = dep_gen[d]; inc = rep_inc[r]; assert(gen[me] == g));
     STEP(load[r]++)
  :: else
  fi;
  r = 0;
unlock:
  UNLOCK;
  d_step { busy[me] = false; quiet() };
  if :: st[me] == FREE -> goto loop :: else fi;
  /* the exchange with the replica: its address has to stay what it was */
  assert(rep_state[at[me]] != FREE && rep_inc[at[me]] == inc);
  atomic { busy[me] = true; d = dep[me] };
  goto locked;
give_back:
  r = at[me];
  assert(rep_state[r] != FREE && rep_inc[r] == inc && rep_dep[r] == d);
  STEP(st[me] = FREE);
  STEP(load[r]--);
#ifdef MUTANT_FREED_WHILE_LEASED
  if :: rep_state[r] == REMOVING && member[r] == d -> FREE_REPLICA; FINISH_DEPLOYMENT :: else fi;
#else
  if :: rep_state[r] == REMOVING && load[r] == 0 -> FREE_REPLICA; FINISH_DEPLOYMENT :: else fi;
#endif
  r = 0;
  UNLOCK;
  d_step { busy[me] = false; quiet() };
  goto loop;
  RECOUNT_SECTION;
dead:
  skip;
  d_step { release_locks(me); alive[me] = false; r = 0; n = 0; d = 0; g = 0; inc = 0 };
  alive[me];
  d_step { busy[me] = false; quiet() };
  goto loop;
over:
  skip;
  d_step { busy[me] = false; quiet() }
}

/* removes deployment 0, gives its replica's record to deployment 1, and its own to a successor; begins a phase again after a death */
proctype controller() {
  LOCALS;
  byte me = CTL;
again:
  if
  :: atomic { phase == 0 -> busy[CTL] = true; d = 0 }
  :: atomic { phase == 1 && (rep_state[0] == FREE || rep_dep[0] == 1) -> busy[CTL] = true; d = 1 }
  :: atomic { phase == 2 && (dep_state[0] == FREE || dep_state[0] == ACTIVE) -> busy[CTL] = true; d = 0 }
  :: atomic { phase == 3 -> busy[CTL] = true; d = 0 }
  :: phase == 4 -> goto over
  fi;
  TAKE;
  if
  :: phase == 0 -> if :: dep_state[0] == ACTIVE -> STEP(dep_state[0] = REMOVING); goto recount :: else fi
  :: phase == 1 && rep_state[0] == FREE -> r = 0; goto fill
  :: phase == 2 && dep_state[0] == FREE -> STEP(dep_state[0] = ACTIVE; dep_gen[0]++)
  :: phase == 3 && rep_state[1] == FREE -> r = 1; goto fill
  :: else
  fi;
  goto done;
fill:
  skip;
  d_step { leases(r); assert(n == 0); n = 0 };
  STEP(load[r] = 0);
  STEP(rep_state[r] = READY; rep_dep[r] = d; rep_inc[r]++);
  STEP(member[r] = d);
  r = 0;
done:
  UNLOCK;
  d_step { phase++; busy[CTL] = false; quiet() };
  goto again;
  RECOUNT_SECTION;
dead:
  skip;
  d_step { release_locks(me); controller_dead = true; r = 0; n = 0; d = 0 };
  !controller_dead;
  busy[CTL] = false;
  goto again;
over:
  skip
}

proctype supervisor() {
  LOCALS;
  byte me = CTL + 1;
  byte w;
end:
  do
  :: atomic { !alive[0] -> w = 0; break }
#if WORKERS > 1
  :: atomic { !alive[1] -> w = 1; break }
#endif
  :: atomic { controller_dead -> w = CTL; break }
  od;
  d = 0;
next:
  LOCK;
  if :: w < WORKERS && st[w] == HELD && dep[w] == d -> st[w] = FREE :: else fi;
  goto recount;
  RECOUNT_SECTION;
recounted:
  UNLOCK;
  d++;
  if :: d < 2 -> goto next :: else fi;
  d = 0;
  d_step { if :: w == CTL -> controller_dead = false :: else -> alive[w] = true fi; w = 0 };
  goto end;
dead:
  skip
}

init {
  atomic {
    rep_state[0] = READY; rep_inc[0] = 1; member[0] = 0;
    rep_state[1] = FREE;
    byte k = 0;
    do :: k < WORKERS -> run worker(k); k++ :: else -> break od;
    run controller(); run supervisor()
  }
}
