// Times a model of a library: MODEL_model() with THREADS threads. Prints nanoseconds: of making an instance, of the
// first run, and then for each of RUNS runs of the clock and of all processors.
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "mace.hpp"
#include "timed.h"

static long long now(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int main(int, char **words) {
  const long long start = now(CLOCK_MONOTONIC);
  mace::Instance net(MODEL(), std::atoi(words[1]));
  const long long made = now(CLOCK_MONOTONIC);
  for (int i = 0; i < net.model()->input_count; ++i)  // as the session is fed
    for (float &value : net.input<float>(i)) value = 0.5f;
  const long long before = now(CLOCK_MONOTONIC);
  net.run();
  std::printf("%lld %lld\n", made - start, now(CLOCK_MONOTONIC) - before);
  for (int i = std::atoi(words[2]); i-- > 0;) {
    const long long wall = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    net.run();
    std::printf("%lld %lld\n", now(CLOCK_MONOTONIC) - wall, now(CLOCK_PROCESS_CPUTIME_ID) - used);
  }
  return 0;
}
