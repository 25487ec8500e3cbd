/* A stream through a model that keeps state, twice: prints what each run gives, and what the state begins with. */
#include <stdio.h>

#include "mace_runtime.h"

int main(void) {
  const mace_model *model = MODEL();
  float memory[4][2] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
  const void *inputs[2];
  void *outputs[2];
  mace_instance *instance;
  int32_t state;
  int stream, i;
  if (mace_create(model, 1, &instance) != MACE_OK || mace_state_count(model) != 1) return 1;
  state = model->states[0].input;
  for (i = 0; i < 2; ++i) inputs[i] = memory[i];
  for (i = 0; i < 2; ++i) outputs[i] = memory[2 + i];
  for (stream = 0; stream < 2; ++stream) {
    mace_start_states(instance, inputs);
    printf("from %g %g:", (double)((const float *)inputs[state])[0], (double)((const float *)inputs[state])[1]);
    for (i = 1; i < 4; ++i) {
      memory[mace_find_input(model, "x")][0] = (float)i;
      if (mace_run(instance, inputs, outputs) != MACE_OK) return 1;
      printf(" %g", (double)((const float *)outputs[mace_find_output(model, "twice")])[0]);
      mace_keep_states(instance, inputs, outputs);
    }
    printf("\n");
  }
  mace_destroy(instance);
  return 0;
}
