/* How a C program gives a library its weights where they are in a file: `mace compile --weights file`.
 *
 *     mace_weights weights;
 *     mace_status status = mace_map_weights(rec_model(), "rec.weights", &weights);
 *     if (status == MACE_OK) status = mace_create_with(rec_model(), weights.data, weights.bytes, 4, &instance);
 *     ...
 *     mace_destroy(instance);
 *     mace_unmap_weights(&weights);
 *
 * The file is mapped: processes share it, and the system reads what is used. Models of one library share one file.
 * Whoever replaces it while it is mapped renames a new one over it: where a file gets shorter, a run that reads what is
 * no longer there ends the program (SIGBUS).
 * On Android, AAsset_openFileDescriptor gives what mace_map_weights_at takes, of an asset that is stored uncompressed.
 */
#ifndef MACE_WEIGHTS_H
#define MACE_WEIGHTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "mace_runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mace_weights {
  const void *data; /* NULL where the library has its weights in it */
  size_t bytes;
  void *block; /* what is mapped, or allocated */
  size_t mapped_bytes; /* 0 where it is allocated */
} mace_weights;

/* Give the memory back; after mace_destroy of all instances. */
static inline void mace_unmap_weights(mace_weights *weights) {
  static const mace_weights none = {NULL, 0, NULL, 0};
  if (weights == NULL) return;
  if (weights->mapped_bytes != 0)
    munmap(weights->block, weights->mapped_bytes);
  else
    free(weights->block);
  *weights = none;
}

/* Read what cannot be mapped, since it lies at an address of the file that is no multiple of 64. */
static inline mace_status mace_read_weights(int file, off_t offset, size_t bytes, mace_weights *weights) {
  size_t done = 0;
  char *data;
  weights->block = malloc(bytes + 63);
  if (weights->block == NULL) return MACE_ERROR_MEMORY;
  data = (char *)weights->block + (64 - (uintptr_t)weights->block % 64) % 64;
  if (lseek(file, offset, SEEK_SET) != offset) return MACE_ERROR_WEIGHTS;
  while (done < bytes) {
    const ssize_t count = read(file, data + done, bytes - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return MACE_ERROR_WEIGHTS;
    done += (size_t)count;
  }
  weights->data = data;
  return MACE_OK;
}

/* No weights yet, and whether the library may have some. */
static inline mace_status mace_begin_weights(const mace_model *model, mace_weights *weights) {
  if (weights == NULL) return MACE_ERROR_ARGUMENT;
  weights->data = weights->block = NULL;
  weights->bytes = weights->mapped_bytes = 0;
  if (model == NULL) return MACE_ERROR_ARGUMENT;
  return model->major == MACE_RUNTIME_MAJOR ? MACE_OK : MACE_ERROR_VERSION;
}

/* Map the weights of a library, which are a part of an open file, and compare their head with the library.
 *
 * offset, bytes: where they lie in the file. The file may be closed afterwards. MACE_ERROR_WEIGHTS where the file is not
 * that of the library, or too short. `*weights` is empty unless the answer is MACE_OK. */
static inline mace_status mace_map_weights_at(const mace_model *model, int file, int64_t offset, int64_t bytes,
                                              mace_weights *weights) {
  const int before = errno;
  mace_status status = mace_begin_weights(model, weights);
  struct stat facts;
  if (status != MACE_OK || mace_weight_bytes(model) == 0) return status;
  if (bytes < 0 || (uint64_t)bytes != mace_weight_bytes(model) || offset < 0 || (int64_t)(off_t)offset != offset ||
      fstat(file, &facts) != 0 || (int64_t)facts.st_size - bytes < offset) {
    errno = before;
    return MACE_ERROR_WEIGHTS;
  }
  weights->bytes = (size_t)bytes;
  if (offset % 64 == 0) {
    const size_t lead = (size_t)(offset % (int64_t)sysconf(_SC_PAGESIZE));
    void *block = mmap(NULL, lead + weights->bytes, PROT_READ, MAP_PRIVATE, file, (off_t)offset - (off_t)lead);
    if (block != MAP_FAILED) {
      weights->block = block;
      weights->mapped_bytes = lead + weights->bytes;
      weights->data = (const char *)block + lead;
    }
  }
  if (weights->data == NULL) status = mace_read_weights(file, (off_t)offset, weights->bytes, weights);
  if (status == MACE_OK) status = mace_match_weights(model, weights->data, weights->bytes);
  if (status != MACE_OK) mace_unmap_weights(weights);
  errno = before;
  return status;
}

/* The same of a whole file. Models that have their weights in them need none: `path` is not looked at. */
static inline mace_status mace_map_weights(const mace_model *model, const char *path, mace_weights *weights) {
  const int before = errno;
  mace_status status = mace_begin_weights(model, weights);
  struct stat facts;
  int file;
  if (status != MACE_OK || mace_weight_bytes(model) == 0) return status;
  if (path == NULL) return MACE_ERROR_ARGUMENT;
  /* a pipe of that name would keep it waiting */
#ifdef O_CLOEXEC
  file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
#else
  file = open(path, O_RDONLY | O_NONBLOCK);
#endif
  status = MACE_ERROR_WEIGHTS;
  if (file >= 0) {
    if (fstat(file, &facts) == 0) status = mace_map_weights_at(model, file, 0, (int64_t)facts.st_size, weights);
    close(file);
  }
  errno = before;
  return status;
}

#ifdef __cplusplus
}
#endif

#endif /* MACE_WEIGHTS_H */
