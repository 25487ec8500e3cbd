// What runs on the calling thread and runs in the background share.
#pragma once

#include "state.h"

struct NeuronExecution {
    uint32_t magic;
    NeuronCompilation *compilation;
    const void **inputs;
    void **outputs;
    bool is_running;
};

int check_execution(const NeuronExecution *execution);
int begin_execution(NeuronExecution *execution);  // it is running from now on
int compute(const NeuronExecution *execution);
