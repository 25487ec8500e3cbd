// Operations that make one number of many.
#include <math.h>
#include <stdlib.h>

#include "table.h"

static int read_axes(const Call *call, bool *is_reduced) {
    const Operand *in = call->inputs[0].operand;
    const int32_t *axes;
    uint32_t count;
    TRY(constant_ints(call, 1, &axes, &count));
    for (uint32_t i = 0; i < count; i++) {
        int32_t axis = axes[i] + (axes[i] < 0 ? (int32_t)in->rank : 0);
        if (axis < 0 || axis >= (int32_t)in->rank)
            FAIL(BAD_DATA, "there is no axis %d", axes[i]);
        is_reduced[axis] = true;
    }
    return NO_ERROR;
}

static int reduce(Call *call);

// REDUCE_ALL is the least of truth values, REDUCE_ANY the largest.
int flags_reduction(Call *call) {
    if (call->input_count && call->inputs[0].operand->type != T_TENSOR_BOOL8)
        FAIL(BAD_DATA, "operation %d on type %d", call->type, call->inputs[0].operand->type);
    Call as_numbers = *call;
    as_numbers.type = call->type == 75 ? 78 : 77;
    return reduce(&as_numbers);
}

int reduction(Call *call) {
    if (call->input_count)
        TRY(is_real(call, call->inputs[0].operand));
    return reduce(call);
}

static int reduce(Call *call) {
    const Operand *in = call->inputs[0].operand;
    TRY(takes(call, 3, 3, 1));
    TRY(tensor_in(call, 0, 1, 4));
    if (call->type == 80 && is_quantized(in->type))
        FAIL(BAD_DATA, "a sum of quantized numbers");
    TRY(same_numbers(call, in, call->outputs[0].operand, call->type != 31));
    bool keeps, is_reduced[MAX_RANK] = {false};
    TRY(read_axes(call, is_reduced));
    if (call->type == 31) {
        int32_t number;
        TRY(constant_int(call, 2, &number));
        keeps = number > 0;
    } else {
        TRY(constant_bool(call, 2, &keeps));
    }
    uint32_t dims[MAX_RANK], rank = 0;
    for (uint32_t i = 0; i < in->rank; i++)
        if (!is_reduced[i] || keeps)
            dims[rank++] = is_reduced[i] ? 1 : in->dims[i];
    if (!rank)
        dims[rank++] = 1;
    TRY(result_is(call, 0, rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    size_t count = element_count(in), results = element_count(call->outputs[0].operand), share = count / results;
    float *out = call->outputs[0].data;
    for (size_t i = 0; i < results; i++)
        out[i] = call->type == 77 ? -INFINITY : call->type == 78 ? INFINITY : 0;
    for (size_t i = 0; i < count; i++) {
        size_t rest = i, place = 0, step = 1;
        for (uint32_t k = in->rank; k-- > 0; rest /= in->dims[k])
            if (!is_reduced[k]) {
                place += rest % in->dims[k] * step;
                step *= in->dims[k];
            }
        float x = call->inputs[0].data[i];
        out[place] = call->type == 77 ? fmaxf(out[place], x) : call->type == 78 ? fminf(out[place], x) : out[place] + x;
    }
    for (size_t i = 0; call->type == 31 && i < results; i++)
        out[i] /= (float)share;
    return NO_ERROR;
}

typedef struct {
    size_t outer, length, inner;
} Along;

static Along along(const Operand *in, int32_t axis) {
    Along found = {1, in->dims[axis], 1};
    for (int32_t i = 0; i < (int32_t)in->rank; i++)
        if (i < axis)
            found.outer *= in->dims[i];
        else if (i > axis)
            found.inner *= in->dims[i];
    return found;
}

int argument(Call *call) {
    const Operand *in = call->inputs[0].operand;
    int32_t axis;
    TRY(takes(call, 2, 2, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(constant_int(call, 1, &axis));
    axis += axis < 0 ? (int32_t)in->rank : 0;
    if (axis < 0 || axis >= (int32_t)in->rank)
        FAIL(BAD_DATA, "there is no axis %d", axis);
    if (call->outputs[0].operand->type != T_TENSOR_INT32)
        FAIL(BAD_DATA, "an index of type %d", call->outputs[0].operand->type);
    uint32_t dims[MAX_RANK], rank = 0;
    for (uint32_t i = 0; i < in->rank; i++)
        if ((int32_t)i != axis)
            dims[rank++] = in->dims[i];
    if (!rank)
        dims[rank++] = 1;
    TRY(result_is(call, 0, rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    Along steps = along(in, axis);
    for (size_t i = 0; i < steps.outer * steps.inner; i++) {
        const float *x = call->inputs[0].data + i / steps.inner * steps.length * steps.inner + i % steps.inner;
        size_t best = 0;
        for (size_t k = 1; k < steps.length; k++)
            if (call->type == 39 ? x[k * steps.inner] > x[best * steps.inner] : x[k * steps.inner] < x[best * steps.inner])
                best = k;
        call->outputs[0].data[i] = (float)best;
    }
    return NO_ERROR;
}

int top_k(Call *call) {
    const Operand *in = call->inputs[0].operand;
    int32_t k;
    TRY(takes(call, 2, 2, 2));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(constant_int(call, 1, &k));
    uint32_t length = in->dims[in->rank - 1], dims[MAX_RANK];
    if (k < 1 || k > (int32_t)length)
        FAIL(BAD_DATA, "the %d largest of %u", k, length);
    TRY(same_numbers(call, in, call->outputs[0].operand, true));
    if (call->outputs[1].operand->type != T_TENSOR_INT32)
        FAIL(BAD_DATA, "an index of type %d", call->outputs[1].operand->type);
    for (uint32_t i = 0; i < in->rank; i++)
        dims[i] = in->dims[i];
    dims[in->rank - 1] = (uint32_t)k;
    TRY(result_is(call, 0, in->rank, dims));
    TRY(result_is(call, 1, in->rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    bool *is_taken = malloc(length);
    if (!is_taken)
        return OUT_OF_MEMORY;
    size_t rows = element_count(in) / length;
    for (size_t row = 0; row < rows; row++) {
        const float *x = call->inputs[0].data + row * length;
        for (uint32_t i = 0; i < length; i++)
            is_taken[i] = false;
        for (size_t n = 0; n < (size_t)k; n++) {
            uint32_t best = length;
            for (uint32_t i = 0; i < length; i++)
                if (!is_taken[i] && (best == length || x[i] > x[best]))
                    best = i;
            is_taken[best] = true;
            call->outputs[0].data[row * (size_t)k + n] = x[best];
            call->outputs[1].data[row * (size_t)k + n] = (float)best;
        }
    }
    free(is_taken);
    return NO_ERROR;
}

int instance_normalization(Call *call) {
    const Operand *in = call->inputs[0].operand;
    float gamma, beta, epsilon;
    TRY(takes(call, 5, 5, 1));
    TRY(tensor_in(call, 0, 4, 4));
    TRY(is_real(call, in));
    if (is_quantized(in->type))
        FAIL(BAD_DATA, "a normalization of quantized numbers");
    TRY(same_numbers(call, in, call->outputs[0].operand, false));
    TRY(constant_float(call, 1, &gamma));
    TRY(constant_float(call, 2, &beta));
    TRY(constant_float(call, 3, &epsilon));
    TRY(channels_last(call, 4));
    TRY(result_is(call, 0, in->rank, in->dims));
    if (!call->is_run)
        return NO_ERROR;
    size_t pixels = (size_t)in->dims[1] * in->dims[2], channels = in->dims[3];
    for (uint32_t n = 0; n < in->dims[0]; n++)
        for (size_t c = 0; c < channels; c++) {
            const float *x = call->inputs[0].data + n * pixels * channels + c;
            float *y = call->outputs[0].data + n * pixels * channels + c;
            double mean = 0, variance = 0;
            for (size_t i = 0; i < pixels; i++)
                mean += (double)x[i * channels];
            mean /= (double)pixels;
            for (size_t i = 0; i < pixels; i++)
                variance += ((double)x[i * channels] - mean) * ((double)x[i * channels] - mean);
            variance /= (double)pixels;
            for (size_t i = 0; i < pixels; i++)
                y[i * channels] = (float)(((double)x[i * channels] - mean) / sqrt(variance + (double)epsilon)) * gamma + beta;
        }
    return NO_ERROR;
}

int l2_normalization(Call *call) {
    const Operand *in = call->inputs[0].operand;
    int32_t axis = -1;
    TRY(takes(call, 1, 2, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(is_real(call, in));
    TRY(same_numbers(call, in, call->outputs[0].operand, false));
    if (call->input_count > 1)
        TRY(constant_int(call, 1, &axis));
    axis += axis < 0 ? (int32_t)in->rank : 0;
    if (axis < 0 || axis >= (int32_t)in->rank)
        FAIL(BAD_DATA, "there is no axis %d", axis);
    TRY(result_is(call, 0, in->rank, in->dims));
    if (!call->is_run)
        return NO_ERROR;
    Along steps = along(in, axis);
    for (size_t i = 0; i < steps.outer * steps.inner; i++) {
        size_t first = i / steps.inner * steps.length * steps.inner + i % steps.inner;
        float sum = 0;
        for (size_t k = 0; k < steps.length; k++)
            sum += call->inputs[0].data[first + k * steps.inner] * call->inputs[0].data[first + k * steps.inner];
        for (size_t k = 0; k < steps.length; k++)
            call->outputs[0].data[first + k * steps.inner] = call->inputs[0].data[first + k * steps.inner] / sqrtf(sum);
    }
    return NO_ERROR;
}
