/* The mailbox in detail: two words of marks, one summary with a bit for each word, one bell; markers of two deployments, that
 * is under two locks, and a reader that collects at most MOST letters at a time.
 *
 * Owns: the interleavings of fe_mark, lease_collect and open_letter, with markers that are killed at every step and mended
 * by a recovery that marks and rings again. Never: how slots come to be granted (lease.pml).
 * Slot s belongs to deployment s % 2 and its mark lies in word s / 2: every word has marks of both.
 */
#ifndef ROUNDS            /* grants each marker makes */
#define ROUNDS 2
#endif
#ifndef MOST
#define MOST 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#define SLOTS 4
#define WORDS 2
#define WORD(s) ((s) / 2)
#define PART(w) (1 << (w))

mtype = { FREE, WAITING, GRANTED, HELD };
mtype st[SLOTS] = WAITING;
bool mark[SLOTS];
byte summary;
bool bell;
bool locked[2];
byte crashes, busy;
bool dead[2];

#define STEP(...) atomic { if :: crashes < CRASHES -> crashes++; goto killed :: true fi; __VA_ARGS__ }

inline quiet() {
  if
  :: busy == 0 && !bell && !dead[0] && !dead[1] ->
     assert(summary == 0);
     i = 0;
     do :: i < SLOTS -> assert(st[i] != GRANTED); i++ :: else -> break od
  :: else
  fi;
  i = 0
}

/* a bell is due when the summary as a whole leaves zero; at the edge of each word's bit would be too often, but right */
#ifdef VARIANT_EDGE_OF_EACH_WORD
#define DUE(w) ((summary & PART(w)) == 0)
#else
#define DUE(w) (summary == 0)
#endif

/* one deployment's lock, and whoever grants under it */
proctype marker(byte d) {
  byte round, s, i;
  bool toring;
again:
  do
  :: round < ROUNDS && (st[d] == WAITING || st[d + 2] == WAITING) ->
     atomic { !locked[d] -> locked[d] = true; busy++ };
     if :: st[d] == WAITING -> s = d :: st[d + 2] == WAITING -> s = d + 2 :: else -> goto unlock fi;
     STEP(st[s] = GRANTED; round++);
#ifdef MUTANT_SUMMARY_BEFORE_MARK
     STEP(toring = toring || DUE(WORD(s)); summary = summary | PART(WORD(s)));
     STEP(mark[s] = true);
#else
     STEP(mark[s] = true);
     STEP(toring = toring || DUE(WORD(s)); summary = summary | PART(WORD(s)));
#endif
unlock:
     STEP(locked[d] = false);
     if :: toring -> STEP(bell = true; toring = false) :: else fi;
     s = 0;
     d_step { busy--; quiet() }
  :: round == ROUNDS -> goto over
  od;
killed:
  skip;
  d_step { dead[d] = true; busy--; locked[d] = false; toring = false; s = 0 };
  !dead[d];
  goto again;
over:
  skip
}

/* under each lock: every granted slot is marked again; at the end whoever has a summary is rung */
proctype recovery() {
  byte s, i, d, who;
end:
  do
  :: atomic { dead[0] -> who = 0; busy++ }; goto mend
  :: atomic { dead[1] -> who = 1; busy++ }; goto mend
  od;
mend:
  d = 0;
  do
  :: d < 2 ->
     atomic { !locked[d] -> locked[d] = true };
     s = d;
     do
     :: s < SLOTS && st[s] == GRANTED -> mark[s] = true; summary = summary | PART(WORD(s)); s = s + 2
     :: s < SLOTS && st[s] != GRANTED -> s = s + 2
     :: s >= SLOTS -> break
     od;
     locked[d] = false;
     d++
  :: else -> break
  od;
#ifndef MUTANT_RECOVERY_RINGS_NOBODY
  if :: summary != 0 -> bell = true :: else fi;
#endif
  skip;
  d_step { s = 0; d = 0; dead[who] = false; who = 0; busy--; quiet() };
  goto end
}

/* the owner: sleeps until the bell, collects until nothing is left, gives the places back and waits again */
proctype reader() {
  byte parts, w, s, i, written, again;
  bool marks[SLOTS];
end:
  do
  :: atomic { bell -> bell = false; busy++ };
more:
     if :: summary == 0 -> goto idle :: else fi;
#ifdef MUTANT_MARKS_BEFORE_SUMMARY
     parts = summary;
#else
     atomic { parts = summary; summary = 0 };
#endif
     w = 0; written = 0;
     do
     :: w < WORDS && (parts & PART(w)) ->
        d_step { marks[2 * w] = mark[2 * w]; marks[2 * w + 1] = mark[2 * w + 1] };
        s = 2 * w;
        do
        :: s < 2 * w + 2 && marks[s] ->
           if
           :: written == MOST ->
#ifndef MUTANT_REST_FORGOTTEN
              summary = summary | parts;
#endif
              goto handled
           :: else
           fi;
           if
           :: st[s] != GRANTED -> mark[s] = false;
#ifndef MUTANT_NO_SECOND_LOOK
              if :: st[s] == GRANTED -> st[s] = HELD; written++; mark[s] = false :: else fi
#endif
           :: else -> st[s] = HELD; written++; mark[s] = false
           fi;
           s++
        :: s < 2 * w + 2 && !marks[s] -> s++
        :: s >= 2 * w + 2 -> break
        od;
        parts = parts & ~PART(w);
        w++
     :: w < WORDS && !(parts & PART(w)) -> w++
     :: w >= WORDS -> break
     od;
#ifdef MUTANT_MARKS_BEFORE_SUMMARY
     summary = 0;
#endif
handled:
     parts = 0; w = 0; s = 0; written = 0;
     d_step { i = 0; do :: i < SLOTS -> marks[i] = false; i++ :: else -> break od; i = 0 };
     /* a released place's slot waits again; a mark may have outlived it */
     s = 0;
     do :: s < SLOTS && st[s] == HELD -> st[s] = WAITING; s++ :: s < SLOTS && st[s] != HELD -> s++ :: s >= SLOTS -> break od;
     s = 0;
     goto more;
idle:
     skip;
     d_step { busy--; quiet() }
  od
}

init { atomic { run marker(0); run marker(1); run reader(); run recovery() } }
