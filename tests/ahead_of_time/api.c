/* What mace_runtime.h promises besides right results, seen from C: prints one line for each thing that was looked at.
 *
 * The model has the inputs x: float32 2..64 x 4 and i: int64 2, and adds row i[0] of a table to x. */
#include <stdio.h>
#include <stdlib.h>

static int64_t sum_of_steps;

static void hook(void *user, const mace_step *step, int64_t begin_ns, int64_t end_ns) {
  *(int *)user += 1;
  sum_of_steps += end_ns >= begin_ns;
  printf("  %s: %s\n", step->name, step->nodes);
}

int main(void) {
  const mace_model *model = MODEL();
  mace_instance *instance = NULL, *second = NULL;
  float x[64 * 4], y[64 * 4], z[64 * 4];
  int64_t row[1] = {1}, small[2] = {3, 4}, large[2] = {65, 4};
  const int64_t *shapes[2] = {small, NULL};
  const void *inputs[2] = {x, row};
  void *outputs[1] = {y};
  int steps = 0, i;
  mace_status status;
  char *memory, *workspace;
  size_t bytes;

  for (i = 0; i < 64 * 4; ++i) x[i] = (float)i;
  printf("model %s for %s by %s\n", model->name, model->target, model->made_by);
  for (i = 0; i < model->input_count; ++i)
    printf("input %s type %d rank %d\n", model->inputs[i].name, model->inputs[i].type, model->inputs[i].rank);
  printf("find %d %d %d\n", mace_find_input(model, "i"), mace_find_output(model, "y"), mace_find_input(model, "y"));

  printf("create NULL %d\n", mace_create(NULL, 1, &instance));
  printf("create threads %d\n", mace_create(model, -1, &instance));
  status = mace_create(model, 2, &instance);
  printf("create %d %s\n", status, instance ? "made" : "none");
  printf("first shape %d\n", (int)mace_input_shape(instance, 0)[0]);
  printf("no shape %s\n", mace_output_shape(instance, 1) == NULL ? "NULL" : "there");

  shapes[0] = large;
  status = mace_set_shapes(instance, shapes);
  printf("too large %d: %s\n", status, mace_error(instance));
  printf("still %d\n", (int)mace_input_shape(instance, 0)[0]);
  shapes[0] = small;
  status = mace_set_shapes(instance, shapes);
  printf("small %d: '%s'\n", status, mace_error(instance));
  printf("output %d x %d, %d bytes\n", (int)mace_output_shape(instance, 0)[0], (int)mace_output_shape(instance, 0)[1],
         (int)mace_output_bytes(instance, 0));

  status = mace_run(instance, NULL, outputs);
  printf("no inputs %d: %s\n", status, mace_error(instance));
  inputs[1] = NULL;
  status = mace_run(instance, inputs, outputs);
  printf("NULL input %d: %s\n", status, mace_error(instance));
  inputs[1] = row;
  row[0] = 7;
  status = mace_run(instance, inputs, outputs);
  printf("bad row %d: %s\n", status, mace_error(instance));
  row[0] = 1;
  status = mace_run(instance, inputs, outputs);
  printf("run %d: '%s' %.1f %.1f\n", status, mace_error(instance), y[0], y[11]);

  mace_set_profile(instance, hook, &steps);
  printf("profiled %d\n", mace_run(instance, inputs, outputs));
  printf("steps %s\n", steps > 0 && sum_of_steps == steps ? "told" : "missing");
  mace_set_profile(instance, NULL, NULL);
  i = steps;
  status = mace_run(instance, inputs, outputs);
  printf("quiet %d %s\n", status, i == steps ? "yes" : "no");
  printf("threads %d", mace_set_threads(instance, 4));
  printf(" %d", mace_set_threads(instance, 1));
  status = mace_set_threads(instance, -2);
  printf(" %d: %s\n", status, mace_error(instance));

  bytes = mace_instance_bytes(model);
  memory = malloc(bytes + 1);
  printf("little memory %d\n", mace_create_in(model, memory + 1, bytes - 1, 1, &second));
  printf("own memory %d\n", mace_create_in(model, memory + 1, bytes, 1, &second));
  printf("shapes %d\n", mace_set_shapes(second, shapes));
  outputs[0] = z;
  if (mace_needed_workspace(second) > 64) printf("no workspace %d\n", mace_run(second, inputs, outputs));
  bytes = mace_needed_workspace(second);
  workspace = malloc(bytes + 3);
  printf("own workspace %d\n", mace_run_in(second, inputs, outputs, workspace + 3, bytes));
  printf("same %s\n", memcmp(y, z, sizeof(float) * 12) == 0 ? "yes" : "no");
  mace_destroy(second);
  mace_destroy(instance);
  mace_destroy(NULL);
  free(workspace);
  free(memory);
  return 0;
}
