// Models: built by calls, each of which is checked as far as it can be when it comes.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "state.h"
#include "table.h"

enum { MOST_OPERANDS = 1 << 20 };

bool is_model(const NeuronModel *model) { return model && model->magic == MODEL; }

bool is_scalar(int32_t type) {
    return type == T_FLOAT32 || type == T_INT32 || type == T_UINT32 || type == T_BOOL || type == T_FLOAT16;
}

bool is_quantized(int32_t type) { return type == T_QUANT8 || type == T_QUANT8_SIGNED || type == T_QUANT8_SYMM; }

size_t element_bytes(int32_t type) {
    switch (type) {
    case T_FLOAT32: case T_INT32: case T_UINT32: case T_TENSOR_FLOAT32: case T_TENSOR_INT32:
        return 4;
    case T_TENSOR_FLOAT16: case T_FLOAT16:
        return 2;
    case T_QUANT8: case T_QUANT8_SIGNED: case T_QUANT8_SYMM: case T_QUANT8_CHANNELS: case T_BOOL: case T_TENSOR_BOOL8:
        return 1;
    default:
        return 0;
    }
}

size_t element_count(const Operand *operand) {
    size_t count = 1;
    for (uint32_t i = 0; i < operand->rank; i++)
        count *= operand->dims[i];
    return count;
}

static int check_open(const NeuronModel *model) {
    if (!model)
        FAIL(UNEXPECTED_NULL, "no model");
    if (!is_model(model))
        FAIL(BAD_DATA, "not a model");
    if (model->finished)
        FAIL(BAD_STATE, "the model is finished");
    return NO_ERROR;
}

EXPORT int NeuronModel_create(NeuronModel **model) {
    ENTER();
    if (!model)
        FAIL(UNEXPECTED_NULL, "no place for the model");
    *model = calloc(1, sizeof **model);
    if (!*model)
        return OUT_OF_MEMORY;
    (*model)->magic = MODEL;
    stand_in_count(1);
    return NO_ERROR;
}

void free_model_content(NeuronModel *model) {
    for (uint32_t i = 0; i < model->operand_count; i++) {
        free(model->operands[i].channel_scales);
        free(model->operands[i].owned);
        free(model->operands[i].real);
    }
    for (uint32_t i = 0; i < model->operation_count; i++) {
        free(model->operations[i].inputs);
        free(model->operations[i].outputs);
    }
    free(model->operands);
    free(model->operations);
    free(model->inputs);
    free(model->outputs);
}

EXPORT void NeuronModel_free(NeuronModel *model) {
    if (!is_model(model))
        return;
    if (model->users)  // freed before what was made of it: nothing is said in the interface, and it is a client's fault
        abort();
    free_model_content(model);
    model->magic = 0;
    stand_in_count(-1);
    free(model);
}

EXPORT int NeuronModel_setName(NeuronModel *model, const char *name) {
    ENTER();
    if (!name)
        FAIL(UNEXPECTED_NULL, "no name");
    return is_model(model) ? NO_ERROR : stand_in_complain(BAD_DATA, "not a model");
}

static int check_type(const OperandType *type) {
    if (!element_bytes(type->type))
        FAIL(BAD_DATA, "no operand type %d here", type->type);
    if (is_scalar(type->type) && type->rank)
        FAIL(BAD_DATA, "a scalar with %u dimensions", type->rank);
    if (!is_scalar(type->type) && type->rank == 0)
        FAIL(BAD_DATA, "a tensor without dimensions");
    if (type->rank > MAX_RANK)
        FAIL(BAD_DATA, "%u dimensions", type->rank);
    if (type->rank && !type->dimensions)
        FAIL(UNEXPECTED_NULL, "no dimensions");
    for (uint32_t i = 0; i < type->rank; i++)
        if (type->dimensions[i] == 0)
            FAIL(BAD_DATA, "dimension %u is 0 or unknown", i);
    int32_t low = type->type == T_QUANT8_SIGNED ? -128 : 0, high = type->type == T_QUANT8 ? 255 : low ? 127 : 0;
    if (type->zero_point < low || type->zero_point > high)
        FAIL(BAD_DATA, "zero point %d of type %d", type->zero_point, type->type);
    if (is_quantized(type->type) ? !(type->scale > 0) || !isfinite(type->scale)
                                 : type->scale != 0 && type->type != T_TENSOR_INT32)
        FAIL(BAD_DATA, "scale %g of type %d", (double)type->scale, type->type);
    return NO_ERROR;
}

EXPORT int NeuronModel_addOperand(NeuronModel *model, const OperandType *type) {
    ENTER();
    TRY(check_open(model));
    if (!type)
        FAIL(UNEXPECTED_NULL, "no type");
    TRY(check_type(type));
    if (model->operand_count >= MOST_OPERANDS)
        FAIL(BAD_DATA, "too many operands");
    uint32_t count = model->operand_count;
    if ((count & (count - 1)) == 0) {  // a power of two: full
        Operand *grown = realloc(model->operands, sizeof(Operand) * (count ? 2 * count : 1));
        if (!grown)
            return OUT_OF_MEMORY;
        model->operands = grown;
    }
    Operand *made = &model->operands[model->operand_count++];
    memset(made, 0, sizeof *made);
    made->type = type->type;
    made->rank = type->rank;
    if (type->rank)
        memcpy(made->dims, type->dimensions, 4 * type->rank);
    made->scale = type->scale;
    made->zero_point = type->zero_point;
    return NO_ERROR;
}

static int find_operand(NeuronModel *model, int64_t index, Operand **found) {
    if (index < 0 || index >= model->operand_count)
        FAIL(BAD_DATA, "there is no operand %lld", (long long)index);
    *found = &model->operands[index];
    return NO_ERROR;
}

EXPORT int NeuronModel_setOperandValue(NeuronModel *model, int32_t index, const void *buffer, size_t length) {
    ENTER();
    TRY(check_open(model));
    Operand *operand;
    TRY(find_operand(model, index, &operand));
    if (!buffer) {
        if (length)
            FAIL(UNEXPECTED_NULL, "no buffer");
        FAIL(BAD_DATA, "operand %d is left out, which no operation here allows", index);
    }
    size_t needed = element_count(operand) * element_bytes(operand->type);
    if (length != needed)
        FAIL(BAD_DATA, "operand %d takes %zu bytes, not %zu", index, needed, length);
    if (operand->value || operand->is_made)
        FAIL(BAD_DATA, "operand %d has a value already", index);
    operand->value = buffer;
    operand->length = length;
    if (length <= COPIED_BYTES) {
        operand->owned = malloc(length);
        if (!operand->owned)
            return OUT_OF_MEMORY;
        operand->value = memcpy(operand->owned, buffer, length);
    }
    return NO_ERROR;
}

static int set_channels(NeuronModel *model, int32_t index, const ChannelQuantization *given) {
    TRY(check_open(model));
    Operand *operand;
    TRY(find_operand(model, index, &operand));
    if (!given || !given->scales)
        FAIL(UNEXPECTED_NULL, "no scales");
    if (operand->type != T_QUANT8_CHANNELS)
        FAIL(BAD_DATA, "operand %d has no scales per channel", index);
    if (given->axis >= operand->rank || operand->dims[given->axis] != given->count)
        FAIL(BAD_DATA, "%u scales for axis %u of operand %d", given->count, given->axis, index);
    for (uint32_t i = 0; i < given->count; i++)
        if (!(given->scales[i] > 0) || !isfinite(given->scales[i]))
            FAIL(BAD_DATA, "scale %g of channel %u", (double)given->scales[i], i);
    free(operand->channel_scales);
    operand->channel_axis = given->axis;
    operand->channel_count = given->count;
    operand->channel_scales = malloc(4 * given->count);
    if (!operand->channel_scales)
        return OUT_OF_MEMORY;
    memcpy(operand->channel_scales, given->scales, 4 * given->count);
    return NO_ERROR;
}

EXPORT int NeuronModel_setOperandSymmPerChannelQuantParams(
    NeuronModel *model, int32_t index, const ChannelQuantization *given
) {
    ENTER();
    return set_channels(model, index, given);
}

EXPORT int NeuronModel_setOperandPerChannelQuantParams(
    NeuronModel *model, int32_t index, const ChannelQuantizationWithZeros *given
) {
    ENTER();
    if (!given || (given->zero_point_count && !given->zero_points))
        FAIL(UNEXPECTED_NULL, "no scales, or no zero points");
    if (given->zero_point_count && given->zero_point_count != given->count)
        FAIL(BAD_DATA, "%u zero points for %u scales", given->zero_point_count, given->count);
    for (uint32_t i = 0; i < given->zero_point_count; i++)
        if (given->zero_points[i])
            FAIL(BAD_DATA, "zero point %d of channel %u", given->zero_points[i], i);
    ChannelQuantization symmetric = {given->axis, given->count, given->scales};
    return set_channels(model, index, &symmetric);
}

static int copied(const uint32_t *numbers, uint32_t count, uint32_t **copy) {
    *copy = malloc(count ? 4 * (size_t)count : 4);
    if (!*copy)
        return OUT_OF_MEMORY;
    memcpy(*copy, numbers, 4 * (size_t)count);
    return NO_ERROR;
}

EXPORT int NeuronModel_addOperation(
    NeuronModel *model, int32_t type, uint32_t input_count, const uint32_t *inputs, uint32_t output_count,
    const uint32_t *outputs
) {
    ENTER();
    TRY(check_open(model));
    if (!inputs || !outputs)
        FAIL(UNEXPECTED_NULL, "no inputs or no outputs");
    if (!find_kernel(type))
        FAIL(BAD_DATA, "there is no operation %d here", type);
    Operand *operand;
    for (uint32_t i = 0; i < input_count; i++)
        TRY(find_operand(model, inputs[i], &operand));
    for (uint32_t i = 0; i < output_count; i++) {
        TRY(find_operand(model, outputs[i], &operand));
        if (operand->value || operand->is_made || operand->is_input)
            FAIL(BAD_DATA, "output %u of operation %d, operand %u, is made elsewhere", i, type, outputs[i]);
        operand->is_made = true;
    }
    Operation *grown = realloc(model->operations, sizeof(Operation) * (model->operation_count + 1));
    if (!grown)
        return OUT_OF_MEMORY;
    model->operations = grown;
    Operation made = {type, input_count, output_count, NULL, NULL};
    TRY(copied(inputs, input_count, &made.inputs));
    TRY(copied(outputs, output_count, &made.outputs));
    model->operations[model->operation_count++] = made;
    return NO_ERROR;
}

EXPORT int NeuronModel_identifyInputsAndOutputs(
    NeuronModel *model, uint32_t input_count, const uint32_t *inputs, uint32_t output_count, const uint32_t *outputs
) {
    ENTER();
    TRY(check_open(model));
    if (!inputs || !outputs)
        FAIL(UNEXPECTED_NULL, "no inputs or no outputs");
    if (model->identified)
        FAIL(BAD_STATE, "inputs and outputs are known already");
    if (!output_count)
        FAIL(BAD_DATA, "a model without outputs");
    Operand *operand;
    for (uint32_t i = 0; i < input_count; i++) {
        TRY(find_operand(model, inputs[i], &operand));
        if (operand->is_input || operand->value || operand->is_made)
            FAIL(BAD_DATA, "operand %u cannot be an input", inputs[i]);
        operand->is_input = true;
    }
    for (uint32_t i = 0; i < output_count; i++) {
        TRY(find_operand(model, outputs[i], &operand));
        if (operand->is_input || operand->is_output || operand->value)
            FAIL(BAD_DATA, "operand %u cannot be an output", outputs[i]);
        operand->is_output = true;
    }
    TRY(copied(inputs, input_count, &model->inputs));
    TRY(copied(outputs, output_count, &model->outputs));
    model->input_count = input_count;
    model->output_count = output_count;
    model->identified = true;
    return NO_ERROR;
}

EXPORT int NeuronModel_relaxComputationFloat32toFloat16(NeuronModel *model, bool allow) {
    ENTER();
    if (!model)
        FAIL(UNEXPECTED_NULL, "no model");
    if (!is_model(model))
        FAIL(BAD_DATA, "not a model");
    if (model->users)  // clients of the real library do this to finished models
        FAIL(BAD_STATE, "the model is being compiled");
    model->relaxed = allow;
    return NO_ERROR;
}

EXPORT int NeuronModel_finish(NeuronModel *model) {
    ENTER();
    TRY(check_open(model));
    if (!model->identified)
        FAIL(BAD_STATE, "inputs and outputs are not known");
    for (uint32_t i = 0; i < model->operand_count; i++) {
        const Operand *operand = &model->operands[i];
        if (operand->type == T_QUANT8_CHANNELS && !operand->channel_scales)
            FAIL(BAD_DATA, "operand %u has no scales", i);
        if (operand->is_output && !operand->is_made)
            FAIL(BAD_DATA, "nothing makes output operand %u", i);
    }
    TRY(check_model(model));
    model->finished = true;
    return NO_ERROR;
}

static int tell_supported(const NeuronModel *model, bool *supported) {
    if (!model || !supported)
        FAIL(UNEXPECTED_NULL, "no model, or no place for the answer");
    if (!is_model(model))
        FAIL(BAD_DATA, "not a model");
    if (!model->finished)
        FAIL(BAD_STATE, "the model is not finished");
    for (uint32_t i = 0; i < model->operation_count; i++)
        supported[i] = !stand_in_refused(model->operations[i].type);
    return NO_ERROR;
}

EXPORT int NeuronModel_getSupportedOperations(NeuronModel *model, bool *supported, uint32_t count) {
    ENTER();
    if (is_model(model) && count != model->operation_count)
        FAIL(BAD_DATA, "the model has %u operations, not %u", model->operation_count, count);
    return tell_supported(model, supported);
}

EXPORT int NeuronModel_getSupportedOperationsForDevices(
    const NeuronModel *model, const NeuronDevice *const *devices, uint32_t count, bool *supported
) {
    ENTER();
    TRY(check_devices(devices, count));
    return tell_supported(model, supported);
}
