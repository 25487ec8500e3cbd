// The same with the wrapper, which hands state over by itself.
#include <utility>
#include <vector>

#include "mace.hpp"

static void stream(mace::Instance &net) {
  for (int i = 1; i < 4; ++i) {
    net.input<float>("x")[0] = float(i);
    net.run();
    std::printf(" %g(%g)", double(net.output<float>("twice")[0]), double(net.output<float>("sum/next")[0]));
  }
  std::puts("");
}

int main() {
  mace::Instance first(MODEL());
  stream(first);
  first.reset();
  mace::Instance net(std::move(first));
  stream(net);
  std::printf("%g\n", double(net.input<float>("sum")[0]));  // what the next run will be fed
  net.input<float>("sum")[0] = 100;
  stream(net);
  std::vector<float> given{1000, 0};
  net.bind_input("sum", mace::Span<float>(given));  // from now on it is the program's
  stream(net);
  mace::Instance bound(MODEL(), 1, mace::Buffers::bound);
  std::vector<float> x(2), sum{5, 6}, twice(2), next(2);
  bound.bind_input("x", mace::Span<float>(x));
  bound.bind_input("sum", mace::Span<float>(sum));
  bound.bind_output("twice", mace::Span<float>(twice));
  bound.bind_output("sum/next", mace::Span<float>(next));
  bound.run();
  bound.run();
  std::printf("%g %g\n", double(twice[1]), double(next[0]));
}
