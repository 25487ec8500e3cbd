// What the stand-in keeps about models, compilations and executions.
#pragma once

#include "adapter.h"

typedef struct {
    int32_t type;
    uint32_t rank, dims[MAX_RANK];
    float scale;
    int32_t zero_point;
    uint32_t channel_axis, channel_count;
    float *channel_scales;
    const void *value;  // of a constant: the stand-in's copy, or the caller's until the compilation is finished
    size_t length;
    void *owned;
    float *real;  // of a constant of a finished compilation: its numbers
    bool is_input, is_output, is_made;
    int last_use;
} Operand;

typedef struct {
    int32_t type;
    uint32_t input_count, output_count;
    uint32_t *inputs, *outputs;
} Operation;

struct NeuronModel {
    uint32_t magic;
    Operand *operands;
    uint32_t operand_count;
    Operation *operations;
    uint32_t operation_count;
    uint32_t *inputs, *outputs;
    uint32_t input_count, output_count;
    bool identified, finished, relaxed, restored;
    int users;
};

struct NeuronCompilation {
    uint32_t magic;
    NeuronModel *model;
    bool finished, restored;
    int executions;
};

enum { MODEL = 0x4d4f444c, COMPILATION = 0x434f4d50, EXECUTION = 0x45584543, MEMORY = 0x4d454d4f, EVENT = 0x45564e54 };

// --- faults and messages

int stand_in_fault(const char *what);  // the code that this is to fail with, which is no function of the interface
int stand_in_enter(const char *function);  // the code that this function is to fail with, 0 for none
int stand_in_refused(int32_t operation);
int stand_in_complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define ENTER()                                                \
    do {                                                       \
        int fault_ = stand_in_enter(__func__);                 \
        if (fault_)                                            \
            return stand_in_complain(fault_, "told to fail");  \
    } while (0)

#define FAIL(code, ...) return (void)stand_in_complain(code, __VA_ARGS__), (code)

#define TRY(expression)          \
    do {                         \
        int code_ = expression;  \
        if (code_)               \
            return code_;        \
    } while (0)

void stand_in_count(int change);  // objects that exist

// --- models

bool is_model(const NeuronModel *model);
size_t element_bytes(int32_t type);  // 0 for a type that is not known here
size_t element_count(const Operand *operand);
bool is_scalar(int32_t type);
bool is_quantized(int32_t type);
void free_model_content(NeuronModel *model);
int check_model(NeuronModel *model);  // every operation with its operands

// --- numbers

void to_real(const Operand *operand, const void *raw, float *real);
void from_real(const Operand *operand, const float *real, void *raw);
void settle(const Operand *operand, float *real, bool relaxed);  // as the operand's type can hold them
