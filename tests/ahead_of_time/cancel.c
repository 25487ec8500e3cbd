/* Cancels runs from another thread: prints the status of a run that was cancelled and of the next one.
 *
 * Usage: cancel [NUMBER]: what the first element of the input, of 64 bits, is in the run that is cancelled; else 0. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile int is_running;

static void *canceller(void *instance) {
  struct timespec pause = {0, 1000000};
  while (is_running) {
    nanosleep(&pause, NULL);
    mace_cancel((mace_instance *)instance);
  }
  return NULL;
}

int main(int argc, char **argv) {
  const mace_model *model = MODEL();
  mace_instance *instance;
  pthread_t thread;
  const void *inputs[1];
  void *outputs[1];
  int64_t *first;
  mace_status status = mace_create(model, 2, &instance);
  if (status != MACE_OK) return 1;
  inputs[0] = first = calloc(1, mace_input_bytes(instance, 0));
  outputs[0] = calloc(1, mace_output_bytes(instance, 0));
  if (argc > 1) *first = atoll(argv[1]);
  is_running = 1;
  pthread_create(&thread, NULL, canceller, instance);
  status = mace_run(instance, inputs, outputs);
  printf("cancelled %d: %s\n", status, mace_error(instance));
  is_running = 0;
  pthread_join(thread, NULL);
  *first = 0;
  status = mace_run(instance, inputs, outputs);
  printf("again %d: '%s'\n", status, mace_error(instance));
  mace_destroy(instance);
  return 0;
}
