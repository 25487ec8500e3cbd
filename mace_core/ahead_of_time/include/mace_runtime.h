/* How a C program calls models that `mace compile --target` has built.
 *
 * A library has one function for each model, which the header beside it declares: `const mace_model *NAME_model(void)`.
 * Everything else is here, and does the same for every model:
 *
 *     mace_instance *instance;
 *     mace_status status = mace_create(squeezenet_model(), 4, &instance);
 *     const void *inputs[] = {pixels};
 *     void *outputs[] = {scores};
 *     if (status == MACE_OK && mace_run(instance, inputs, outputs) != MACE_OK) puts(mace_error(instance));
 *     mace_destroy(instance);
 *
 * A model is read-only data, shared by all threads.  An instance is memory for one run at a time; several instances of
 * one model run at the same time.  No function writes to standard output or ends the program.  An instance or a model that
 * is NULL, as mace_create leaves it where it fails, is an error, and no crash, for every function.
 *
 * Libraries that different versions of MACE have built may be linked into one program: each brings its own code, and
 * this header calls it through the model.  Fields are only ever added at the ends of structures.
 */
#ifndef MACE_RUNTIME_H
#define MACE_RUNTIME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface.  A model of another major version is not taken (MACE_ERROR_VERSION). */
#define MACE_RUNTIME_MAJOR 1
#define MACE_RUNTIME_MINOR 1

typedef enum mace_status {
  MACE_OK = 0,
  MACE_ERROR_ARGUMENT = 1,  /* a pointer that is NULL or not aligned, an index or a count that does not exist */
  MACE_ERROR_SHAPE = 2,     /* the model was not built for this shape */
  MACE_ERROR_MEMORY = 3,    /* no memory was left, or what was given is too small */
  MACE_ERROR_DATA = 4,      /* the content of an input is wrong: an index that is out of range, say */
  MACE_ERROR_THREADS = 5,   /* the system started no more threads */
  MACE_ERROR_CANCELLED = 6, /* mace_cancel was called; the outputs hold anything */
  MACE_ERROR_BUSY = 7,      /* another thread runs this instance; make one for each thread */
  MACE_ERROR_VERSION = 8,   /* the library is of another major version than this header */
  MACE_ERROR_WEIGHTS = 9    /* the weights are in a file that was not given, or is not the one of the library */
} mace_status;

/* Element types, with the numbers of ONNX. */
typedef enum mace_type {
  MACE_FLOAT32 = 1,
  MACE_UINT8 = 2,
  MACE_INT8 = 3,
  MACE_UINT16 = 4,
  MACE_INT16 = 5,
  MACE_INT32 = 6,
  MACE_INT64 = 7,
  MACE_BOOL = 9,
  MACE_FLOAT16 = 10,
  MACE_FLOAT64 = 11,
  MACE_UINT32 = 12,
  MACE_UINT64 = 13,
  MACE_BFLOAT16 = 16
} mace_type;

/* An input or an output.  Elements lie densely, the last dimension first.
 *
 * A dimension may be chosen at run time where `smallest` and `largest` differ (mace_set_shapes).  Those of outputs
 * follow from those of the inputs, and lie between the two. */
typedef struct mace_tensor {
  const char *name;
  int32_t type; /* a mace_type */
  int32_t rank;
  const int64_t *smallest; /* rank numbers */
  const int64_t *largest;
} mace_tensor;

/* A step of the plan: what the profile hook is told of. */
typedef struct mace_step {
  const char *name;  /* the operators it computes, and how: "Conv+Relu (3x3 direct)" */
  const char *nodes; /* names of the nodes of the model, separated by commas */
} mace_step;

/* State that a model keeps from run to run: an input, and the output that it is fed in the next run. */
typedef struct mace_state {
  int32_t input, output; /* their numbers */
  const void *start;     /* what the input is fed in the first run, repeated until it is full; NULL for zeros */
  int64_t start_bytes;
} mace_state;

typedef struct mace_model mace_model;
typedef struct mace_instance mace_instance;

/* Called behind a run, once for each step that ran, in order.  Times are nanoseconds of the system's monotonic clock. */
typedef void (*mace_profile_hook)(void *user, const mace_step *step, int64_t begin_ns, int64_t end_ns);

/* What a library says of a model.  Programs need `name` to `outputs`; the functions are called by those below. */
struct mace_model {
  int32_t major, minor; /* of this interface */
  const char *name;
  const char *target;  /* as `mace compile --target` was told */
  const char *made_by; /* the version of MACE */
  int32_t input_count, output_count;
  const mace_tensor *inputs, *outputs;
  int32_t most_threads; /* more do not help: the work is not split further */
  int32_t reserved;
  size_t instance_bytes, workspace_bytes;
  const void *own; /* what only the library reads */
  mace_status (*create)(const mace_model *, void *memory, size_t bytes, int32_t threads, mace_instance **);
  void (*destroy)(mace_instance *);
  mace_status (*set_shapes)(mace_instance *, const int64_t *const *shapes);
  const int64_t *(*shape)(const mace_instance *, int32_t is_output, int32_t index);
  mace_status (*run)(mace_instance *, const void *const *, void *const *, void *workspace, size_t bytes);
  size_t (*needed_workspace)(const mace_instance *);
  mace_status (*set_threads)(mace_instance *, int32_t threads);
  void (*cancel)(mace_instance *);
  const char *(*error)(mace_instance *);
  void (*set_profile)(mace_instance *, mace_profile_hook, void *user);
  /* since 1.1 */
  size_t weight_bytes;             /* of the file of weights; 0 where they are in the library */
  const unsigned char *weight_key; /* MACE_WEIGHT_KEY_BYTES that the file begins with, behind its first words */
  mace_status (*create_with)(const mace_model *, const void *weights, void *memory, size_t bytes, int32_t threads,
                             mace_instance **);
  int32_t state_count, reserved_too;
  const mace_state *states;
};

/* The beginning of an instance; the rest is its own. */
struct mace_instance {
  const mace_model *model;
};

/* --- instances --- */

/* Make an instance, with memory from the C library.
 *
 * threads: how many take part in a run, the caller's included; 1 starts none and needs no library of threads; 0 takes
 * as many as there are processors for this process.  More than `most_threads` are not started.
 *
 * `*instance` is NULL unless the answer is MACE_OK.  Inputs have the largest shapes until mace_set_shapes says otherwise. */
static inline mace_status mace_create(const mace_model *model, int32_t threads, mace_instance **instance) {
  if (instance == NULL) return MACE_ERROR_ARGUMENT;
  *instance = NULL;
  if (model == NULL) return MACE_ERROR_ARGUMENT;
  if (model->major != MACE_RUNTIME_MAJOR) return MACE_ERROR_VERSION;
  return model->create(model, NULL, 0, threads, instance);
}

/* --- weights in a file --- */

/* The size of the file of weights that a library wants which was built with `mace compile --weights file`; 0 for all
 * others, which have their weights in them. */
static inline size_t mace_weight_bytes(const mace_model *model) {
  return model == NULL || model->minor < 1 ? 0 : model->weight_bytes;
}

#define MACE_WEIGHT_KEY_BYTES 32
#define MACE_WEIGHT_HEAD_BYTES 128

/* Whether the content of a file is what the library was built with, as far as its size and its head tell.
 *
 * weights: the content, at an address that is a multiple of 64 (`mace_weights.h` maps a file so). */
static inline mace_status mace_match_weights(const mace_model *model, const void *weights, size_t bytes) {
  if (model == NULL) return MACE_ERROR_ARGUMENT;
  if (mace_weight_bytes(model) == 0) return weights == NULL ? MACE_OK : MACE_ERROR_WEIGHTS;
  if (weights == NULL || bytes != model->weight_bytes) return MACE_ERROR_WEIGHTS;
  if ((uintptr_t)weights % 64 != 0) return MACE_ERROR_ARGUMENT;
  if (memcmp(weights, "MACEWGT1", 8) != 0) return MACE_ERROR_WEIGHTS;
  if (memcmp((const char *)weights + 32, model->weight_key, MACE_WEIGHT_KEY_BYTES) != 0) return MACE_ERROR_WEIGHTS;
  return MACE_OK;
}

/* Whether every bit of it is: this reads all of it. */
static inline mace_status mace_check_weights(const mace_model *model, const void *weights, size_t bytes) {
  const mace_status status = mace_match_weights(model, weights, bytes);
  uint64_t sum = 0, word, expected;
  size_t at, i = 0;
  if (status != MACE_OK || weights == NULL) return status;
  memcpy(&expected, (const char *)weights + 24, sizeof expected);
  for (at = MACE_WEIGHT_HEAD_BYTES; at < bytes; at += sizeof word, ++i) {
    memcpy(&word, (const char *)weights + at, sizeof word);
    sum += word * (2 * (uint64_t)i + 1);
  }
  return sum == expected ? MACE_OK : MACE_ERROR_WEIGHTS;
}

/* Make an instance of a model whose weights are in a file.
 *
 * weights: the content of the file, at an address that is a multiple of 64. It stays, unchanged, until mace_destroy of
 * the last instance, and serves any number of them. NULL for a library that has its weights in it. */
static inline mace_status mace_create_with(const mace_model *model, const void *weights, size_t bytes, int32_t threads,
                                           mace_instance **instance) {
  mace_status status;
  if (instance == NULL) return MACE_ERROR_ARGUMENT;
  *instance = NULL;
  if (model == NULL) return MACE_ERROR_ARGUMENT;
  if (model->major != MACE_RUNTIME_MAJOR) return MACE_ERROR_VERSION;
  status = mace_match_weights(model, weights, bytes);
  if (status != MACE_OK) return status;
  if (weights == NULL) return model->create(model, NULL, 0, threads, instance);
  return model->create_with(model, (const char *)weights + MACE_WEIGHT_HEAD_BYTES, NULL, 0, threads, instance);
}

/* The same in memory of the caller, as mace_create_in. */
static inline mace_status mace_create_with_in(const mace_model *model, const void *weights, size_t weight_bytes,
                                              void *memory, size_t bytes, int32_t threads, mace_instance **instance) {
  mace_status status;
  if (instance == NULL) return MACE_ERROR_ARGUMENT;
  *instance = NULL;
  if (model == NULL || memory == NULL) return MACE_ERROR_ARGUMENT;
  if (model->major != MACE_RUNTIME_MAJOR) return MACE_ERROR_VERSION;
  status = mace_match_weights(model, weights, weight_bytes);
  if (status != MACE_OK) return status;
  if (weights == NULL) return model->create(model, memory, bytes, threads, instance);
  return model->create_with(model, (const char *)weights + MACE_WEIGHT_HEAD_BYTES, memory, bytes, threads, instance);
}

/* --- memory and threads --- */

/* How much memory an instance takes without its workspace, and the workspace of the largest shapes.  Both are multiples
 * of 64. */
static inline size_t mace_instance_bytes(const mace_model *model) { return model == NULL ? 0 : model->instance_bytes; }
static inline size_t mace_workspace_bytes(const mace_model *model) { return model == NULL ? 0 : model->workspace_bytes; }

/* The same in memory of the caller, of any alignment, which stays until mace_destroy: with one thread nothing is
 * allocated, then or later.
 *
 * bytes: at least mace_instance_bytes.  With mace_workspace_bytes more, mace_run may be called; else a workspace is
 * given to each run (mace_run_in), which instances that do not run at the same time may share. */
static inline mace_status mace_create_in(const mace_model *model, void *memory, size_t bytes, int32_t threads,
                                         mace_instance **instance) {
  if (instance == NULL) return MACE_ERROR_ARGUMENT;
  *instance = NULL;
  if (model == NULL || memory == NULL) return MACE_ERROR_ARGUMENT;
  if (model->major != MACE_RUNTIME_MAJOR) return MACE_ERROR_VERSION;
  return model->create(model, memory, bytes, threads, instance);
}

/* End the threads of an instance and free what mace_create allocated.  NULL is allowed; not during a run. */
static inline void mace_destroy(mace_instance *instance) {
  if (instance != NULL) instance->model->destroy(instance);
}

/* How many threads take part in the next runs; see mace_create.  During a run it is MACE_ERROR_BUSY.
 *
 * The child of a fork has the instances of its parent but none of their threads, and runs with one until this is called,
 * which starts its own.  What another thread ran at the time of the fork stays busy in the child. */
static inline mace_status mace_set_threads(mace_instance *instance, int32_t threads) {
  return instance == NULL ? MACE_ERROR_ARGUMENT : instance->model->set_threads(instance, threads);
}

/* --- inputs and outputs --- */

/* The number of an input or an output; -1 where none has the name. */
static inline int32_t mace_find(const mace_tensor *tensors, int32_t count, const char *name) {
  int32_t i;
  for (i = 0; name != NULL && i < count; ++i)
    if (strcmp(tensors[i].name, name) == 0) return i;
  return -1;
}
static inline int32_t mace_find_input(const mace_model *model, const char *name) {
  return model == NULL ? -1 : mace_find(model->inputs, model->input_count, name);
}
static inline int32_t mace_find_output(const mace_model *model, const char *name) {
  return model == NULL ? -1 : mace_find(model->outputs, model->output_count, name);
}

/* Bytes of one element. */
static inline size_t mace_type_bytes(int32_t type) {
  switch (type) {
    case MACE_UINT8: case MACE_INT8: case MACE_BOOL: return 1;
    case MACE_UINT16: case MACE_INT16: case MACE_FLOAT16: case MACE_BFLOAT16: return 2;
    case MACE_INT64: case MACE_FLOAT64: case MACE_UINT64: return 8;
    default: return 4;
  }
}

/* Choose the shapes of the inputs for the next runs: for each input its dimensions, or NULL to leave them.
 *
 * Only models that were built for several shapes take others than those of `largest`.  Where the model was not built
 * for these (MACE_ERROR_SHAPE), the shapes stay what they were.  During a run it is MACE_ERROR_BUSY; nothing is
 * allocated. */
static inline mace_status mace_set_shapes(mace_instance *instance, const int64_t *const *shapes) {
  return instance == NULL ? MACE_ERROR_ARGUMENT : instance->model->set_shapes(instance, shapes);
}

/* The shape that an input or an output has in the next run: as many numbers as its rank says.  NULL where there is no
 * such input or output. */
static inline const int64_t *mace_input_shape(const mace_instance *instance, int32_t index) {
  return instance == NULL ? NULL : instance->model->shape(instance, 0, index);
}
static inline const int64_t *mace_output_shape(const mace_instance *instance, int32_t index) {
  return instance == NULL ? NULL : instance->model->shape(instance, 1, index);
}

/* Its size in bytes at a shape; below, at that of the next run, 0 where there is no such input or output. */
static inline size_t mace_tensor_bytes(const mace_tensor *tensor, const int64_t *shape) {
  size_t bytes = mace_type_bytes(tensor->type);
  int32_t axis;
  for (axis = 0; axis < tensor->rank; ++axis) bytes *= (size_t)shape[axis];
  return bytes;
}
static inline size_t mace_input_bytes(const mace_instance *instance, int32_t index) {
  const int64_t *shape = mace_input_shape(instance, index);
  return shape == NULL ? 0 : mace_tensor_bytes(&instance->model->inputs[index], shape);
}
static inline size_t mace_output_bytes(const mace_instance *instance, int32_t index) {
  const int64_t *shape = mace_output_shape(instance, index);
  return shape == NULL ? 0 : mace_tensor_bytes(&instance->model->outputs[index], shape);
}

/* --- runs --- */

/* Compute the outputs.  Nothing is allocated.
 *
 * inputs, outputs: addresses of their elements, in the order of the model, aligned as the element type is.  They are
 * read and written in place, and must not overlap. */
static inline mace_status mace_run(mace_instance *instance, const void *const *inputs, void *const *outputs) {
  return instance == NULL ? MACE_ERROR_ARGUMENT : instance->model->run(instance, inputs, outputs, NULL, 0);
}

/* The same in a workspace of the caller, of any alignment, that nobody else uses meanwhile.
 *
 * bytes: at least mace_needed_workspace. */
static inline mace_status mace_run_in(mace_instance *instance, const void *const *inputs, void *const *outputs,
                                      void *workspace, size_t bytes) {
  if (instance == NULL || workspace == NULL) return MACE_ERROR_ARGUMENT;
  return instance->model->run(instance, inputs, outputs, workspace, bytes);
}

/* --- state --- */

/* How many inputs are state: 0 for a model that remembers nothing. */
static inline int32_t mace_state_count(const mace_model *model) {
  return model == NULL || model->minor < 1 ? 0 : model->state_count;
}

/* Fill the inputs that are state with what the first run of a stream is fed; the other inputs are not looked at.
 *
 * inputs: as of mace_run; the memory of state can be written to. */
static inline void mace_start_states(const mace_instance *instance, const void *const *inputs) {
  int32_t i;
  if (instance == NULL || inputs == NULL) return;
  for (i = 0; i < mace_state_count(instance->model); ++i) {
    const mace_state *state = &instance->model->states[i];
    const size_t bytes = mace_input_bytes(instance, state->input);
    char *memory = (char *)(uintptr_t)inputs[state->input];
    size_t at;
    if (memory == NULL) continue;
    if (state->start == NULL) memset(memory, 0, bytes);
    for (at = 0; state->start != NULL && at + (size_t)state->start_bytes <= bytes; at += (size_t)state->start_bytes)
      memcpy(memory + at, state->start, (size_t)state->start_bytes);
  }
}

/* Behind a run: let the next one go on from it.  The addresses of the two memories of each state change places, so that
 * nothing is copied; behind a run that failed, do not call it, and the state is what it was. */
static inline void mace_keep_states(const mace_instance *instance, const void **inputs, void **outputs) {
  int32_t i;
  if (instance == NULL || inputs == NULL || outputs == NULL) return;
  for (i = 0; i < mace_state_count(instance->model); ++i) {
    const mace_state *state = &instance->model->states[i];
    void *before = (void *)(uintptr_t)inputs[state->input];
    inputs[state->input] = outputs[state->output];
    outputs[state->output] = before;
  }
}

/* What the shapes of the next run need; at most mace_workspace_bytes. */
static inline size_t mace_needed_workspace(const mace_instance *instance) {
  return instance == NULL ? 0 : instance->model->needed_workspace(instance);
}

/* Let the run in progress come to an end soon (MACE_ERROR_CANCELLED).  From any thread; without effect on later runs. */
static inline void mace_cancel(mace_instance *instance) {
  if (instance != NULL) instance->model->cancel(instance);
}

/* Let `hook` hear of the steps of the next runs, which are slower by the reading of clocks; NULL ends that. */
static inline void mace_set_profile(mace_instance *instance, mace_profile_hook hook, void *user) {
  if (instance != NULL) instance->model->set_profile(instance, hook, user);
}

/* What went wrong with the latest call, as a sentence; "" where nothing did.  It stays until the next call. */
static inline const char *mace_error(mace_instance *instance) {
  return instance == NULL ? "there is no instance: it was not made" : instance->model->error(instance);
}

/* What a status means, where there is no instance to ask. */
static inline const char *mace_status_text(mace_status status) {
  switch (status) {
    case MACE_OK: return "all is well";
    case MACE_ERROR_ARGUMENT: return "a pointer is NULL or not aligned, or an index or a count does not exist";
    case MACE_ERROR_SHAPE: return "the model was not built for this shape";
    case MACE_ERROR_MEMORY: return "there is not enough memory";
    case MACE_ERROR_DATA: return "the content of an input is wrong";
    case MACE_ERROR_THREADS: return "the system started no more threads";
    case MACE_ERROR_CANCELLED: return "the run was cancelled";
    case MACE_ERROR_BUSY: return "the instance runs already";
    case MACE_ERROR_VERSION: return "the library is of another version than mace_runtime.h";
    case MACE_ERROR_WEIGHTS: return "the weights are in a file that was not given, or is not the one of the library";
    default: return "the status is unknown";
  }
}

#ifdef __cplusplus
}
#endif

#endif /* MACE_RUNTIME_H */
