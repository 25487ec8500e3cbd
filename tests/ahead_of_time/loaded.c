/* Loads one library for good and another again and again, while threads run what the first one has.
 *
 * Usage: loaded FIRST.so FIRST_model SECOND.so SECOND_model. Prints how many runs were wrong. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "mace_runtime.h"

#define MOST_INPUTS 4

typedef const mace_model *(*model_function)(void);

static int is_over;

static const mace_model *model_of(void *library, const char *name) {
  model_function function;
  *(void **)&function = dlsym(library, name);
  return function();
}

/* Whether a run fails, or gives anything but the first one did. */
static int is_wrong(mace_instance *instance, void **first) {
  const mace_model *model = instance->model;
  const void *inputs[MOST_INPUTS];
  const size_t bytes = mace_output_bytes(instance, 0);
  void *outputs[1];
  int32_t i;
  int wrong;
  for (i = 0; i < model->input_count; ++i) {
    float *memory = calloc(1, mace_input_bytes(instance, i));
    const size_t count = mace_input_bytes(instance, i) / sizeof(float);
    size_t k;
    for (k = 0; model->inputs[i].type == MACE_FLOAT32 && k < count; ++k) memory[k] = (float)(k % 7);
    inputs[i] = memory;
  }
  outputs[0] = malloc(bytes);
  wrong = mace_run(instance, inputs, outputs) != MACE_OK;
  if (*first == NULL) {
    *first = outputs[0];
  } else {
    wrong |= memcmp(*first, outputs[0], bytes) != 0;
    free(outputs[0]);
  }
  for (i = 0; i < model->input_count; ++i) free((void *)(uintptr_t)inputs[i]);
  return wrong;
}

static void *use(void *model) {
  uintptr_t wrong = 0, runs = 0;
  mace_instance *instance;
  void *first = NULL;
  if (mace_create(model, 3, &instance) != MACE_OK) return (void *)1;
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE) || runs < 10) {
    wrong += (uintptr_t)is_wrong(instance, &first);
    ++runs;
  }
  mace_destroy(instance);
  free(first);
  return (void *)wrong;
}

int main(int argc, char **argv) {
  void *first, *second, *kept = NULL, *answer;
  mace_instance *instance;
  pthread_t threads[3];
  uintptr_t wrong = 0;
  int i;
  if (argc != 5 || (first = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL)) == NULL) return 1;
  for (i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, use, (void *)(uintptr_t)model_of(first, argv[2]));
  for (i = 0; i < 100; ++i) {
    second = dlopen(argv[3], RTLD_NOW | (i % 2 ? RTLD_GLOBAL : RTLD_LOCAL));
    if (second == NULL || mace_create(model_of(second, argv[4]), i % 4, &instance) != MACE_OK) return 1;
    wrong += (uintptr_t)is_wrong(instance, &kept);
    mace_destroy(instance);
    dlclose(second);
  }
  free(kept);
  __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
  for (i = 0; i < 3; ++i) {
    pthread_join(threads[i], &answer);
    wrong += (uintptr_t)answer;
  }
  dlclose(first);
  printf("wrong %d\n", (int)wrong);
  return 0;
}
