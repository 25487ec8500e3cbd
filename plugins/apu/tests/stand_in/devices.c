// The one device, and memory from file descriptors.
#include <stdlib.h>
#include <sys/mman.h>

#include "memory.h"
#include "state.h"

struct NeuronDevice {
    const char *name;
};

static NeuronDevice device = {"stand-in (this CPU)"};

EXPORT int Neuron_getDeviceCount(uint32_t *count) {
    ENTER();
    if (!count)
        FAIL(UNEXPECTED_NULL, "no place for the number of devices");
    *count = 1;
    return NO_ERROR;
}

EXPORT int Neuron_getDevice(uint32_t index, NeuronDevice **found) {
    ENTER();
    if (!found)
        FAIL(UNEXPECTED_NULL, "no place for the device");
    if (index)
        FAIL(BAD_DATA, "there is no device %u", index);
    *found = &device;
    return NO_ERROR;
}

EXPORT int NeuronDevice_getName(const NeuronDevice *of, const char **name) {
    ENTER();
    if (!of || !name)
        FAIL(UNEXPECTED_NULL, "no device, or no place for its name");
    if (of != &device)
        FAIL(BAD_DATA, "not a device");
    *name = device.name;
    return NO_ERROR;
}

EXPORT int NeuronDevice_getDescription(const NeuronDevice *of, const char **text) {
    ENTER();
    if (!of || !text)
        FAIL(UNEXPECTED_NULL, "no device, or no place for its description");
    *text = "built by the tests of MACE; no hardware";
    return NO_ERROR;
}

EXPORT int Neuron_getL1MemorySizeKb(uint32_t *size) {
    ENTER();
    if (!size)
        FAIL(UNEXPECTED_NULL, "no place for the size");
    *size = 256;
    return NO_ERROR;
}

int check_devices(const NeuronDevice *const *devices, uint32_t count) {
    if (!devices)
        FAIL(UNEXPECTED_NULL, "no devices");
    if (count != 1 || devices[0] != &device)
        FAIL(BAD_DATA, "not the devices of this library, each once");
    return NO_ERROR;
}

EXPORT int NeuronMemory_createFromFd(size_t size, int protection, int fd, size_t offset, NeuronMemory **memory) {
    ENTER();
    if (!memory)
        FAIL(UNEXPECTED_NULL, "no place for the memory");
    *memory = NULL;
    void *address = mmap(NULL, size, protection, MAP_SHARED, fd, (off_t)offset);
    if (address == MAP_FAILED)
        FAIL(UNMAPPABLE, "descriptor %d cannot be mapped", fd);
    NeuronMemory *made = calloc(1, sizeof *made);
    if (!made)
        return OUT_OF_MEMORY;
    *made = (NeuronMemory){MEMORY, address, size};
    stand_in_count(1);
    *memory = made;
    return NO_ERROR;
}

EXPORT void NeuronMemory_free(NeuronMemory *memory) {
    if (memory && memory->magic == MEMORY) {
        munmap(memory->address, memory->size);
        memory->magic = 0;
        stand_in_count(-1);
        free(memory);
    }
}
