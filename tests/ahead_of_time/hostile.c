/* Calls that mean nothing, each of which has to be told with a status, and the instance goes on: prints a line for each.
 *
 * The model is that of api.c with more columns, so that its work is split among threads. Built with sanitizers, too: what a call touches that it may not ends the program. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROWS 64
#define COLUMNS 256

static float x[ROWS * COLUMNS + 1], y[ROWS * COLUMNS + 1], right[ROWS * COLUMNS];
static int64_t row[2] = {1, 1};
static const mace_model *model;
static int is_over;

static int is_right(mace_instance *instance) {
  const void *inputs[2] = {x, row};
  void *outputs[1] = {y};
  memset(y, 0, sizeof y);
  return mace_run(instance, inputs, outputs) == MACE_OK && memcmp(y, right, sizeof right) == 0;
}

static void told(const char *what, mace_status status, mace_instance *instance) {
  printf("%s %d: %s\n", what, (int)status, mace_error(instance));
}

/* Nothing was made: what a program does that looks at no status. */
static void without_an_instance(void) {
  mace_instance *none = NULL;
  const void *inputs[2] = {NULL, NULL};
  void *outputs[1] = {NULL};
  char memory[64];
  const mace_status statuses[] = {
      mace_create(model, 1, NULL),
      mace_create(NULL, 1, &none),
      mace_create_in(model, NULL, 0, 1, &none),
      mace_create_in(model, memory, 0, 1, &none),
      mace_create_in(NULL, memory, 64, 1, &none),
      mace_create_with(NULL, NULL, 0, 1, &none),
      mace_create_with(model, memory, 64, 1, &none),
      mace_create_with_in(model, NULL, 0, NULL, 0, 1, &none),
      mace_create_with_in(model, NULL, 0, memory, 64, 1, NULL),
      mace_run(none, inputs, outputs),
      mace_run_in(none, inputs, outputs, memory, 64),
      mace_set_shapes(none, NULL),
      mace_set_threads(none, 1),
      mace_match_weights(NULL, NULL, 0),
      mace_check_weights(NULL, memory, 64),
  };
  size_t i;
  printf("nothing made");
  for (i = 0; i < sizeof statuses / sizeof *statuses; ++i) printf(" %d", (int)statuses[i]);
  printf(" %s\n", none == NULL ? "none" : "made");
  mace_cancel(none);
  mace_set_profile(none, NULL, NULL);
  mace_start_states(none, inputs);
  mace_keep_states(none, inputs, outputs);
  mace_destroy(none);
  printf("sizes %d %d %d %d %d %d %d\n", (int)mace_needed_workspace(none), (int)mace_input_bytes(none, 0),
         (int)mace_output_bytes(none, 0), (int)mace_instance_bytes(NULL), (int)mace_workspace_bytes(NULL),
         (int)mace_weight_bytes(NULL), (int)mace_state_count(NULL));
  printf("shapes %s %s\n", mace_input_shape(none, 0) ? "there" : "NULL", mace_output_shape(none, 0) ? "there" : "NULL");
  printf("find %d %d %d\n", mace_find_input(NULL, "x"), mace_find_output(NULL, "y"), mace_find_input(model, NULL));
  printf("error %s\n", mace_error(none));
}

static void bad_calls(mace_instance *instance) {
  static const int64_t sizes[][2] = {{0, 256}, {-1, 256}, {1, 256}, {65, 256}, {3, 257}, {INT64_MAX, 256}, {INT64_MIN, 256}, {3, 0}};
  const void *inputs[2] = {x, row};
  void *outputs[1] = {y};
  const int64_t *shapes[2] = {NULL, NULL};
  const int64_t two[1] = {2};
  char small[8];
  size_t i;
  printf("shapes");
  for (i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
    shapes[0] = sizes[i];
    printf(" %d", (int)mace_set_shapes(instance, shapes));
  }
  shapes[0] = NULL;
  shapes[1] = two;
  printf(" %d", (int)mace_set_shapes(instance, shapes));
  shapes[1] = NULL;
  printf(" %d %d", (int)mace_set_shapes(instance, shapes), (int)mace_set_shapes(instance, NULL));
  printf(" still %d\n", (int)mace_input_shape(instance, 0)[0]);
  printf("indices %d %d %d %d\n", mace_input_shape(instance, -1) == NULL, mace_input_shape(instance, 2) == NULL,
         mace_input_shape(instance, INT32_MIN) == NULL, mace_output_bytes(instance, INT32_MAX) == 0);
  told("no outputs", mace_run(instance, inputs, NULL), instance);
  inputs[0] = (const char *)x + 1;
  told("odd input", mace_run(instance, inputs, outputs), instance);
  inputs[0] = x;
  inputs[1] = (const char *)row + 4;
  told("half an integer", mace_run(instance, inputs, outputs), instance);
  inputs[1] = row;
  outputs[0] = (char *)y + 2;
  told("odd output", mace_run(instance, inputs, outputs), instance);
  outputs[0] = NULL;
  told("NULL output", mace_run(instance, inputs, outputs), instance);
  outputs[0] = y;
  printf("no workspace %d\n", (int)mace_run_in(instance, inputs, outputs, NULL, 1 << 20));
  printf("small workspace %d\n", (int)mace_run_in(instance, inputs, outputs, small, sizeof small));
  printf("endless workspace %d\n", (int)mace_run_in(instance, inputs, outputs, (void *)UINTPTR_MAX, SIZE_MAX));
  row[0] = INT64_MIN;
  printf("bad row %d\n", (int)mace_run(instance, inputs, outputs));
  row[0] = 1;
  printf("afterwards %s", is_right(instance) ? "right" : "wrong");
  printf(" '%s'\n", mace_error(instance));
}

static void many_threads(void) {
  static const int32_t counts[] = {0, 1, 2, 64, 1000, INT32_MAX, -1, INT32_MIN};
  mace_instance *instance;
  size_t i;
  for (i = 0; i < sizeof counts / sizeof *counts; ++i) {
    const mace_status status = mace_create(model, counts[i], &instance);
    printf("%d threads %d", (int)counts[i], (int)status);
    if (status == MACE_OK)
      printf(" %s, again %d\n", is_right(instance) ? "right" : "wrong", (int)mace_set_threads(instance, counts[i]));
    else
      printf(" %s\n", instance == NULL ? "none" : "made");
    mace_destroy(instance);
  }
}

/* One thread runs an instance, and others meanwhile do with it all that they may, and what they may not. */
static void *disturb(void *instance) {
  const int64_t *shapes[2] = {NULL, NULL};
  int32_t threads = 0;
  while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
    mace_cancel(instance);
    mace_set_threads(instance, threads = (threads + 1) % 5);
    mace_set_shapes(instance, shapes); /* no other ones: the buffers are for the present shapes */
    mace_input_shape(instance, 0);
    mace_needed_workspace(instance);
  }
  return NULL;
}

static void disturbed(mace_instance *instance) {
  const void *inputs[2] = {x, row};
  void *outputs[1] = {y};
  pthread_t threads[2];
  int i, others = 0;
  __atomic_store_n(&is_over, 0, __ATOMIC_RELEASE);
  for (i = 0; i < 2; ++i) pthread_create(&threads[i], NULL, disturb, instance);
  for (i = 0; i < 2000; ++i) {
    const mace_status status = mace_run(instance, inputs, outputs);
    if (status == MACE_OK ? memcmp(y, right, sizeof right) != 0
                          : status != MACE_ERROR_CANCELLED && status != MACE_ERROR_BUSY)
      ++others;
  }
  __atomic_store_n(&is_over, 1, __ATOMIC_RELEASE);
  for (i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  printf("disturbed, wrong %d, afterwards %s\n", others, is_right(instance) ? "right" : "wrong");
}

static void *create_and_run(void *answer) {
  const void *inputs[2] = {x, row};
  float *own = malloc(sizeof right);
  void *outputs[1];
  mace_instance *instance;
  int i, wrong = 0;
  outputs[0] = own;
  for (i = 0; i < 50; ++i) {
    if (mace_create(model, i % 5, &instance) != MACE_OK) {
      ++wrong;
      continue;
    }
    wrong += mace_run(instance, inputs, outputs) != MACE_OK || memcmp(own, right, sizeof right) != 0;
    mace_destroy(instance);
  }
  free(own);
  *(int *)answer = wrong;
  return NULL;
}

static void many_instances(void) {
  pthread_t threads[8];
  int wrong[8], i, sum = 0;
  for (i = 0; i < 8; ++i) pthread_create(&threads[i], NULL, create_and_run, &wrong[i]);
  for (i = 0; i < 8; ++i) {
    pthread_join(threads[i], NULL);
    sum += wrong[i];
  }
  printf("many instances, wrong %d\n", sum);
}

/* The child has the memory of an instance, and none of its threads. */
static void forked(mace_instance *instance) {
  int status = -1;
  pid_t child;
  fflush(stdout);
  child = fork();
  if (child == 0) {
    int wrong = !is_right(instance);
#ifndef __SANITIZE_THREAD__ /* it does not understand threads of children */
    mace_instance *own = NULL;
    wrong += mace_create(model, 3, &own) != MACE_OK || !is_right(own);
    mace_destroy(own);
    wrong += mace_set_threads(instance, 3) != MACE_OK || !is_right(instance);
#endif
    mace_destroy(instance);
    _exit(wrong);
  }
  waitpid(child, &status, 0);
  printf("forked %d", status);
  fflush(stdout);
  child = fork();
  if (child == 0) {
    mace_destroy(instance); /* whose threads were never here */
    _exit(0);
  }
  waitpid(child, &status, 0);
  printf(" %d, afterwards %s\n", status, is_right(instance) ? "right" : "wrong");
}

int main(void) {
  mace_instance *instance;
  int i;
  model = MODEL();
  for (i = 0; i < ROWS * COLUMNS; ++i) x[i] = (float)i;
  if (mace_create(model, 3, &instance) != MACE_OK) return 1;
  is_right(instance);
  memcpy(right, y, sizeof right);
  if (right[0] != COLUMNS || right[5] != COLUMNS + 10) return 2;
  without_an_instance();
  bad_calls(instance);
  many_threads();
  disturbed(instance);
  many_instances();
  forked(instance);
  mace_destroy(instance);
  return 0;
}
