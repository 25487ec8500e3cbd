// Executions: bound inputs and outputs, and the run itself.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "execution.h"
#include "memory.h"
#include "state.h"
#include "table.h"

int check_execution(const NeuronExecution *execution) {
    if (!execution)
        FAIL(UNEXPECTED_NULL, "no execution");
    if (execution->magic != EXECUTION)
        FAIL(BAD_DATA, "not an execution");
    return NO_ERROR;
}

static int check_idle(const NeuronExecution *execution) {
    TRY(check_execution(execution));
    if (execution->is_running)
        FAIL(BAD_STATE, "the execution runs");
    return NO_ERROR;
}

EXPORT int NeuronExecution_create(NeuronCompilation *compilation, NeuronExecution **execution) {
    ENTER();
    if (!execution)
        FAIL(UNEXPECTED_NULL, "no place for the execution");
    *execution = NULL;
    if (!compilation)
        FAIL(UNEXPECTED_NULL, "no compilation");
    if (compilation->magic != COMPILATION)
        FAIL(BAD_DATA, "not a compilation");
    if (!compilation->finished)
        FAIL(BAD_STATE, "the compilation is not finished");
    NeuronExecution *made = calloc(1, sizeof *made);
    if (!made)
        return OUT_OF_MEMORY;
    made->magic = EXECUTION;
    made->compilation = compilation;
    made->inputs = calloc(compilation->model->input_count + 1, sizeof *made->inputs);
    made->outputs = calloc(compilation->model->output_count + 1, sizeof *made->outputs);
    __atomic_add_fetch(&compilation->executions, 1, __ATOMIC_RELAXED);
    stand_in_count(1);
    *execution = made;
    return NO_ERROR;
}

EXPORT void NeuronExecution_free(NeuronExecution *execution) {
    if (!execution || execution->magic != EXECUTION)
        return;
    __atomic_sub_fetch(&execution->compilation->executions, 1, __ATOMIC_RELAXED);
    stand_in_count(-1);
    free(execution->inputs);
    free(execution->outputs);
    execution->magic = 0;
    free(execution);
}

static int check_bound(
    const NeuronModel *model, int64_t index, const uint32_t *operands, uint32_t count, const OperandType *type,
    const void *buffer, size_t length
) {
    if (index < 0 || index >= count)
        FAIL(BAD_DATA, "there is no input or output %lld", (long long)index);
    if (type)
        FAIL(BAD_DATA, "a type is given, which only NULL may be");
    if (!buffer)
        FAIL(UNEXPECTED_NULL, "no buffer");
    const Operand *operand = &model->operands[operands[index]];
    size_t needed = element_count(operand) * element_bytes(operand->type);
    if (length != needed)
        FAIL(BAD_DATA, "input or output %lld has %zu bytes, not %zu", (long long)index, needed, length);
    return NO_ERROR;
}

static int bind_input(NeuronExecution *execution, int64_t index, const OperandType *type, const void *at, size_t length) {
    const NeuronModel *model = execution->compilation->model;
    TRY(check_bound(model, index, model->inputs, model->input_count, type, at, length));
    execution->inputs[index] = at;
    return NO_ERROR;
}

static int bind_output(NeuronExecution *execution, int64_t index, const OperandType *type, void *at, size_t length) {
    const NeuronModel *model = execution->compilation->model;
    TRY(check_bound(model, index, model->outputs, model->output_count, type, at, length));
    execution->outputs[index] = at;
    return NO_ERROR;
}

EXPORT int NeuronExecution_setInput(
    NeuronExecution *execution, int32_t index, const OperandType *type, const void *buffer, size_t length
) {
    ENTER();
    TRY(check_idle(execution));
    return bind_input(execution, index, type, buffer, length);
}

EXPORT int NeuronExecution_setOutput(
    NeuronExecution *execution, int32_t index, const OperandType *type, void *buffer, size_t length
) {
    ENTER();
    TRY(check_idle(execution));
    return bind_output(execution, index, type, buffer, length);
}

static int check_memory(const NeuronMemory *memory, size_t offset, size_t length) {
    if (!memory)
        FAIL(UNEXPECTED_NULL, "no memory");
    if (memory->magic != MEMORY || offset > memory->size || length > memory->size - offset)
        FAIL(BAD_DATA, "not a memory, or a part that it does not have");
    return NO_ERROR;
}

EXPORT int NeuronExecution_setInputFromMemory(
    NeuronExecution *execution, uint32_t index, const OperandType *type, const NeuronMemory *memory, size_t offset,
    size_t length
) {
    ENTER();
    TRY(check_idle(execution));
    TRY(check_memory(memory, offset, length));
    return bind_input(execution, index, type, (char *)memory->address + offset, length);
}

EXPORT int NeuronExecution_setOutputFromMemory(
    NeuronExecution *execution, uint32_t index, const OperandType *type, const NeuronMemory *memory, size_t offset,
    size_t length
) {
    ENTER();
    TRY(check_idle(execution));
    TRY(check_memory(memory, offset, length));
    return bind_output(execution, index, type, (char *)memory->address + offset, length);
}

static int last_boost = -1;

EXPORT int stand_in_boost(void) { return last_boost; }

EXPORT int NeuronExecution_setBoostHint(NeuronExecution *execution, uint8_t percent) {
    ENTER();
    TRY(check_idle(execution));
    if (percent > 100)
        FAIL(BAD_DATA, "a boost of %u", percent);
    last_boost = percent;
    return NO_ERROR;
}

static int run_operation(const NeuronModel *model, const Operation *operation, float **numbers) {
    Call call;
    TRY(describe_call(&call, model, operation));
    for (uint32_t i = 0; i < operation->output_count; i++) {
        uint32_t index = operation->outputs[i];
        numbers[index] = calloc(element_count(&model->operands[index]), sizeof(float));
        if (!numbers[index])
            return OUT_OF_MEMORY;
        call.outputs[i].data = numbers[index];
    }
    for (uint32_t i = 0; i < operation->input_count; i++)
        call.inputs[i].data = numbers[operation->inputs[i]];
    call.is_run = true;
    call.is_half = model->relaxed || call.inputs[0].operand->type == T_TENSOR_FLOAT16;
    TRY(find_kernel(operation->type)(&call));
    for (uint32_t i = 0; i < operation->output_count; i++)
        settle(call.outputs[i].operand, call.outputs[i].data, model->relaxed);
    return NO_ERROR;
}

// Numbers are floats here: larger integers would be others.
static int check_integers(const int32_t *integers, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (integers[i] > 1 << 24 || integers[i] < -(1 << 24))
            FAIL(OP_FAILED, "the integer %d, where the stand-in computes with 24 bits", integers[i]);
    return NO_ERROR;
}

static int run(const NeuronExecution *execution, float **numbers) {
    const NeuronModel *model = execution->compilation->model;
    for (uint32_t i = 0; i < model->input_count; i++) {
        const Operand *operand = &model->operands[model->inputs[i]];
        if (!execution->inputs[i])
            FAIL(BAD_STATE, "input %u is not set", i);
        numbers[model->inputs[i]] = malloc(sizeof(float) * element_count(operand));
        if (!numbers[model->inputs[i]])
            return OUT_OF_MEMORY;
        to_real(operand, execution->inputs[i], numbers[model->inputs[i]]);
        if (operand->type == T_TENSOR_INT32)
            TRY(check_integers(execution->inputs[i], element_count(operand)));
        settle(operand, numbers[model->inputs[i]], model->relaxed);
    }
    for (uint32_t i = 0; i < model->output_count; i++)
        if (!execution->outputs[i])
            FAIL(BAD_STATE, "output %u is not set", i);
    for (uint32_t i = 0; i < model->operation_count; i++) {
        const Operation *operation = &model->operations[i];
        TRY(run_operation(model, operation, numbers));
        for (uint32_t j = 0; j < operation->input_count; j++) {
            uint32_t index = operation->inputs[j];
            if (model->operands[index].last_use <= (int)i && !model->operands[index].value) {
                free(numbers[index]);
                numbers[index] = NULL;
            }
        }
    }
    for (uint32_t i = 0; i < model->output_count; i++)
        from_real(&model->operands[model->outputs[i]], numbers[model->outputs[i]], execution->outputs[i]);
    return NO_ERROR;
}

static unsigned delay;

// From now on a computation takes so many microseconds more.
EXPORT void stand_in_delay(unsigned microseconds) { delay = microseconds; }

int compute(const NeuronExecution *execution) {
    if (delay)
        usleep(delay);
    int fault = stand_in_fault("computation");
    if (fault)
        return stand_in_complain(fault, "the computation is told to fail");
    const NeuronModel *model = execution->compilation->model;
    float **numbers = calloc(model->operand_count + 1, sizeof *numbers);
    if (!numbers)
        return OUT_OF_MEMORY;
    for (uint32_t i = 0; i < model->operand_count; i++)
        numbers[i] = model->operands[i].real;
    int code = run(execution, numbers);
    for (uint32_t i = 0; i < model->operand_count; i++)
        if (!model->operands[i].value)
            free(numbers[i]);
    free(numbers);
    return code;
}

int begin_execution(NeuronExecution *execution) {
    if (__atomic_exchange_n(&execution->is_running, true, __ATOMIC_ACQUIRE))
        FAIL(BAD_STATE, "the execution runs already");
    return NO_ERROR;
}

EXPORT int NeuronExecution_compute(NeuronExecution *execution) {
    ENTER();
    TRY(check_execution(execution));
    TRY(begin_execution(execution));
    int code = compute(execution);
    __atomic_store_n(&execution->is_running, false, __ATOMIC_RELEASE);
    return code;
}
