/* The published snapshot: two regions, and a version whose lowest bit names the one to be read. The publisher may die at any
 * store and comes back; readers copy word by word while it goes on.
 *
 * Owns: fe_publish and fe_snapshot of fe/_control.h. Never: what is published, bells.
 */
#ifndef VERSIONS
#define VERSIONS 4
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#define WORDS 2

byte region[4];           /* two regions of two words: region[(v & 1) * 2 + word] */
byte size[2];             /* words in use: odd versions have one, even ones two */
byte version;
byte crashes;

#define STEP(...) atomic { if :: crashes < CRASHES -> crashes++; goto dead :: true fi; __VA_ARGS__ }
#ifdef MUTANT_ONE_REGION
#define AT(v) 0
#else
#define AT(v) ((v) & 1)
#endif
#define SIZE(v) (2 - ((v) & 1))

proctype publisher() {
  byte v;
again:
  do
  :: version < VERSIONS ->
     v = version + 1;
#ifdef MUTANT_VERSION_FIRST
     STEP(version = v);
#endif
     STEP(region[AT(v) * 2] = v);
     STEP(region[AT(v) * 2 + 1] = v);
     STEP(size[AT(v)] = SIZE(v));
#ifndef MUTANT_VERSION_FIRST
     STEP(version = v)
#endif
  :: else -> goto over
  od;
dead:
  v = 0;
  goto again;
over:
  skip
}

proctype reader() {
  byte v, n, last, one, two;
  do
  :: v = version;
     n = size[AT(v)];
     one = region[AT(v) * 2];
     if :: n > 1 -> two = region[AT(v) * 2 + 1] :: else -> two = one fi;
#ifdef MUTANT_ONE_BEHIND_WILL_DO
     if :: version - v > 1 -> goto next :: else fi;
#elif defined(MUTANT_NO_SECOND_LOOK)
     skip;
#else
     if :: version != v -> goto next :: else fi;
#endif
     assert(v == 0 || (one == v && two == v && n == SIZE(v)));
     assert(v >= last);
     last = v;
     if :: v == VERSIONS -> break :: else fi;
next:
     v = 0; n = 0; one = 0; two = 0
  od
}

init { atomic { run publisher(); run reader(); run reader() } }
