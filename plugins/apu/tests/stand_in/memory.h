// Memory that a client shares through a file descriptor.
#pragma once

#include "adapter.h"

struct NeuronMemory {
    uint32_t magic;
    void *address;
    size_t size;
};

int check_devices(const NeuronDevice *const *devices, uint32_t count);
