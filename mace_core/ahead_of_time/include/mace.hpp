// How a C++17 program calls models that `mace compile --target` has built.  The C header beside it is all it needs.
//
//     #include "mace.hpp"
//     #include "squeezenet.h"
//
//     mace::Instance net(squeezenet_model(), /*threads=*/4);
//     mace::Span<float> pixels = net.input<float>("x");  // memory of the instance, to be filled
//     net.run();
//     for (float score : net.output<float>("y")) ...
//
// An input or an output may be the program's own memory instead (bind_input, bind_output).  What is wrong is thrown as
// mace::Error.  Where exceptions are off, or MACE_NO_EXCEPTIONS is defined, each call answers a status, spans are empty,
// and error() has the sentence.  Nothing is allocated after the constructor, except for the message of an exception.
#ifndef MACE_HPP
#define MACE_HPP

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "mace_runtime.h"
#include "mace_weights.h"

#if !defined(MACE_NO_EXCEPTIONS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#define MACE_NO_EXCEPTIONS
#endif
#ifndef MACE_NO_EXCEPTIONS
#include <stdexcept>
#endif

namespace mace {

// Some elements that lie one behind the other, of somebody else's.
template <class T>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  // Of an array, a vector, a std::span: of all that has data() and size().
  template <class C, class = std::enable_if_t<std::is_convertible_v<decltype(std::declval<C &>().data()), T *>>>
  constexpr Span(C &container) noexcept : data_(container.data()), size_(container.size()) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T *begin() const noexcept { return data_; }
  constexpr T *end() const noexcept { return data_ + size_; }
  constexpr T &operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

// Elements that C++17 has no type for: their bits.
struct float16 {
  std::uint16_t bits;
};
struct bfloat16 {
  std::uint16_t bits;
};

// The mace_type of a type of C++; 0 where there is none.
template <class T>
inline constexpr std::int32_t type_of = std::is_same_v<T, float>           ? MACE_FLOAT32
                                        : std::is_same_v<T, std::uint8_t>  ? MACE_UINT8
                                        : std::is_same_v<T, std::int8_t>   ? MACE_INT8
                                        : std::is_same_v<T, std::uint16_t> ? MACE_UINT16
                                        : std::is_same_v<T, std::int16_t>  ? MACE_INT16
                                        : std::is_same_v<T, std::int32_t>  ? MACE_INT32
                                        : std::is_same_v<T, std::int64_t>  ? MACE_INT64
                                        : std::is_same_v<T, bool>          ? MACE_BOOL
                                        : std::is_same_v<T, float16>       ? MACE_FLOAT16
                                        : std::is_same_v<T, double>        ? MACE_FLOAT64
                                        : std::is_same_v<T, std::uint32_t> ? MACE_UINT32
                                        : std::is_same_v<T, std::uint64_t> ? MACE_UINT64
                                        : std::is_same_v<T, bfloat16>      ? MACE_BFLOAT16
                                                                           : 0;

inline const char *type_name(std::int32_t type) noexcept {
  switch (type) {
    case MACE_FLOAT32: return "float32";
    case MACE_UINT8: return "uint8";
    case MACE_INT8: return "int8";
    case MACE_UINT16: return "uint16";
    case MACE_INT16: return "int16";
    case MACE_INT32: return "int32";
    case MACE_INT64: return "int64";
    case MACE_BOOL: return "bool";
    case MACE_FLOAT16: return "float16";
    case MACE_FLOAT64: return "float64";
    case MACE_UINT32: return "uint32";
    case MACE_UINT64: return "uint64";
    case MACE_BFLOAT16: return "bfloat16";
    default: return "an unknown type";
  }
}

#ifndef MACE_NO_EXCEPTIONS
// What went wrong, as a sentence, and as a status that programs can look at.
class Error : public std::runtime_error {
 public:
  Error(mace_status status, const char *message) : std::runtime_error(message), status_(status) {}
  mace_status status() const noexcept { return status_; }

 private:
  mace_status status_;
};
#endif

inline Span<const mace_tensor> inputs(const mace_model *model) noexcept {
  if (model == nullptr) return {};
  return {model->inputs, static_cast<std::size_t>(model->input_count)};
}
inline Span<const mace_tensor> outputs(const mace_model *model) noexcept {
  if (model == nullptr) return {};
  return {model->outputs, static_cast<std::size_t>(model->output_count)};
}

// Whether an instance has memory for inputs and outputs of the largest shapes, or the program binds its own for all.
enum class Buffers { own, bound };

// The file of a library's weights (`mace compile --weights file`), mapped; nothing for a library that has them in it.
class Weights {
 public:
  Weights(const mace_model *model, const char *path) : status_(mace_map_weights(model, path, &weights_)) { check(path); }
  // A part of an open file, which may be closed afterwards: an asset of Android that is stored uncompressed.
  Weights(const mace_model *model, int file, std::int64_t offset, std::int64_t bytes)
      : status_(mace_map_weights_at(model, file, offset, bytes, &weights_)) {
    check("of an open file");
  }
  Weights(Weights &&other) noexcept
      : weights_(std::exchange(other.weights_, mace_weights{})), status_(other.status_) {}
  Weights &operator=(Weights &&other) noexcept {
    std::swap(weights_, other.weights_);
    std::swap(status_, other.status_);
    return *this;
  }
  Weights(const Weights &) = delete;
  Weights &operator=(const Weights &) = delete;
  ~Weights() { mace_unmap_weights(&weights_); }

  const void *data() const noexcept { return weights_.data; }
  std::size_t size() const noexcept { return weights_.bytes; }
  mace_status status() const noexcept { return status_; }

 private:
  void check(const char *path) const {
#ifndef MACE_NO_EXCEPTIONS
    if (status_ == MACE_OK) return;
    char message[256];
    std::snprintf(message, sizeof message, "the weights '%s' cannot be used: %s", path ? path : "",
                  status_ == MACE_ERROR_WEIGHTS ? "there is no such file, or it is not the one of the library"
                                                : mace_status_text(status_));
    throw Error(status_, message);
#else
    (void)path;
#endif
  }

  mace_weights weights_{};
  mace_status status_;
};

// A model that can be run, by one thread at a time.  Inputs and outputs are named, or numbered in the model's order.
class Instance {
 public:
  // threads: how many take part in a run, this one included; 0 takes as many as there are processors.
  explicit Instance(const mace_model *model, std::int32_t threads = 1, Buffers buffers = Buffers::own) {
    if (allocate(model, buffers)) check(mace_create(model, threads, &instance_));
    reset();
  }

  // In memory of the program, which stays until the end: at least mace_instance_bytes, and mace_workspace_bytes more
  // unless each run is given a workspace.
  Instance(const mace_model *model, void *memory, std::size_t bytes, std::int32_t threads = 1,
           Buffers buffers = Buffers::own) {
    if (allocate(model, buffers)) check(mace_create_in(model, memory, bytes, threads, &instance_));
    reset();
  }

  // With the weights of the library's file, which stay until the end.
  Instance(const mace_model *model, const Weights &weights, std::int32_t threads = 1, Buffers buffers = Buffers::own) {
    if (allocate(model, buffers)) check(mace_create_with(model, weights.data(), weights.size(), threads, &instance_));
    reset();
  }

  Instance(Instance &&other) noexcept { swap(other); }
  Instance &operator=(Instance &&other) noexcept {
    Instance(std::move(other)).swap(*this);
    return *this;
  }
  Instance(const Instance &) = delete;
  Instance &operator=(const Instance &) = delete;
  ~Instance() { mace_destroy(instance_); }

  void swap(Instance &other) noexcept {
    std::swap(instance_, other.instance_);
    std::swap(model_, other.model_);
    std::swap(block_, other.block_);
    std::swap(inputs_, other.inputs_);
    std::swap(outputs_, other.outputs_);
    std::swap(shapes_, other.shapes_);
    std::swap(sizes_, other.sizes_);
    std::swap(is_checked_, other.is_checked_);
    std::swap(keeps_state_, other.keeps_state_);
    std::swap(has_left_state_, other.has_left_state_);
    std::swap(status_, other.status_);
    std::swap(message_, other.message_);
  }

  // --- what it is ---

  const mace_model *model() const noexcept { return model_; }
  mace_instance *get() const noexcept { return instance_; }
  explicit operator bool() const noexcept { return instance_ != nullptr; }
  // Of the latest call.
  mace_status status() const noexcept { return status_; }
  const char *error() const noexcept { return message_; }

  // --- inputs and outputs ---

  // The elements of an input, to be filled before a run: as many as its present shape has.
  template <class T>
  Span<T> input(const char *name) { return input<T>(find_input(name)); }
  template <class T>
  Span<T> input(std::int32_t index) {
    hand_over();
    return elements<T>(false, index);
  }

  // The elements of an output, as the latest run left them.
  template <class T>
  Span<T> output(const char *name) { return output<T>(find_output(name)); }
  template <class T>
  Span<T> output(std::int32_t index) { return elements<T>(true, index); }

  // The shape that it has in the next run.
  Span<const std::int64_t> input_shape(const char *name) { return input_shape(find_input(name)); }
  Span<const std::int64_t> input_shape(std::int32_t index) { return shape(false, index); }
  Span<const std::int64_t> output_shape(const char *name) { return output_shape(find_output(name)); }
  Span<const std::int64_t> output_shape(std::int32_t index) { return shape(true, index); }

  // Choose the shape of an input for the next runs, of those the model was built for; the others stay as they are.
  mace_status set_shape(const char *name, Span<const std::int64_t> sizes) { return set_shape(find_input(name), sizes); }
  mace_status set_shape(const char *name, std::initializer_list<std::int64_t> sizes) {
    return set_shape(find_input(name), Span<const std::int64_t>(sizes.begin(), sizes.size()));
  }
  mace_status set_shape(std::int32_t index, std::initializer_list<std::int64_t> sizes) {
    return set_shape(index, Span<const std::int64_t>(sizes.begin(), sizes.size()));
  }
  mace_status set_shape(std::int32_t index, Span<const std::int64_t> sizes) {
    if (!is_there(false, index)) return status_;
    const mace_tensor &tensor = model_->inputs[index];
    if (sizes.size() != static_cast<std::size_t>(tensor.rank))
      return fail(MACE_ERROR_SHAPE, "input '%s' has %d dimensions, and %d were given", tensor.name, tensor.rank,
                  static_cast<int>(sizes.size()));
    for (std::int32_t i = 0; i < model_->input_count; ++i) shapes_[i] = i == index ? sizes.data() : nullptr;
    is_checked_ = false;
    return check(mace_set_shapes(instance_, shapes_));
  }

  // Choose the shapes of all inputs at once, in the model's order.
  mace_status set_shapes(std::initializer_list<Span<const std::int64_t>> shapes) {
    if (!is_made()) return status_;
    if (shapes.size() != static_cast<std::size_t>(model_->input_count))
      return fail(MACE_ERROR_SHAPE, "model '%s' has %d inputs, and %d shapes were given", model_->name,
                  model_->input_count, static_cast<int>(shapes.size()));
    std::int32_t i = 0;
    for (const Span<const std::int64_t> &sizes : shapes) {
      const mace_tensor &tensor = model_->inputs[i];
      if (sizes.size() != static_cast<std::size_t>(tensor.rank))
        return fail(MACE_ERROR_SHAPE, "input '%s' has %d dimensions, and %d were given", tensor.name, tensor.rank,
                    static_cast<int>(sizes.size()));
      shapes_[i++] = sizes.data();
    }
    is_checked_ = false;
    return check(mace_set_shapes(instance_, shapes_));
  }

  // Have runs read an input from, or write an output to, memory of the program, which stays until it is bound anew.
  template <class T>
  mace_status bind_input(const char *name, Span<T> memory) { return bind_input(find_input(name), memory); }
  template <class T>
  mace_status bind_input(std::int32_t index, Span<T> memory) {
    using Element = std::remove_const_t<T>;
    return bind(false, index, type_of<Element>, memory.size() * sizeof(T), const_cast<Element *>(memory.data()));
  }
  template <class T>
  mace_status bind_output(const char *name, Span<T> memory) { return bind_output(find_output(name), memory); }
  template <class T>
  mace_status bind_output(std::int32_t index, Span<T> memory) {
    static_assert(!std::is_const_v<T>, "an output is written to");
    return bind(true, index, type_of<T>, memory.size() * sizeof(T), memory.data());
  }

  std::int32_t find_input(const char *name) noexcept { return find(false, name); }
  std::int32_t find_output(const char *name) noexcept { return find(true, name); }

  // --- runs ---

  // Compute the outputs.  What the model keeps from run to run (mace_state) is fed what the run before has left, unless
  // the program binds some of it; a run that fails leaves the state as it was.
  mace_status run() {
    hand_over();
    return is_complete() ? ran(mace_run(instance_, inputs_, outputs_)) : status_;
  }
  // The same in a workspace of the program, of at least needed_workspace bytes.
  mace_status run_in(void *workspace, std::size_t bytes) {
    hand_over();
    return is_complete() ? ran(mace_run_in(instance_, inputs_, outputs_, workspace, bytes)) : status_;
  }
  // Begin a stream anew.
  void reset() noexcept {
    has_left_state_ = false;
    if (instance_ && keeps_state_) mace_start_states(instance_, inputs_);
  }
  std::size_t needed_workspace() const noexcept { return instance_ ? mace_needed_workspace(instance_) : 0; }

  mace_status set_threads(std::int32_t threads) {
    return is_made() ? check(mace_set_threads(instance_, threads)) : status_;
  }

  // End the run in progress soon.  From any thread.
  void cancel() const noexcept {
    if (instance_) mace_cancel(instance_);
  }

  // Have a callable of (const mace_step &, begin_ns, end_ns) told of each step of the next runs.  It stays the program's.
  template <class F>
  void set_profile(F &hook) noexcept {
    if (instance_)
      mace_set_profile(
          instance_,
          [](void *user, const mace_step *step, std::int64_t begin_ns, std::int64_t end_ns) {
            (*static_cast<F *>(user))(*step, begin_ns, end_ns);
          },
          &hook);
  }
  void end_profile() noexcept {
    if (instance_) mace_set_profile(instance_, nullptr, nullptr);
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kLongest = 256;

  static std::size_t rounded(std::size_t bytes) noexcept { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  // One block for addresses, sizes, the shapes of one call, and the buffers.
  bool allocate(const mace_model *model, Buffers buffers) {
    if (model == nullptr) return fail(MACE_ERROR_ARGUMENT, "%s", "the model is NULL") == MACE_OK;
    if (model->major != MACE_RUNTIME_MAJOR)
      return fail(MACE_ERROR_VERSION, "%s", mace_status_text(MACE_ERROR_VERSION)) == MACE_OK;
    model_ = model;
    const std::size_t in = static_cast<std::size_t>(model->input_count);
    const std::size_t all = in + static_cast<std::size_t>(model->output_count);
    const std::size_t head = rounded((all + in) * sizeof(void *) + all * sizeof(std::size_t));
    std::size_t bytes = kAlignment + head;
    if (buffers == Buffers::own)
      for (std::size_t i = 0; i < all; ++i) bytes += rounded(largest_bytes(tensor_at(i)));
    block_.reset(new (std::nothrow) unsigned char[bytes]);
    if (block_ == nullptr)
      return fail(MACE_ERROR_MEMORY, "model '%s': there is no memory for its inputs and outputs", model->name) == MACE_OK;
    unsigned char *next = block_.get();
    next += (kAlignment - reinterpret_cast<std::uintptr_t>(next) % kAlignment) % kAlignment;
    unsigned char *buffer = next + head;
    inputs_ = table<const void *>(next, in);
    outputs_ = table<void *>(next, all - in);
    shapes_ = table<const std::int64_t *>(next, in);
    sizes_ = table<std::size_t>(next, all);
    keeps_state_ = buffers == Buffers::own && mace_state_count(model) > 0;
    if (buffers == Buffers::own)
      for (std::size_t i = 0; i < all; ++i) {
        if (i < in)
          inputs_[i] = buffer;
        else
          outputs_[i - in] = buffer;
        sizes_[i] = largest_bytes(tensor_at(i));
        buffer += rounded(sizes_[i]);
      }
    return true;
  }

  template <class T>
  static T *table(unsigned char *&next, std::size_t count) noexcept {
    T *found = reinterpret_cast<T *>(next);
    for (std::size_t i = 0; i < count; ++i) new (static_cast<void *>(found + i)) T();
    next += count * sizeof(T);
    return found;
  }

  const mace_tensor &tensor_at(std::size_t i) const noexcept {
    const std::size_t in = static_cast<std::size_t>(model_->input_count);
    return i < in ? model_->inputs[i] : model_->outputs[i - in];
  }
  static std::size_t largest_bytes(const mace_tensor &tensor) noexcept {
    return mace_tensor_bytes(&tensor, tensor.largest);
  }
  std::int32_t find(bool is_output, const char *name) noexcept {
    if (model_ == nullptr) return -1;
    const std::int32_t found = is_output ? mace_find_output(model_, name) : mace_find_input(model_, name);
    if (found < 0) missing_ = name;
    return found;
  }

  // Let inputs that are state be what the last run has left.
  void hand_over() noexcept {
    if (!std::exchange(has_left_state_, false)) return;
    mace_keep_states(instance_, inputs_, outputs_);
    for (std::int32_t i = 0; i < mace_state_count(model_); ++i) {
      const mace_state &state = model_->states[i];
      std::swap(sizes_[state.input], sizes_[model_->input_count + state.output]);
    }
  }
  mace_status ran(mace_status status) {
    has_left_state_ = keeps_state_ && status == MACE_OK;
    return check(status);
  }
  bool is_of_state(bool is_output, std::int32_t index) const noexcept {
    for (std::int32_t i = 0; i < mace_state_count(model_); ++i)
      if (index == (is_output ? model_->states[i].output : model_->states[i].input)) return true;
    return false;
  }

  bool is_made() {
    if (instance_ == nullptr) fail(MACE_ERROR_ARGUMENT, "%s", "the instance was not made");
    return instance_ != nullptr;
  }

  bool is_there(bool is_output, std::int32_t index) {
    if (!is_made()) return false;
    const char *kind = is_output ? "output" : "input";
    const std::int32_t count = is_output ? model_->output_count : model_->input_count;
    if (index >= 0 && index < count) return true;
    if (const char *name = std::exchange(missing_, nullptr))
      fail(MACE_ERROR_ARGUMENT, "model '%s' has no %s '%s'; its first is '%s'", model_->name, kind, name,
           count ? (is_output ? model_->outputs : model_->inputs)[0].name : "");
    else
      fail(MACE_ERROR_ARGUMENT, "model '%s' has %d %ss, and there is no number %d", model_->name, count, kind, index);
    return false;
  }

  bool is_complete() {
    if (!is_made()) return false;
    if (is_checked_) return true;
    const std::int32_t all = model_->input_count + model_->output_count;
    for (std::int32_t i = 0; i < all; ++i) {
      const bool is_output = i >= model_->input_count;
      if (!is_enough(is_output, is_output ? i - model_->input_count : i, sizes_[i])) return false;
    }
    return is_checked_ = true;
  }

  bool is_enough(bool is_output, std::int32_t index, std::size_t bytes) {
    const char *kind = is_output ? "output" : "input";
    const mace_tensor &tensor = (is_output ? model_->outputs : model_->inputs)[index];
    const std::size_t needed = bytes_now(is_output, index);
    if (bytes < needed)
      fail(MACE_ERROR_MEMORY, "%s '%s' takes %lu bytes, and memory of %lu is bound to it", kind, tensor.name,
           static_cast<unsigned long>(needed), static_cast<unsigned long>(bytes));
    return bytes >= needed;
  }

  bool is_typed(bool is_output, std::int32_t index, std::int32_t type) {
    if (!is_there(is_output, index)) return false;
    const mace_tensor &tensor = (is_output ? model_->outputs : model_->inputs)[index];
    if (tensor.type != type)
      fail(MACE_ERROR_ARGUMENT, "%s '%s' has elements of %s, not of %s", is_output ? "output" : "input", tensor.name,
           type_name(tensor.type), type_name(type));
    return tensor.type == type;
  }

  template <class T>
  Span<T> elements(bool is_output, std::int32_t index) {
    static_assert(type_of<std::remove_const_t<T>> != 0, "models have no elements of this type");
    if (!is_typed(is_output, index, type_of<std::remove_const_t<T>>)) return {};
    void *found = is_output ? outputs_[index] : const_cast<void *>(inputs_[index]);
    if (found == nullptr) {
      fail(MACE_ERROR_ARGUMENT, "%s '%s' was not bound", is_output ? "output" : "input",
           (is_output ? model_->outputs : model_->inputs)[index].name);
      return {};
    }
    succeed();
    return {static_cast<T *>(found), bytes_now(is_output, index) / sizeof(T)};
  }

  Span<const std::int64_t> shape(bool is_output, std::int32_t index) {
    if (!is_there(is_output, index)) return {};
    const mace_tensor &tensor = (is_output ? model_->outputs : model_->inputs)[index];
    succeed();
    return {is_output ? mace_output_shape(instance_, index) : mace_input_shape(instance_, index),
            static_cast<std::size_t>(tensor.rank)};
  }

  mace_status bind(bool is_output, std::int32_t index, std::int32_t type, std::size_t bytes, void *memory) {
    if (!is_typed(is_output, index, type)) return status_;
    if (memory == nullptr) bytes = 0;
    if (!is_enough(is_output, index, bytes)) return status_;
    if (is_of_state(is_output, index)) {
      hand_over();
      keeps_state_ = false;
    }
    if (is_output)
      outputs_[index] = memory;
    else
      inputs_[index] = memory;
    sizes_[is_output ? model_->input_count + index : index] = bytes;
    is_checked_ = false;
    return succeed();
  }

  std::size_t bytes_now(bool is_output, std::int32_t index) const noexcept {
    return is_output ? mace_output_bytes(instance_, index) : mace_input_bytes(instance_, index);
  }

  mace_status succeed() noexcept {
    message_[0] = '\0';
    return status_ = MACE_OK;
  }

  mace_status check(mace_status status) {
    if (status == MACE_OK) return succeed();
    // of another thread's call it says nothing
    const char *told = instance_ != nullptr && status != MACE_ERROR_BUSY ? mace_error(instance_) : "";
    return fail(status, "%s", told[0] != '\0' ? told : mace_status_text(status));
  }

#if defined(__GNUC__)
  __attribute__((format(printf, 3, 4)))
#endif
  mace_status
  fail(mace_status status, const char *format, ...) {
    std::va_list parts;
    va_start(parts, format);
    std::vsnprintf(message_, kLongest, format, parts);
    va_end(parts);
    status_ = status;
#ifndef MACE_NO_EXCEPTIONS
    throw Error(status, message_);
#else
    return status;
#endif
  }

  mace_instance *instance_ = nullptr;
  const mace_model *model_ = nullptr;
  std::unique_ptr<unsigned char[]> block_;
  const void **inputs_ = nullptr;
  void **outputs_ = nullptr;
  const std::int64_t **shapes_ = nullptr;  // of a call of mace_set_shapes
  std::size_t *sizes_ = nullptr;           // bytes of the inputs' memory, then of the outputs'
  bool is_checked_ = false;                // the memory is enough for the present shapes
  bool keeps_state_ = false;               // its memory is one's own
  bool has_left_state_ = false;            // a run wrote it, and the next one has not taken it yet
  const char *missing_ = nullptr;
  mace_status status_ = MACE_OK;
  char message_[kLongest] = "";
};

}  // namespace mace

#endif  // MACE_HPP
