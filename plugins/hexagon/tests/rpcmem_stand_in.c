/* A stand-in for Qualcomm's libcdsprpc.so, for tests: memory with a descriptor, of the kernel's own kind.  It checks
 * what it is given, counts what it has given, and can be told to have no memory.  No DSP has anything to do with it. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEAP_SYSTEM = 25, CACHED = 1, MOST = 256 };

static struct {
    void *address;
    size_t size;
    int descriptor;
} blocks[MOST];

static int refuses;

void *rpcmem_alloc(int heap, uint32_t flags, int size) {
    if (refuses || heap != HEAP_SYSTEM || flags != CACHED || size <= 0) return NULL;
    for (int i = 0; i < MOST; i++) {
        if (blocks[i].address) continue;
        int descriptor = memfd_create("rpcmem stand-in", MFD_CLOEXEC);
        if (descriptor < 0 || ftruncate(descriptor, size) != 0) return NULL;
        void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (address == MAP_FAILED) {
            close(descriptor);
            return NULL;
        }
        blocks[i].address = address;
        blocks[i].size = size;
        blocks[i].descriptor = descriptor;
        return address;
    }
    return NULL;
}

void rpcmem_free(void *address) {
    for (int i = 0; i < MOST; i++) {
        if (blocks[i].address != address) continue;
        munmap(address, blocks[i].size);
        close(blocks[i].descriptor);
        blocks[i].address = NULL;
        return;
    }
}

int rpcmem_to_fd(void *address) {
    for (int i = 0; i < MOST; i++) {
        if (blocks[i].address == address) return blocks[i].descriptor;
    }
    return -1;
}

/* Only the stand-in has these. */

int stand_in_blocks(void) {
    int count = 0;
    for (int i = 0; i < MOST; i++) count += blocks[i].address != NULL;
    return count;
}

void stand_in_refuse(int refuse) { refuses = refuse; }
