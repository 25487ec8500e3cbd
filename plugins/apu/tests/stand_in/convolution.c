// Convolutions of all kinds, and products of matrices.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

typedef struct {
    Window window;
    int32_t groups, multiplier, activation;
} Convolution;

float dot(const float *left, const float *right, size_t count) {
    float sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += left[i] * right[i];
    return sum;
}

// The bias of quantized convolutions has the product of the scales of the picture and the filter.
int check_bias(const Call *call, uint32_t index, const Operand *picture, const Operand *filter, uint32_t channels) {
    const Operand *bias = call->inputs[index].operand;
    TRY(tensor_in(call, index, 1, 1));
    if (bias->dims[0] != channels)
        FAIL(BAD_DATA, "a bias of %u for %u channels", bias->dims[0], channels);
    if (!is_quantized(picture->type))
        return same_numbers(call, bias, picture, false);
    if (bias->type != T_TENSOR_INT32 || bias->zero_point)
        FAIL(BAD_DATA, "a bias of type %d, zero point %d, for quantized numbers", bias->type, bias->zero_point);
    if (filter->type == T_QUANT8_CHANNELS) {
        if (bias->scale != 0)
            FAIL(BAD_DATA, "a bias with a scale of its own beside a filter with one per channel");
        return NO_ERROR;
    }
    float wanted = picture->scale * filter->scale;
    if (fabsf(bias->scale - wanted) > 1e-5f * wanted)
        FAIL(BAD_DATA, "a bias of scale %g where %g belongs", (double)bias->scale, (double)wanted);
    return NO_ERROR;
}

int check_filter(const Call *call, uint32_t index, uint32_t axis, uint32_t rank) {
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[index].operand;
    TRY(tensor_in(call, index, rank, rank));
    if (filter->type == T_QUANT8_CHANNELS) {
        if (!is_quantized(picture->type) || filter->channel_axis != axis)
            FAIL(BAD_DATA, "scales along axis %u of a filter, beside type %d", filter->channel_axis, picture->type);
        return NO_ERROR;
    }
    return same_numbers(call, picture, filter, false);
}

float bias_of(const Call *call, uint32_t channel) {
    const Operand *bias = call->inputs[2].operand, *filter = call->inputs[1].operand;
    float value = call->inputs[2].data[channel];
    if (bias->type != T_TENSOR_INT32)
        return value;
    return value * (filter->type == T_QUANT8_CHANNELS
        ? call->inputs[0].operand->scale * filter->channel_scales[channel] : bias->scale);
}

// Reads window, strides and activation; `extra` numbers (groups, multiplier) stand before the activation.
static int read_arguments(const Call *call, Convolution *found, uint32_t extra, bool dilated) {
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    TRY(tensor_in(call, 0, 4, 4));
    TRY(is_real(call, picture));
    TRY(same_numbers(call, picture, call->outputs[0].operand, false));
    bool is_explicit = call->input_count > 8 + extra && call->inputs[7 + extra].operand->type == T_INT32 &&
                       call->inputs[8 + extra].operand->type == T_INT32;
    Window *window = &found->window;
    window->width = (int32_t)filter->dims[2];
    window->height = (int32_t)filter->dims[1];
    window->dilation_x = window->dilation_y = 1;
    uint32_t at = is_explicit ? 7 : 4;
    uint32_t layout = at + 3 + extra;
    if (call->input_count > layout + (dilated ? 3 : 1))
        FAIL(BAD_DATA, "operation %d with %u inputs", call->type, call->input_count);
    TRY(channels_last(call, layout));
    if (dilated && call->input_count > layout + 1) {
        if (call->input_count != layout + 3)
            FAIL(BAD_DATA, "one dilation without the other");
        TRY(constant_int(call, layout + 1, &window->dilation_x));
        TRY(constant_int(call, layout + 2, &window->dilation_y));
    }
    TRY(constant_int(call, at, &window->stride_x));
    TRY(constant_int(call, at + 1, &window->stride_y));
    found->groups = found->multiplier = 1;
    if (extra)
        TRY(constant_int(call, at + 2, call->type == 4 ? &found->multiplier : &found->groups));
    TRY(activation_at(call, at + 2 + extra, &found->activation));
    if (is_explicit) {
        TRY(constant_int(call, 3, &window->left));
        TRY(constant_int(call, 4, &window->right));
        TRY(constant_int(call, 5, &window->top));
        return constant_int(call, 6, &window->bottom);
    }
    int32_t scheme;
    TRY(constant_int(call, 3, &scheme));
    return same_padding(window, scheme, picture->dims[1], picture->dims[2]);
}

static void copy_patch(const Tensor *picture, const Window *window, int32_t y, int32_t x, uint32_t first, uint32_t count,
                       uint32_t batch, float *patch) {
    const uint32_t *dims = picture->operand->dims;
    for (int32_t j = 0; j < window->height; j++)
        for (int32_t i = 0; i < window->width; i++, patch += count) {
            int32_t row = y + j * window->dilation_y, column = x + i * window->dilation_x;
            if (row < 0 || column < 0 || row >= (int32_t)dims[1] || column >= (int32_t)dims[2])
                memset(patch, 0, sizeof(float) * count);
            else
                memcpy(
                    patch, picture->data + (((size_t)batch * dims[1] + (size_t)row) * dims[2] + (size_t)column) * dims[3] + first,
                    sizeof(float) * count
                );
        }
}

static int convolve(Call *call, const Convolution *given) {
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    TRY(check_filter(call, 1, 0, 4));
    uint32_t channels = filter->dims[0], inner = filter->dims[3], groups = (uint32_t)given->groups;
    if (given->groups < 1 || channels % groups || inner * groups != picture->dims[3])
        FAIL(BAD_DATA, "%u channels, a filter of %u, %u groups", picture->dims[3], inner, groups);
    TRY(check_bias(call, 2, picture, filter, channels));
    const Window *window = &given->window;
    uint32_t height, width;
    TRY(window_result(window, picture, &height, &width));
    TRY(result_is(call, 0, 4, (uint32_t[]){picture->dims[0], height, width, channels}));
    if (!call->is_run)
        return NO_ERROR;
    size_t length = (size_t)window->width * (size_t)window->height * inner;
    float *patch = malloc(sizeof(float) * length), *out = call->outputs[0].data;
    if (!patch)
        return OUT_OF_MEMORY;
    uint32_t share = channels / groups;
    for (uint32_t n = 0; n < picture->dims[0]; n++)
        for (uint32_t y = 0; y < height; y++)
            for (uint32_t x = 0; x < width; x++)
                for (uint32_t group = 0; group < groups; group++) {
                    copy_patch(
                        &call->inputs[0], window, (int32_t)y * window->stride_y - window->top,
                        (int32_t)x * window->stride_x - window->left, group * inner, inner, n, patch
                    );
                    for (uint32_t k = group * share; k < (group + 1) * share; k++)
                        *out++ = fused(given->activation,
                                       dot(patch, call->inputs[1].data + k * length, length) + bias_of(call, k));
                }
    free(patch);
    return NO_ERROR;
}

int convolution(Call *call) {
    Convolution given;
    TRY(takes(call, 7, 13, 1));
    TRY(read_arguments(call, &given, 0, true));
    return convolve(call, &given);
}

int grouped_convolution(Call *call) {
    Convolution given;
    TRY(takes(call, 8, 12, 1));
    TRY(read_arguments(call, &given, 1, false));
    return convolve(call, &given);
}

int depthwise_convolution(Call *call) {
    Convolution given;
    TRY(takes(call, 8, 14, 1));
    TRY(read_arguments(call, &given, 1, true));
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    TRY(check_filter(call, 1, 3, 4));
    uint32_t channels = filter->dims[3], depth = picture->dims[3];
    if (filter->dims[0] != 1 || given.multiplier < 1 || depth * (uint32_t)given.multiplier != channels)
        FAIL(BAD_DATA, "%u channels, %u filters, multiplier %d", depth, channels, given.multiplier);
    TRY(check_bias(call, 2, picture, filter, channels));
    const Window *window = &given.window;
    uint32_t height, width;
    TRY(window_result(window, picture, &height, &width));
    TRY(result_is(call, 0, 4, (uint32_t[]){picture->dims[0], height, width, channels}));
    if (!call->is_run)
        return NO_ERROR;
    size_t taps = (size_t)window->width * (size_t)window->height, multiplier = (size_t)given.multiplier;
    float *patch = malloc(sizeof(float) * taps * depth), *out = call->outputs[0].data;
    if (!patch)
        return OUT_OF_MEMORY;
    for (uint32_t n = 0; n < picture->dims[0]; n++)
        for (uint32_t y = 0; y < height; y++)
            for (uint32_t x = 0; x < width; x++, out += channels) {
                copy_patch(
                    &call->inputs[0], window, (int32_t)y * window->stride_y - window->top,
                    (int32_t)x * window->stride_x - window->left, 0, depth, n, patch
                );
                for (size_t tap = 0; tap < taps; tap++)
                    for (uint32_t k = 0; k < channels; k++)
                        out[k] += patch[tap * depth + k / multiplier] * call->inputs[1].data[tap * channels + k];
                for (uint32_t k = 0; k < channels; k++)
                    out[k] = fused(given.activation, out[k] + bias_of(call, k));
            }
    free(patch);
    return NO_ERROR;
}

// The filter is (outputs, height, width, inputs); paddings are taken off the result.
static int read_transposed(const Call *call, Convolution *given, uint32_t *height, uint32_t *width) {
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    Window *window = &given->window;
    *window = (Window){.width = (int32_t)filter->dims[2], .height = (int32_t)filter->dims[1], .dilation_x = 1, .dilation_y = 1};
    bool is_explicit = call->inputs[3].operand->type == T_INT32;
    uint32_t at = is_explicit ? 7 : 5;
    TRY(takes(call, at + 3, at + 4, 1));
    TRY(constant_int(call, at, &window->stride_x));
    TRY(constant_int(call, at + 1, &window->stride_y));
    TRY(activation_at(call, at + 2, &given->activation));
    TRY(channels_last(call, at + 3));
    if (window->stride_x < 1 || window->stride_y < 1)
        FAIL(BAD_DATA, "a stride below 1");
    int32_t full_x = (int32_t)(picture->dims[2] - 1) * window->stride_x + window->width;
    int32_t full_y = (int32_t)(picture->dims[1] - 1) * window->stride_y + window->height;
    if (is_explicit) {
        TRY(constant_int(call, 3, &window->left));
        TRY(constant_int(call, 4, &window->right));
        TRY(constant_int(call, 5, &window->top));
        TRY(constant_int(call, 6, &window->bottom));
    } else {
        const int32_t *shape;
        uint32_t count;
        int32_t scheme;
        TRY(constant_ints(call, 3, &shape, &count));
        TRY(constant_int(call, 4, &scheme));
        if (count != 4 || scheme < 1 || scheme > 2)
            FAIL(BAD_DATA, "an output shape of %u numbers, padding scheme %d", count, scheme);
        window->left = (full_x - shape[2]) / 2;
        window->right = full_x - shape[2] - window->left;
        window->top = (full_y - shape[1]) / 2;
        window->bottom = full_y - shape[1] - window->top;
    }
    int32_t x = full_x - window->left - window->right, y = full_y - window->top - window->bottom;
    if (window->left < 0 || window->top < 0 || x < 1 || y < 1 || (is_explicit && (window->right < 0 || window->bottom < 0)))
        FAIL(BAD_DATA, "paddings %d, %d, %d, %d", window->left, window->right, window->top, window->bottom);
    *width = (uint32_t)x;
    *height = (uint32_t)y;
    return NO_ERROR;
}

int transposed_convolution(Call *call) {
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    TRY(takes(call, 8, 11, 1));
    TRY(tensor_in(call, 0, 4, 4));
    TRY(is_real(call, picture));
    TRY(same_numbers(call, picture, call->outputs[0].operand, false));
    TRY(check_filter(call, 1, 0, 4));
    Convolution given;
    uint32_t height, width, channels = filter->dims[0], depth = picture->dims[3];
    TRY(read_transposed(call, &given, &height, &width));
    if (filter->dims[3] != depth)
        FAIL(BAD_DATA, "%u channels, a filter of %u", depth, filter->dims[3]);
    TRY(check_bias(call, 2, picture, filter, channels));
    TRY(result_is(call, 0, 4, (uint32_t[]){picture->dims[0], height, width, channels}));
    if (!call->is_run)
        return NO_ERROR;
    const Window *window = &given.window;
    float *out = call->outputs[0].data;
    for (uint32_t n = 0; n < picture->dims[0]; n++)
        for (uint32_t y = 0; y < picture->dims[1]; y++)
            for (uint32_t x = 0; x < picture->dims[2]; x++) {
                const float *source = call->inputs[0].data + (((size_t)n * picture->dims[1] + y) * picture->dims[2] + x) * depth;
                for (uint32_t k = 0; k < channels; k++)
                    for (int32_t j = 0; j < window->height; j++)
                        for (int32_t i = 0; i < window->width; i++) {
                            int32_t row = (int32_t)y * window->stride_y + j - window->top;
                            int32_t column = (int32_t)x * window->stride_x + i - window->left;
                            if (row < 0 || column < 0 || row >= (int32_t)height || column >= (int32_t)width)
                                continue;
                            size_t tap = ((size_t)k * filter->dims[1] + (size_t)j) * filter->dims[2] + (size_t)i;
                            out[(((size_t)n * height + (size_t)row) * width + (size_t)column) * channels + k] +=
                                dot(source, call->inputs[1].data + tap * depth, depth);
                        }
            }
    size_t count = element_count(call->outputs[0].operand);
    for (size_t i = 0; i < count; i++)
        out[i] = fused(given.activation, out[i] + bias_of(call, (uint32_t)(i % channels)));
    return NO_ERROR;
}

int fully_connected(Call *call) {
    const Operand *input = call->inputs[0].operand, *weights = call->inputs[1].operand;
    TRY(takes(call, 4, 4, 1));
    TRY(tensor_in(call, 0, 1, 4));
    TRY(is_real(call, input));
    TRY(same_numbers(call, input, call->outputs[0].operand, false));
    TRY(check_filter(call, 1, 0, 2));
    uint32_t units = weights->dims[0], length = weights->dims[1];
    int32_t activation;
    TRY(activation_at(call, 3, &activation));
    TRY(check_bias(call, 2, input, weights, units));
    size_t count = element_count(input);
    if (count % length)
        FAIL(BAD_DATA, "%zu numbers for weights of %u", count, length);
    uint32_t batch = (uint32_t)(count / length);
    TRY(result_is(call, 0, 2, (uint32_t[]){batch, units}));
    if (call->is_run)
        for (uint32_t n = 0; n < batch; n++)
            for (uint32_t k = 0; k < units; k++)
                call->outputs[0].data[(size_t)n * units + k] = fused(
                    activation,
                    dot(call->inputs[0].data + (size_t)n * length, call->inputs[1].data + (size_t)k * length, length) +
                        bias_of(call, k)
                );
    return NO_ERROR;
}

int matrix_product(Call *call) {
    const Operand *left = call->inputs[0].operand, *right = call->inputs[1].operand;
    TRY(takes(call, 4, 4, 1));
    TRY(tensor_in(call, 0, 2, 4));
    TRY(tensor_in(call, 1, left->rank, left->rank));
    TRY(is_real(call, left));
    TRY(same_numbers(call, left, right, false));
    TRY(same_numbers(call, left, call->outputs[0].operand, false));
    bool turn_left, turn_right;
    TRY(constant_bool(call, 2, &turn_left));
    TRY(constant_bool(call, 3, &turn_right));
    uint32_t rank = left->rank, dims[4] = {0};
    size_t batch = 1;
    for (uint32_t i = 0; i + 2 < rank; i++) {
        if (left->dims[i] != right->dims[i])
            FAIL(BAD_DATA, "matrices of %u and %u", left->dims[i], right->dims[i]);
        dims[i] = left->dims[i];
        batch *= dims[i];
    }
    uint32_t rows = left->dims[rank - (turn_left ? 1 : 2)], inner = left->dims[rank - (turn_left ? 2 : 1)];
    uint32_t columns = right->dims[rank - (turn_right ? 2 : 1)];
    if (right->dims[rank - (turn_right ? 1 : 2)] != inner)
        FAIL(BAD_DATA, "a product over %u and %u", inner, right->dims[rank - (turn_right ? 1 : 2)]);
    dims[rank - 2] = rows;
    dims[rank - 1] = columns;
    TRY(result_is(call, 0, rank, dims));
    if (!call->is_run)
        return NO_ERROR;
    for (size_t n = 0; n < batch; n++) {
        const float *a = call->inputs[0].data + n * rows * inner, *b = call->inputs[1].data + n * inner * columns;
        float *out = call->outputs[0].data + n * rows * columns;
        for (uint32_t i = 0; i < rows; i++)
            for (uint32_t k = 0; k < inner; k++) {
                float value = turn_left ? a[(size_t)k * rows + i] : a[(size_t)i * inner + k];
                for (uint32_t j = 0; j < columns; j++)
                    out[(size_t)i * columns + j] += value * (turn_right ? b[(size_t)j * inner + k] : b[(size_t)k * columns + j]);
            }
    }
    return NO_ERROR;
}
