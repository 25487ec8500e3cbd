// Operations on each number, alone or with its like in another tensor.
#include <math.h>
#include <string.h>

#include "table.h"

static int broadcast(const Call *call, const Operand *left, const Operand *right, uint32_t *rank, uint32_t *dims) {
    *rank = left->rank > right->rank ? left->rank : right->rank;
    for (uint32_t i = 0; i < *rank; i++) {
        uint32_t a = i < left->rank ? left->dims[left->rank - 1 - i] : 1;
        uint32_t b = i < right->rank ? right->dims[right->rank - 1 - i] : 1;
        if (a != b && a != 1 && b != 1)
            FAIL(BAD_DATA, "operation %d on dimensions %u and %u", call->type, a, b);
        dims[*rank - 1 - i] = a > b ? a : b;
    }
    return NO_ERROR;
}

static size_t source(const Operand *operand, const Operand *result, size_t at) {
    size_t found = 0, step = 1;
    for (uint32_t i = 0; i < result->rank; i++) {
        size_t place = at % result->dims[result->rank - 1 - i];
        at /= result->dims[result->rank - 1 - i];
        if (i >= operand->rank)
            continue;
        uint32_t size = operand->dims[operand->rank - 1 - i];
        found += size == 1 ? 0 : place * step;
        step *= size;
    }
    return found;
}

static float combine(int32_t type, float a, float b) {
    switch (type) {
    case 0: return a + b;
    case 18: return a * b;
    case 30: return a / b;
    case 36: return a - b;
    case 65: return a > b || isnan(a) ? a : b;
    case 66: return a < b || isnan(a) ? a : b;
    case 48: return a == b;
    case 53: return a > b;
    case 54: return a >= b;
    case 58: return a < b;
    case 59: return a <= b;
    case 68: return a != b;
    case 61: return a != 0 && b != 0;
    case 63: return a != 0 || b != 0;
    case 71: return a >= 0 ? a : a * b;
    default: return powf(a, b);
    }
}

static int pairwise(Call *call, int32_t activation) {
    const Operand *left = call->inputs[0].operand, *right = call->inputs[1].operand, *result = call->outputs[0].operand;
    uint32_t rank, dims[MAX_RANK];
    TRY(broadcast(call, left, right, &rank, dims));
    TRY(result_is(call, 0, rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    bool plain = element_count(left) == element_count(result) && element_count(right) == element_count(result);
    size_t count = element_count(result);
    for (size_t i = 0; i < count; i++) {
        float a = call->inputs[0].data[plain ? i : source(left, result, i)];
        float b = call->inputs[1].data[plain ? i : source(right, result, i)];
        call->outputs[0].data[i] = fused(activation, combine(call->type, a, b));
    }
    return NO_ERROR;
}

int binary(Call *call) {
    bool has_activation = call->type == 0 || call->type == 18 || call->type == 30 || call->type == 36;
    const Operand *left = call->inputs[0].operand;
    TRY(takes(call, has_activation ? 3 : 2, has_activation ? 3 : 2, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(tensor_in(call, 1, 1, 4));
    if (left->type != T_TENSOR_INT32)
        TRY(is_real(call, left));
    if (is_quantized(left->type) && (call->type == 30 || call->type == 70))
        FAIL(BAD_DATA, "operation %d on quantized numbers", call->type);
    TRY(same_numbers(call, left, call->inputs[1].operand, false));
    TRY(same_numbers(call, left, call->outputs[0].operand, false));
    int32_t activation = 0;
    if (has_activation)
        TRY(activation_at(call, 2, &activation));
    return pairwise(call, activation);
}

int comparison(Call *call) {
    const Operand *left = call->inputs[0].operand;
    TRY(takes(call, 2, 2, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(tensor_in(call, 1, 1, 4));
    TRY(same_numbers(call, left, call->inputs[1].operand, false));
    if (call->outputs[0].operand->type != T_TENSOR_BOOL8 ||
        ((call->type == 61 || call->type == 63) && left->type != T_TENSOR_BOOL8))
        FAIL(BAD_DATA, "operation %d of type %d gives type %d", call->type, left->type, call->outputs[0].operand->type);
    return pairwise(call, 0);
}

int prelu(Call *call) {
    const Operand *left = call->inputs[0].operand;
    TRY(takes(call, 2, 2, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(tensor_in(call, 1, 1, 4));
    TRY(is_real(call, left));
    TRY(same_numbers(call, left, call->inputs[1].operand, false));
    TRY(same_numbers(call, left, call->outputs[0].operand, false));
    return pairwise(call, 0);
}

int selection(Call *call) {
    const Operand *choice = call->inputs[0].operand, *left = call->inputs[1].operand, *result = call->outputs[0].operand;
    TRY(takes(call, 3, 3, 1));
    if (choice->type != T_TENSOR_BOOL8)
        FAIL(BAD_DATA, "a choice of type %d", choice->type);
    TRY(same_numbers(call, left, call->inputs[2].operand, false));
    TRY(same_numbers(call, left, result, false));
    TRY(result_is(call, 0, choice->rank, choice->dims));
    TRY(result_is(call, 0, left->rank, left->dims));
    TRY(result_is(call, 0, call->inputs[2].operand->rank, call->inputs[2].operand->dims));
    size_t count = element_count(result);
    for (size_t i = 0; call->is_run && i < count; i++)
        call->outputs[0].data[i] = call->inputs[call->inputs[0].data[i] != 0 ? 1 : 2].data[i];
    return NO_ERROR;
}

static float applied(int32_t type, float x) {
    switch (type) {
    case 8: return floorf(x);
    case 14: return 1 / (1 + expf(-x));
    case 19: return fused(1, x);
    case 20: return fused(2, x);
    case 21: return fused(3, x);
    case 28: return tanhf(x);
    case 38: return fabsf(x);
    case 49: return expf(x);
    case 67: return -x;
    case 83: return 1 / sqrtf(x);
    case 88: return sqrtf(x);
    default: return x * fused(3, x + 3) / 6;  // HARD_SWISH
    }
}

static int same_shape(const Call *call) {
    return result_is(call, 0, call->inputs[0].operand->rank, call->inputs[0].operand->dims);
}

// Results of LOGISTIC and TANH have fixed scales.
static int check_scale(const Call *call) {
    const Operand *in = call->inputs[0].operand, *out = call->outputs[0].operand;
    if (!is_quantized(out->type))
        return NO_ERROR;
    bool is_signed = out->type == T_QUANT8_SIGNED;
    if (call->type == 14 || call->type == 25) {
        if (out->scale != 1.0f / 256 || out->zero_point != (is_signed ? -128 : 0))
            FAIL(BAD_DATA, "operation %d gives scale 1/256, not %g", call->type, (double)out->scale);
        return NO_ERROR;
    }
    if (call->type == 28) {
        if (out->scale != 1.0f / 128 || out->zero_point != (is_signed ? 0 : 128))
            FAIL(BAD_DATA, "TANH gives scale 1/128, not %g", (double)out->scale);
        return NO_ERROR;
    }
    if (call->type == 99)
        return NO_ERROR;
    if (call->type < 19 || call->type > 21)
        FAIL(BAD_DATA, "operation %d on quantized numbers", call->type);
    return same_numbers(call, in, out, true);
}

int unary(Call *call) {
    const Operand *in = call->inputs[0].operand;
    TRY(takes(call, 1, 1, 1));
    TRY(tensor_in(call, 0, 1, 4));
    if (in->type != T_TENSOR_INT32 || (call->type != 67 && call->type != 38))
        TRY(is_real(call, in));
    TRY(same_numbers(call, in, call->outputs[0].operand, false));
    TRY(check_scale(call));
    TRY(same_shape(call));
    size_t count = element_count(in);
    for (size_t i = 0; call->is_run && i < count; i++)
        call->outputs[0].data[i] = applied(call->type, call->inputs[0].data[i]);
    return NO_ERROR;
}

int logical_not(Call *call) {
    const Operand *in = call->inputs[0].operand;
    TRY(takes(call, 1, 1, 1));
    if (in->type != T_TENSOR_BOOL8)
        FAIL(BAD_DATA, "the negation of type %d", in->type);
    TRY(same_numbers(call, in, call->outputs[0].operand, false));
    TRY(same_shape(call));
    size_t count = element_count(in);
    for (size_t i = 0; call->is_run && i < count; i++)
        call->outputs[0].data[i] = call->inputs[0].data[i] == 0;
    return NO_ERROR;
}

int softmax(Call *call) {
    const Operand *in = call->inputs[0].operand;
    TRY(takes(call, 2, 3, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(is_real(call, in));
    TRY(same_numbers(call, in, call->outputs[0].operand, false));
    TRY(check_scale(call));
    TRY(same_shape(call));
    float beta;
    int32_t axis = -1, rank = (int32_t)in->rank;
    TRY(constant_float(call, 1, &beta));
    if (call->input_count > 2)
        TRY(constant_int(call, 2, &axis));
    if (!(beta > 0) || axis < -rank || axis >= rank)
        FAIL(BAD_DATA, "softmax with beta %g along axis %d", (double)beta, axis);
    if (!call->is_run)
        return NO_ERROR;
    axis += axis < 0 ? rank : 0;
    size_t inner = 1, length = in->dims[axis];
    for (int32_t i = axis + 1; i < rank; i++)
        inner *= in->dims[i];
    size_t outer = element_count(in) / inner / length;
    for (size_t i = 0; i < outer * inner; i++) {
        size_t first = i / inner * length * inner + i % inner;
        const float *x = call->inputs[0].data + first;
        float *y = call->outputs[0].data + first, most = -INFINITY, sum = 0;
        for (size_t k = 0; k < length; k++)
            most = x[k * inner] > most ? x[k * inner] : most;
        for (size_t k = 0; k < length; k++)
            sum += y[k * inner] = expf(beta * (x[k * inner] - most));
        for (size_t k = 0; k < length; k++)
            y[k * inner] /= sum;
    }
    return NO_ERROR;
}

// QUANTIZE, DEQUANTIZE, CAST: the types of the operands say all.
int conversion(Call *call) {
    const Operand *in = call->inputs[0].operand, *out = call->outputs[0].operand;
    TRY(takes(call, 1, 1, 1));
    TRY(tensor_in(call, 0, 1, 4));
    bool real_in = in->type == T_TENSOR_FLOAT32 || in->type == T_TENSOR_FLOAT16;
    bool real_out = out->type == T_TENSOR_FLOAT32 || out->type == T_TENSOR_FLOAT16;
    bool plain_in = real_in || in->type == T_TENSOR_INT32, plain_out = real_out || out->type == T_TENSOR_INT32;
    bool fits = call->type == 72 ? real_in && (out->type == T_QUANT8 || out->type == T_QUANT8_SIGNED)
                : call->type == 6 ? (is_quantized(in->type) || in->type == T_QUANT8_CHANNELS) && real_out
                                  : plain_in && plain_out;
    if (!fits)
        FAIL(BAD_DATA, "operation %d from type %d to type %d", call->type, in->type, out->type);
    TRY(same_shape(call));
    if (call->is_run)
        memcpy(call->outputs[0].data, call->inputs[0].data, sizeof(float) * element_count(in));
    return NO_ERROR;
}
