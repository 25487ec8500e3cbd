/* Runs a model of a library: driver THREADS REPEATS OUTPUT.bin [SHAPE...] < INPUTS.
 *
 * Standard input holds all inputs, one after the other; all outputs are written to a file.  SHAPE is one text for each
 * input ("1,3,48,320"), or "-" to leave it.  It prints the shapes of the outputs, and how long it took. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void hook(void *user, const mace_step *step, int64_t begin_ns, int64_t end_ns) {
  int64_t *total = (int64_t *)user;
  *total += end_ns - begin_ns;
  printf("step %s | %s | %" PRId64 "\n", step->name, step->nodes, end_ns - begin_ns);
}

static int fail(const char *what, mace_status status, mace_instance *instance) {
  printf("%s: %d: %s\n", what, (int)status, instance ? mace_error(instance) : mace_status_text(status));
  return 1;
}

int main(int argc, char **argv) {
  const mace_model *model = MODEL();
  mace_instance *instance;
  const void *inputs[64];
  void *outputs[64];
  const int64_t *shapes[64];
  int64_t dims[64][16];
  int32_t i;
  double start = now(), ready, best = 1e30;
  mace_status status = mace_create(model, atoi(argv[1]), &instance);
  ready = now();
  if (status != MACE_OK) return fail("create", status, NULL);
  if (argc > 4) {
    for (i = 0; i < model->input_count; ++i) {
      char *text = argv[4 + i];
      int32_t rank = 0;
      shapes[i] = NULL;
      if (text[0] == '-') continue;
      shapes[i] = dims[i];
      while (*text) {
        dims[i][rank++] = strtoll(text, &text, 10);
        if (*text == ',') ++text;
      }
    }
    status = mace_set_shapes(instance, shapes);
    if (status != MACE_OK) return fail("shapes", status, instance);
  }
  for (i = 0; i < model->input_count; ++i) {
    size_t bytes = mace_input_bytes(instance, i);
    void *memory = malloc(bytes ? bytes : 1);
    if (fread(memory, 1, bytes, stdin) != bytes) return printf("input %s is short\n", model->inputs[i].name);
    inputs[i] = memory;
  }
  for (i = 0; i < model->output_count; ++i) {
    size_t bytes = mace_output_bytes(instance, i);
    outputs[i] = malloc(bytes ? bytes : 1);
  }
  for (i = 0; i < atoi(argv[2]); ++i) {
    double begin = now(), took;
    status = mace_run(instance, inputs, outputs);
    took = now() - begin;
    if (status != MACE_OK) return fail("run", status, instance);
    if (took < best) best = took;
  }
  {
    FILE *file = fopen(argv[3], "wb");
    for (i = 0; i < model->output_count; ++i) {
      const int64_t *shape = mace_output_shape(instance, i);
      int32_t axis;
      fwrite(outputs[i], 1, mace_output_bytes(instance, i), file);
      printf("output %s", model->outputs[i].name);
      for (axis = 0; axis < model->outputs[i].rank; ++axis) printf(" %" PRId64, shape[axis]);
      printf("\n");
    }
    fclose(file);
  }
  printf("create %.3f ms, best %.3f ms, instance %zu, workspace %zu\n", ready - start, best, mace_instance_bytes(model),
         mace_needed_workspace(instance));
  if (getenv("PROFILE")) {
    int64_t total = 0;
    mace_set_profile(instance, hook, &total);
    status = mace_run(instance, inputs, outputs);
    if (status != MACE_OK) return fail("run", status, instance);
    printf("steps %.3f ms\n", (double)total * 1e-6);
  }
  mace_destroy(instance);
  return 0;
}
