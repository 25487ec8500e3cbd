// Uses all of mace.hpp with one model, "classifier": x float32 1x3x24x20 -> y float32 1x10, and "sums", whose shapes are
// chosen at run time: a and b float32 Nx4 -> s float32 Nx4.  Prints what is wrong; ends with 0 where nothing is.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "mace.hpp"
#include "models.h"

static int wrong = 0;

#define EXPECT(condition) \
  do { \
    if (!(condition)) ++wrong, std::printf("line %d: %s\n", __LINE__, #condition); \
  } while (0)

// A call that must not succeed: what is thrown, or answered, has this status and this in its sentence.
template <class Call>
static void expect_error(int line, mace_status status, const char *part, const mace::Instance &net, Call call) {
  const char *told = "";
  mace_status found = MACE_OK;
#ifdef MACE_NO_EXCEPTIONS
  call();
  told = net.error(), found = net.status();
#else
  (void)net;
  std::string message;
  try {
    call();
  } catch (const mace::Error &error) {
    message = error.what(), told = message.c_str(), found = error.status();
  }
#endif
  if (found != status || std::strstr(told, part) == nullptr)
    ++wrong, std::printf("line %d: status %d, '%s'\n", line, found, told);
}
#define EXPECT_ERROR(status, part, net, ...) expect_error(__LINE__, status, part, net, [&] { __VA_ARGS__; })

static std::vector<float> scores(mace::Instance &net) {
  const mace::Span<float> found = net.output<float>("y");
  return std::vector<float>(found.begin(), found.end());
}

static void fill(mace::Span<float> to) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = std::sin(static_cast<float>(i));
}

static void one_model() {
  EXPECT(mace::inputs(classifier_model()).size() == 1);
  EXPECT(std::strcmp(mace::outputs(classifier_model())[0].name, "y") == 0);
  mace::Instance net(classifier_model(), 2);
  EXPECT(static_cast<bool>(net));
  fill(net.input<float>("x"));
  EXPECT(net.input<float>(0).size() == 3 * 24 * 20);
  EXPECT(net.input_shape("x").size() == 4 && net.input_shape("x")[3] == 20);
  EXPECT(net.run() == MACE_OK);
  const std::vector<float> first = scores(net);
  float sum = 0;
  for (float score : first) sum += score;
  EXPECT(std::fabs(sum - 1) < 1e-4f);  // a Softmax

  // memory of the program
  std::vector<float> picture(3 * 24 * 20), answer(10);
  fill(mace::Span<float>(picture));
  const std::vector<float> &constant = picture;
  net.bind_input("x", mace::Span<const float>(constant));
  net.bind_output("y", mace::Span<float>(answer));
  EXPECT(net.run() == MACE_OK);
  EXPECT(answer == first);
  EXPECT(net.output<float>("y").data() == answer.data());
  std::vector<unsigned char> workspace(net.needed_workspace());
  answer.assign(10, 0);
  EXPECT(net.run_in(workspace.data(), workspace.size()) == MACE_OK);
  EXPECT(answer == first);
  EXPECT_ERROR(MACE_ERROR_MEMORY, "", net, net.run_in(workspace.data(), workspace.size() / 2));

  // an instance in memory of the program, whose inputs are all bound
  std::vector<unsigned char> memory(mace_instance_bytes(classifier_model()) + mace_workspace_bytes(classifier_model()));
  mace::Instance bound(classifier_model(), memory.data(), memory.size(), 1, mace::Buffers::bound);
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "input 'x' was not bound", bound, bound.input<float>("x"));
  EXPECT_ERROR(MACE_ERROR_MEMORY, "input 'x' takes 5760 bytes, and memory of 0", bound, bound.run());
  bound.bind_input(0, mace::Span<const float>(constant));
  bound.bind_output(0, mace::Span<float>(answer));
  answer.assign(10, 0);
  EXPECT(bound.run() == MACE_OK);
  for (std::size_t i = 0; i < 10; ++i) EXPECT(std::fabs(answer[i] - first[i]) < 1e-6f);

  // moved, it is the same; what it was moved from is nothing
  mace::Instance other(std::move(net));
  EXPECT(!net && other);
  EXPECT(other.run() == MACE_OK && answer == first);
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "was not made", net, net.run());
  net = std::move(other);
  EXPECT(net.run() == MACE_OK && !other);

  // each step is told of
  int steps = 0;
  bool in_order = true;
  std::int64_t last = 0;
  auto hook = [&](const mace_step &step, std::int64_t begin, std::int64_t end) {
    in_order = in_order && begin >= last && end >= begin && step.name[0] != '\0';
    last = begin, ++steps;
  };
  net.set_profile(hook);
  net.run();
  EXPECT(steps > 2 && in_order);
  net.end_profile();
  const int before = steps;
  net.run();
  EXPECT(steps == before);
  EXPECT(net.set_threads(1) == MACE_OK && net.run() == MACE_OK);
}

static void errors() {
  mace::Instance net(classifier_model());
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "model 'classifier' has no input 'z'; its first is 'x'", net, net.input<float>("z"));
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "no output 'x'", net, net.output<float>("x"));
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "has 1 inputs, and there is no number 7", net, net.input<float>(7));
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "input 'x' has elements of float32, not of uint8", net, net.input<std::uint8_t>("x"));
  EXPECT_ERROR(MACE_ERROR_SHAPE, "input 'x' has 4 dimensions, and 2 were given", net, net.set_shape("x", {24, 20}));
  EXPECT_ERROR(MACE_ERROR_SHAPE, "", net, net.set_shape("x", {1, 3, 24, 21}));
  EXPECT_ERROR(MACE_ERROR_SHAPE, "has 1 inputs, and 2 shapes", net, net.set_shapes({{}, {}}));
  std::vector<float> small(9);
  EXPECT_ERROR(MACE_ERROR_MEMORY, "output 'y' takes 40 bytes, and memory of 36 is bound", net,
               net.bind_output("y", mace::Span<float>(small)));
  EXPECT_ERROR(MACE_ERROR_ARGUMENT, "the model is NULL", net, net = mace::Instance(nullptr));
#ifdef MACE_NO_EXCEPTIONS
  EXPECT(!net && net.run() == MACE_ERROR_ARGUMENT);
#else
  EXPECT(net.run() == MACE_OK);  // what is wrong leaves an instance as it was
#endif
}

static void shapes() {
  mace::Instance net(sums_model());
  for (std::int64_t rows : {8, 1, 5}) {
    const std::int64_t sizes[] = {rows, 4};
    EXPECT(net.set_shapes({{sizes, 2}, {sizes, 2}}) == MACE_OK);
    const std::size_t count = static_cast<std::size_t>(4 * rows);
    EXPECT(net.input<float>("a").size() == count && net.output_shape("s")[0] == rows);
    fill(net.input<float>("a")), fill(net.input<float>("b"));
    EXPECT(net.run() == MACE_OK);
    for (std::size_t i = 0; i < count; ++i)
      EXPECT(std::fabs(net.output<float>("s")[i] - 2 * std::sin(static_cast<float>(i))) < 1e-5f);
  }
  // memory that was enough for a smaller shape is not written behind its end
  const std::int64_t one[] = {1, 4}, eight[] = {8, 4};
  net.set_shapes({{one, 2}, {one, 2}});
  std::vector<float> row(4);
  net.bind_output("s", mace::Span<float>(row));
  EXPECT(net.run() == MACE_OK);
  net.set_shapes({{eight, 2}, {eight, 2}});
  EXPECT_ERROR(MACE_ERROR_MEMORY, "output 's' takes 128 bytes, and memory of 16 is bound", net, net.run());
}

static void threads() {
  mace::Instance alone(classifier_model());
  fill(alone.input<float>("x"));
  alone.run();
  const std::vector<float> expected = scores(alone);
  std::atomic<int> different{0};
  std::vector<std::thread> running;
  for (int i = 0; i < 3; ++i)
    running.emplace_back([&, i] {
      mace::Instance net(classifier_model(), 1 + i);
      fill(net.input<float>("x"));
      for (int run = 0; run < 20; ++run) {
        net.run();
        const std::vector<float> found = scores(net);
        for (std::size_t k = 0; k < found.size(); ++k) different += std::fabs(found[k] - expected[k]) > 1e-6f;
      }
    });
  for (std::thread &thread : running) thread.join();
  EXPECT(different == 0);
}

int main() {
  one_model();
  errors();
  shapes();
  threads();
  if (wrong == 0) std::printf("all is well\n");
  return wrong != 0;
}
