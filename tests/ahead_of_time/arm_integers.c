/* Does with each pair of numbers what needs a function of the run-time ABI on 32-bit ARM. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  int64_t a, b;
  while (scanf("%" SCNd64 " %" SCNd64, &a, &b) == 2) {
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b, bits;
    double d = (double)a, ud = (double)ua;
    float f = (float)a, uf = (float)ua;
    uint32_t bits32;
    if (b == 0) b = 1, ub = 1;
    if (!(a == INT64_MIN && b == -1)) printf("%" PRId64 " %" PRId64 " ", a / b, a % b);
    printf("%" PRIu64 " %" PRIu64 " ", ua / ub, ua % ub);
    memcpy(&bits, &d, 8), printf("%" PRIu64 " ", bits);
    memcpy(&bits, &ud, 8), printf("%" PRIu64 " ", bits);
    memcpy(&bits32, &f, 4), printf("%" PRIu32 " ", bits32);
    memcpy(&bits32, &uf, 4), printf("%" PRIu32 " ", bits32);
    d /= 1.25, ud /= 1.25, f /= 1.25f, uf /= 1.25f; /* within the range of integers */
    printf("%" PRId64 " %" PRIu64 " %" PRId64 " %" PRIu64 "\n", (int64_t)d, (uint64_t)ud, (int64_t)f, (uint64_t)uf);
  }
  return 0;
}
