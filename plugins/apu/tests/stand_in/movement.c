// Operations that move numbers and compute nothing.
#include <math.h>
#include <string.h>

#include "table.h"

static int moves(const Call *call) {
    TRY(tensor_in(call, 0, 1, MAX_RANK));
    return same_numbers(call, call->inputs[0].operand, call->outputs[0].operand, true);
}

static int axis_at(const Call *call, uint32_t index, uint32_t rank, int32_t *axis) {
    TRY(constant_int(call, index, axis));
    *axis += *axis < 0 ? (int32_t)rank : 0;
    if (*axis < 0 || *axis >= (int32_t)rank)
        FAIL(BAD_DATA, "there is no axis %d", *axis);
    return NO_ERROR;
}

// output[i] = input[start + index * step of each dimension]
static void walk(const Call *call, int64_t start, const int64_t *steps) {
    const Operand *out = call->outputs[0].operand;
    size_t count = element_count(out);
    uint32_t index[MAX_RANK] = {0};
    int64_t at = start;
    for (size_t i = 0; i < count; i++) {
        call->outputs[0].data[i] = call->inputs[0].data[at];
        for (uint32_t k = out->rank; k-- > 0;) {
            at += steps[k];
            if (++index[k] < out->dims[k])
                break;
            at -= steps[k] * out->dims[k];
            index[k] = 0;
        }
    }
}

static void strides(const Operand *operand, int64_t *found) {
    int64_t step = 1;
    for (uint32_t i = operand->rank; i-- > 0; step *= operand->dims[i])
        found[i] = step;
}

// RESHAPE, SQUEEZE and EXPAND_DIMS: what is declared must have as many numbers.
int reshaping(Call *call) {
    const Operand *in = call->inputs[0].operand, *out = call->outputs[0].operand;
    TRY(takes(call, call->type == 34 ? 1 : 2, 2, 1));
    TRY(moves(call));
    if (element_count(in) != element_count(out))
        FAIL(BAD_DATA, "a reshape of %zu numbers to %zu", element_count(in), element_count(out));
    if (call->type == 22) {
        const int32_t *shape;
        uint32_t count;
        TRY(constant_ints(call, 1, &shape, &count));
        if (count != out->rank)
            FAIL(BAD_DATA, "a shape of %u numbers for %u dimensions", count, out->rank);
        for (uint32_t i = 0; i < count; i++)
            if (shape[i] != -1 && shape[i] != (int32_t)out->dims[i])
                FAIL(BAD_DATA, "dimension %u is %d in the shape, %u in the result", i, shape[i], out->dims[i]);
    } else if (call->type == 50) {
        int32_t axis;
        TRY(axis_at(call, 1, in->rank + 1, &axis));
        if (out->rank != in->rank + 1 || out->dims[axis] != 1)
            FAIL(BAD_DATA, "a new axis %d that the result does not have", axis);
    }
    if (call->is_run)
        memcpy(call->outputs[0].data, call->inputs[0].data, sizeof(float) * element_count(in));
    return NO_ERROR;
}

int transposition(Call *call) {
    const Operand *in = call->inputs[0].operand;
    const int32_t *order;
    uint32_t count, dims[MAX_RANK];
    bool seen[MAX_RANK] = {false};
    TRY(takes(call, 2, 2, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(moves(call));
    TRY(constant_ints(call, 1, &order, &count));
    if (count != in->rank)
        FAIL(BAD_DATA, "an order of %u for %u dimensions", count, in->rank);
    int64_t from[MAX_RANK], steps[MAX_RANK];
    strides(in, from);
    for (uint32_t i = 0; i < count; i++) {
        if (order[i] < 0 || order[i] >= (int32_t)count || seen[order[i]])
            FAIL(BAD_DATA, "not an order of the dimensions");
        seen[order[i]] = true;
        dims[i] = in->dims[order[i]];
        steps[i] = from[order[i]];
    }
    TRY(result_is(call, 0, count, dims));
    if (call->is_run)
        walk(call, 0, steps);
    return NO_ERROR;
}

static void split_sizes(const Operand *operand, int32_t axis, size_t *outer, size_t *inner) {
    *outer = *inner = 1;
    for (int32_t i = 0; i < (int32_t)operand->rank; i++)
        *(i < axis ? outer : inner) *= operand->dims[i];
}

int concatenation(Call *call) {
    const Operand *first = call->inputs[0].operand;
    uint32_t parts = call->input_count - 1, dims[MAX_RANK];
    int32_t axis;
    TRY(takes(call, 2, MOST_ARGUMENTS, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(axis_at(call, parts, first->rank, &axis));
    memcpy(dims, first->dims, sizeof dims);
    dims[axis] = 0;
    for (uint32_t i = 0; i < parts; i++) {
        const Operand *part = call->inputs[i].operand;
        TRY(tensor_in(call, i, first->rank, first->rank));
        TRY(same_numbers(call, part, call->outputs[0].operand, false));
        for (uint32_t k = 0; k < first->rank; k++)
            if ((int32_t)k != axis && part->dims[k] != first->dims[k])
                FAIL(BAD_DATA, "part %u has %u where the first has %u", i, part->dims[k], first->dims[k]);
        dims[axis] += part->dims[axis];
    }
    TRY(result_is(call, 0, first->rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    size_t outer, inner, whole, at = 0;
    split_sizes(call->outputs[0].operand, axis, &outer, &whole);
    for (uint32_t i = 0; i < parts; i++, at += inner) {
        split_sizes(call->inputs[i].operand, axis, &outer, &inner);
        for (size_t row = 0; row < outer; row++)
            memcpy(call->outputs[0].data + row * whole + at, call->inputs[i].data + row * inner, sizeof(float) * inner);
    }
    return NO_ERROR;
}

int splitting(Call *call) {
    const Operand *in = call->inputs[0].operand;
    int32_t axis, parts;
    uint32_t dims[MAX_RANK];
    TRY(takes(call, 3, 3, call->output_count));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(axis_at(call, 1, in->rank, &axis));
    TRY(constant_int(call, 2, &parts));
    if (parts < 1 || (uint32_t)parts != call->output_count || in->dims[axis] % (uint32_t)parts)
        FAIL(BAD_DATA, "%u in %d parts, %u outputs", in->dims[axis], parts, call->output_count);
    memcpy(dims, in->dims, sizeof dims);
    dims[axis] /= (uint32_t)parts;
    size_t outer, inner, whole;
    split_sizes(in, axis, &outer, &whole);
    inner = whole / (size_t)parts;
    for (uint32_t i = 0; i < call->output_count; i++) {
        TRY(same_numbers(call, in, call->outputs[i].operand, true));
        TRY(result_is(call, i, in->rank, dims));
        for (size_t row = 0; call->is_run && row < outer; row++)
            memcpy(call->outputs[i].data + row * inner, call->inputs[0].data + row * whole + i * inner, sizeof(float) * inner);
    }
    return NO_ERROR;
}

int padding(Call *call) {
    const Operand *in = call->inputs[0].operand, *out = call->outputs[0].operand;
    const int32_t *pads;
    uint32_t count, dims[MAX_RANK];
    uint32_t arguments = call->type == 69 ? 3 : 2;
    TRY(takes(call, arguments, arguments, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(is_real(call, in));
    TRY(moves(call));
    TRY(constant_ints(call, 1, &pads, &count));
    const Operand *table = call->inputs[1].operand;
    if (table->rank != 2 || table->dims[0] != in->rank || table->dims[1] != 2)
        FAIL(BAD_DATA, "%u paddings for %u dimensions", count, in->rank);
    for (uint32_t i = 0; i < in->rank; i++) {
        if (pads[2 * i] < 0 || pads[2 * i + 1] < 0)
            FAIL(BAD_DATA, "a negative padding");
        dims[i] = in->dims[i] + (uint32_t)pads[2 * i] + (uint32_t)pads[2 * i + 1];
    }
    TRY(result_is(call, 0, in->rank, dims));
    float fill = 0;
    if (call->type == 69 && is_quantized(in->type)) {
        int32_t number;
        TRY(constant_int(call, 2, &number));
        fill = (float)(number - in->zero_point) * in->scale;
    } else if (call->type == 69) {
        TRY(constant_float(call, 2, &fill));
    }
    if (!call->is_run)
        return NO_ERROR;
    size_t total = element_count(out), given = element_count(in);
    for (size_t i = 0; i < total; i++)
        call->outputs[0].data[i] = fill;
    int64_t steps[MAX_RANK];
    strides(out, steps);
    for (size_t i = 0; i < given; i++) {
        size_t rest = i, at = 0;
        for (uint32_t k = in->rank; k-- > 0; rest /= in->dims[k])
            at += (rest % in->dims[k] + (size_t)pads[2 * k]) * (size_t)steps[k];
        call->outputs[0].data[at] = call->inputs[0].data[i];
    }
    return NO_ERROR;
}

int slicing(Call *call) {
    const Operand *in = call->inputs[0].operand;
    const int32_t *begin, *size;
    uint32_t begins, sizes, dims[MAX_RANK];
    int64_t steps[MAX_RANK], start = 0;
    TRY(takes(call, 3, 3, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(moves(call));
    TRY(constant_ints(call, 1, &begin, &begins));
    TRY(constant_ints(call, 2, &size, &sizes));
    if (begins != in->rank || sizes != in->rank)
        FAIL(BAD_DATA, "%u beginnings and %u sizes for %u dimensions", begins, sizes, in->rank);
    strides(in, steps);
    for (uint32_t i = 0; i < in->rank; i++) {
        int64_t length = size[i] == -1 ? (int64_t)in->dims[i] - begin[i] : size[i];
        if (begin[i] < 0 || length < 1 || begin[i] + length > in->dims[i])
            FAIL(BAD_DATA, "%lld from %d on of %u", (long long)length, begin[i], in->dims[i]);
        dims[i] = (uint32_t)length;
        start += begin[i] * steps[i];
    }
    TRY(result_is(call, 0, in->rank, dims));
    if (call->is_run)
        walk(call, start, steps);
    return NO_ERROR;
}

int strided_slicing(Call *call) {
    const Operand *in = call->inputs[0].operand;
    const int32_t *begin, *end, *step;
    uint32_t counts[3], dims[MAX_RANK], rank = 0;
    int32_t begin_mask, end_mask, shrink_mask;
    TRY(takes(call, 7, 7, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(moves(call));
    TRY(constant_ints(call, 1, &begin, &counts[0]));
    TRY(constant_ints(call, 2, &end, &counts[1]));
    TRY(constant_ints(call, 3, &step, &counts[2]));
    TRY(constant_int(call, 4, &begin_mask));
    TRY(constant_int(call, 5, &end_mask));
    TRY(constant_int(call, 6, &shrink_mask));
    for (int i = 0; i < 3; i++)
        if (counts[i] != in->rank)
            FAIL(BAD_DATA, "%u numbers for %u dimensions", counts[i], in->rank);
    int64_t from[MAX_RANK], steps[MAX_RANK], start = 0;
    strides(in, from);
    for (uint32_t i = 0; i < in->rank; i++) {
        int64_t size = in->dims[i], low = step[i] > 0 ? 0 : -1, high = step[i] > 0 ? size : size - 1;
        if (!step[i])
            FAIL(BAD_DATA, "a step of 0");
        int64_t first = begin[i] + (begin[i] < 0 ? size : 0), last = end[i] + (end[i] < 0 ? size : 0);
        first = begin_mask >> i & 1 ? (step[i] > 0 ? 0 : size - 1) : first < low ? low : first > high ? high : first;
        last = end_mask >> i & 1 ? (step[i] > 0 ? size : -1) : last < low ? low : last > high ? high : last;
        if (shrink_mask >> i & 1)
            last = first + 1;
        int64_t span = step[i] > 0 ? last - first : first - last, pace = step[i] > 0 ? step[i] : -step[i];
        int64_t length = span > 0 ? (span + pace - 1) / pace : 0;
        if (length < 1 || first < 0 || first >= size)
            FAIL(BAD_DATA, "a slice of dimension %u without numbers", i);
        start += first * from[i];
        if (shrink_mask >> i & 1)
            continue;
        dims[rank] = (uint32_t)length;
        steps[rank++] = step[i] * from[i];
    }
    if (!rank) {
        dims[0] = 1;
        steps[rank++] = 0;
    }
    TRY(result_is(call, 0, rank, dims));
    if (call->is_run)
        walk(call, start, steps);
    return NO_ERROR;
}

int gathering(Call *call) {
    const Operand *in = call->inputs[0].operand, *indices = call->inputs[2].operand;
    int32_t axis;
    uint32_t dims[2 * MAX_RANK], rank = 0;
    TRY(takes(call, 3, 3, 1));
    TRY(moves(call));
    TRY(axis_at(call, 1, in->rank, &axis));
    if (indices->type != T_TENSOR_INT32)
        FAIL(BAD_DATA, "indices of type %d", indices->type);
    for (uint32_t i = 0; i < in->rank; i++)
        if ((int32_t)i != axis)
            dims[rank++] = in->dims[i];
        else
            for (uint32_t k = 0; k < indices->rank; k++)
                dims[rank++] = indices->dims[k];
    TRY(result_is(call, 0, rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    size_t outer, whole, count = element_count(indices);
    split_sizes(in, axis, &outer, &whole);
    size_t inner = whole / in->dims[axis];
    float *out = call->outputs[0].data;
    for (size_t row = 0; row < outer; row++)
        for (size_t i = 0; i < count; i++, out += inner) {
            float index = call->inputs[2].data[i];
            if (!(index >= 0) || index >= (float)in->dims[axis])
                FAIL(OP_FAILED, "index %g of %u", (double)index, in->dims[axis]);
            memcpy(out, call->inputs[0].data + row * whole + (size_t)index * inner, sizeof(float) * inner);
        }
    return NO_ERROR;
}

int tiling(Call *call) {
    const Operand *in = call->inputs[0].operand, *out = call->outputs[0].operand;
    const int32_t *times;
    uint32_t count, dims[MAX_RANK];
    TRY(takes(call, 2, 2, 1));
    TRY(moves(call));
    TRY(constant_ints(call, 1, &times, &count));
    if (count != in->rank)
        FAIL(BAD_DATA, "%u multiples for %u dimensions", count, in->rank);
    for (uint32_t i = 0; i < count; i++) {
        if (times[i] < 1)
            FAIL(BAD_DATA, "%d times", times[i]);
        dims[i] = in->dims[i] * (uint32_t)times[i];
    }
    TRY(result_is(call, 0, count, dims));
    size_t total = element_count(out);
    int64_t steps[MAX_RANK];
    strides(in, steps);
    for (size_t i = 0; call->is_run && i < total; i++) {
        size_t rest = i, at = 0;
        for (uint32_t k = count; k-- > 0; rest /= out->dims[k])
            at += rest % out->dims[k] % in->dims[k] * (size_t)steps[k];
        call->outputs[0].data[i] = call->inputs[0].data[at];
    }
    return NO_ERROR;
}

int channel_shuffle(Call *call) {
    const Operand *in = call->inputs[0].operand;
    int32_t groups, axis;
    TRY(takes(call, 3, 3, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(moves(call));
    TRY(constant_int(call, 1, &groups));
    TRY(axis_at(call, 2, in->rank, &axis));
    if (groups < 1 || in->dims[axis] % (uint32_t)groups)
        FAIL(BAD_DATA, "%u channels in %d groups", in->dims[axis], groups);
    TRY(result_is(call, 0, in->rank, in->dims));
    size_t outer, whole, channels = in->dims[axis], share = channels / (size_t)groups;
    split_sizes(in, axis, &outer, &whole);
    size_t inner = whole / channels;
    for (size_t row = 0; call->is_run && row < outer; row++)
        for (size_t c = 0; c < channels; c++)
            memcpy(
                call->outputs[0].data + row * whole + c * inner,
                call->inputs[0].data + row * whole + (c % (size_t)groups * share + c / (size_t)groups) * inner,
                sizeof(float) * inner
            );
    return NO_ERROR;
}

int filling(Call *call) {
    const Operand *out = call->outputs[0].operand;
    const int32_t *shape;
    uint32_t count, dims[MAX_RANK];
    TRY(takes(call, 2, 2, 1));
    TRY(constant_ints(call, 0, &shape, &count));
    if (count > MAX_RANK)
        FAIL(BAD_DATA, "%u dimensions", count);
    for (uint32_t i = 0; i < count; i++)
        dims[i] = (uint32_t)shape[i];
    TRY(result_is(call, 0, count, dims));
    float value;
    if (out->type == T_TENSOR_INT32) {
        int32_t number;
        TRY(constant_int(call, 1, &number));
        value = (float)number;
    } else {
        TRY(constant_float(call, 1, &value));
    }
    size_t total = element_count(out);
    for (size_t i = 0; call->is_run && i < total; i++)
        call->outputs[0].data[i] = value;
    return NO_ERROR;
}
