/* Looks at a library whose weights are in a file: weights FILE OTHER SHORT BENT INNER OFFSET.
 *
 * OTHER is the file of another library; SHORT ends too early; one bit of BENT is wrong; INNER has FILE at OFFSET, which
 * is no multiple of 64.  Prints a line for each thing that was looked at. */
#include <stdio.h>
#include <string.h>

#include "mace_weights.h"

static float ran(const mace_model *model, const mace_weights *weights, mace_status *status) {
  float x[4] = {1, 2, 3, 4}, y[4] = {0, 0, 0, 0};
  const void *inputs[] = {x};
  void *outputs[] = {y};
  mace_instance *instance;
  *status = mace_create_with(model, weights->data, weights->bytes, 1, &instance);
  if (*status == MACE_OK) *status = mace_run(instance, inputs, outputs);
  mace_destroy(instance);
  return y[0] + y[1] + y[2] + y[3];
}

int main(int argc, char **argv) {
  static const char *const kinds[] = {"", "", "other", "short", "absent"};
  const mace_model *model = MODEL();
  static unsigned char memory[1 << 16];
  mace_weights weights;
  mace_instance *instance;
  mace_status status;
  float sum;
  int i, file;
  if (argc != 7) return 1;
  printf("without %d: %s\n", (int)mace_create(model, 1, &instance), instance == NULL ? "none" : "made");
  printf("map %d", (int)mace_map_weights(model, argv[1], &weights));
  printf(" check %d", (int)mace_check_weights(model, weights.data, weights.bytes));
  sum = ran(model, &weights, &status);
  printf(" run %d %g\n", (int)status, (double)sum);
  printf("one byte on %d\n", (int)mace_create_with(model, (const char *)weights.data + 1, weights.bytes, 1, &instance));
  printf("own memory %d", (int)mace_create_with_in(model, weights.data, weights.bytes, memory, sizeof memory, 1, &instance));
  printf(" %s\n", instance != NULL && (unsigned char *)instance >= memory ? "there" : "elsewhere");
  mace_destroy(instance);
  printf("too little %d\n",
         (int)mace_create_with_in(model, weights.data, weights.bytes, memory, 64, 1, &instance));
  mace_unmap_weights(&weights);
  for (i = 2; i < 5; ++i) {
    status = mace_map_weights(model, i == 4 ? "no-such-file" : argv[i], &weights);
    printf("%s %d %s\n", kinds[i], (int)status, weights.data == NULL ? "none" : "mapped");
  }
  printf("NULL %d %d\n", (int)mace_map_weights(model, NULL, &weights), (int)mace_map_weights(NULL, argv[1], &weights));
  printf("bent %d", (int)mace_map_weights(model, argv[4], &weights));
  printf(" check %d\n", (int)mace_check_weights(model, weights.data, weights.bytes));
  mace_unmap_weights(&weights);
  file = open(argv[5], O_RDONLY);
  printf("inner %d", (int)mace_map_weights_at(model, file, atoi(argv[6]), (int64_t)mace_weight_bytes(model), &weights));
  sum = ran(model, &weights, &status);
  printf(" run %d %g\n", (int)status, (double)sum);
  mace_unmap_weights(&weights);
  printf("behind the end %d\n",
         (int)mace_map_weights_at(model, file, atoi(argv[6]) + 1, (int64_t)mace_weight_bytes(model), &weights));
  return close(file);
}
