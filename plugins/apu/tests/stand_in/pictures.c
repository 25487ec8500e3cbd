// Pooling and resizing of pictures, and what moves between pixels and channels.
#include <math.h>

#include "table.h"

static size_t pixel(const Operand *picture, uint32_t n, uint32_t y, uint32_t x) {
    return (((size_t)n * picture->dims[1] + y) * picture->dims[2] + x) * picture->dims[3];
}

static int read_pool(const Call *call, Window *window, int32_t *activation) {
    const Operand *picture = call->inputs[0].operand;
    *window = (Window){.dilation_x = 1, .dilation_y = 1};
    bool is_explicit = call->input_count >= 10;
    uint32_t at = is_explicit ? 5 : 2;
    TRY(takes(call, at + 5, at + 6, 1));
    TRY(constant_int(call, at, &window->stride_x));
    TRY(constant_int(call, at + 1, &window->stride_y));
    TRY(constant_int(call, at + 2, &window->width));
    TRY(constant_int(call, at + 3, &window->height));
    TRY(activation_at(call, at + 4, activation));
    TRY(channels_last(call, at + 5));
    if (is_explicit) {
        TRY(constant_int(call, 1, &window->left));
        TRY(constant_int(call, 2, &window->right));
        TRY(constant_int(call, 3, &window->top));
        return constant_int(call, 4, &window->bottom);
    }
    int32_t scheme;
    TRY(constant_int(call, 1, &scheme));
    return same_padding(window, scheme, picture->dims[1], picture->dims[2]);
}

static float pooled(const Call *call, const Window *window, uint32_t n, uint32_t y, uint32_t x, uint32_t channel) {
    const Operand *picture = call->inputs[0].operand;
    float best = -INFINITY, sum = 0;
    int32_t count = 0;
    for (int32_t j = 0; j < window->height; j++)
        for (int32_t i = 0; i < window->width; i++) {
            int32_t row = (int32_t)y * window->stride_y + j - window->top, column = (int32_t)x * window->stride_x + i - window->left;
            if (row < 0 || column < 0 || row >= (int32_t)picture->dims[1] || column >= (int32_t)picture->dims[2])
                continue;
            float value = call->inputs[0].data[pixel(picture, n, (uint32_t)row, (uint32_t)column) + channel];
            best = value > best ? value : best;
            sum += call->type == 12 ? value * value : value;
            count++;
        }
    if (call->type == 17)
        return best;
    return call->type == 12 ? sqrtf(sum / (float)count) : sum / (float)count;  // padding does not count
}

int pooling(Call *call) {
    const Operand *picture = call->inputs[0].operand;
    TRY(takes(call, 7, 11, 1));
    TRY(tensor_in(call, 0, 4, 4));
    TRY(is_real(call, picture));
    if (call->type == 12 && is_quantized(picture->type))
        FAIL(BAD_DATA, "an L2 pool of quantized numbers");
    TRY(same_numbers(call, picture, call->outputs[0].operand, true));
    Window window;
    int32_t activation;
    TRY(read_pool(call, &window, &activation));
    if (window.left >= window.width || window.right >= window.width || window.top >= window.height || window.bottom >= window.height)
        FAIL(BAD_DATA, "a pool whose padding is as large as its window");
    uint32_t height, width;
    TRY(window_result(&window, picture, &height, &width));
    TRY(result_is(call, 0, 4, (uint32_t[]){picture->dims[0], height, width, picture->dims[3]}));
    if (!call->is_run)
        return NO_ERROR;
    float *out = call->outputs[0].data;
    for (uint32_t n = 0; n < picture->dims[0]; n++)
        for (uint32_t y = 0; y < height; y++)
            for (uint32_t x = 0; x < width; x++)
                for (uint32_t c = 0; c < picture->dims[3]; c++)
                    *out++ = fused(activation, pooled(call, &window, n, y, x, c));
    return NO_ERROR;
}

static int target_size(const Call *call, uint32_t *height, uint32_t *width) {
    const Operand *picture = call->inputs[0].operand;
    if (call->inputs[1].operand->type == T_INT32) {
        int32_t x, y;
        TRY(constant_int(call, 1, &x));
        TRY(constant_int(call, 2, &y));
        if (x < 1 || y < 1)
            FAIL(BAD_DATA, "resize to %d x %d", y, x);
        *width = (uint32_t)x;
        *height = (uint32_t)y;
        return NO_ERROR;
    }
    float x, y;
    TRY(constant_float(call, 1, &x));
    TRY(constant_float(call, 2, &y));
    if (!(x > 0) || !(y > 0))
        FAIL(BAD_DATA, "resize by %g x %g", (double)y, (double)x);
    *width = (uint32_t)floorf((float)picture->dims[2] * x);
    *height = (uint32_t)floorf((float)picture->dims[1] * y);
    return NO_ERROR;
}

typedef struct {
    bool corners, centers;
} Sampling;

static float scale_of(uint32_t in, uint32_t out, Sampling sampling) {
    return sampling.corners && out > 1 ? (float)(in - 1) / (float)(out - 1) : (float)in / (float)out;
}

static uint32_t nearest(uint32_t at, float scale, uint32_t size, Sampling sampling) {
    float place = sampling.centers ? ((float)at + 0.5f) * scale : (float)at * scale;
    int64_t found = (int64_t)(sampling.corners ? roundf(place) : floorf(place));
    return found < 0 ? 0 : found >= size ? size - 1 : (uint32_t)found;
}

static float between(uint32_t at, float scale, uint32_t size, Sampling sampling, uint32_t *low, uint32_t *high) {
    float place = sampling.centers ? ((float)at + 0.5f) * scale - 0.5f : (float)at * scale;
    float floor_ = floorf(place);
    *low = floor_ < 0 ? 0 : (uint32_t)floor_;
    *low = *low < size ? *low : size - 1;
    *high = floor_ + 1 < 0 ? 0 : (uint32_t)(floor_ + 1);
    *high = *high < size ? *high : size - 1;
    return place - floor_;
}

int resizing(Call *call) {
    const Operand *picture = call->inputs[0].operand, *result = call->outputs[0].operand;
    TRY(takes(call, 3, 6, 1));
    TRY(tensor_in(call, 0, 4, 4));
    TRY(is_real(call, picture));
    TRY(same_numbers(call, picture, result, true));
    uint32_t height, width;
    TRY(target_size(call, &height, &width));
    TRY(channels_last(call, 3));
    Sampling sampling = {false, false};
    if (call->input_count > 4)
        TRY(constant_bool(call, 4, &sampling.corners));
    if (call->input_count > 5)
        TRY(constant_bool(call, 5, &sampling.centers));
    if (sampling.corners && sampling.centers)
        FAIL(BAD_DATA, "aligned corners and half-pixel centers");
    TRY(result_is(call, 0, 4, (uint32_t[]){picture->dims[0], height, width, picture->dims[3]}));
    if (!call->is_run)
        return NO_ERROR;
    float scale_y = scale_of(picture->dims[1], height, sampling), scale_x = scale_of(picture->dims[2], width, sampling);
    const float *in = call->inputs[0].data;
    float *out = call->outputs[0].data;
    for (uint32_t n = 0; n < picture->dims[0]; n++)
        for (uint32_t y = 0; y < height; y++)
            for (uint32_t x = 0; x < width; x++) {
                if (call->type == 94) {
                    const float *from = in + pixel(picture, n, nearest(y, scale_y, picture->dims[1], sampling),
                                                   nearest(x, scale_x, picture->dims[2], sampling));
                    for (uint32_t c = 0; c < picture->dims[3]; c++)
                        *out++ = from[c];
                    continue;
                }
                uint32_t top, bottom, left, right;
                float fy = between(y, scale_y, picture->dims[1], sampling, &top, &bottom);
                float fx = between(x, scale_x, picture->dims[2], sampling, &left, &right);
                const float *a = in + pixel(picture, n, top, left), *b = in + pixel(picture, n, top, right);
                const float *c = in + pixel(picture, n, bottom, left), *d = in + pixel(picture, n, bottom, right);
                for (uint32_t k = 0; k < picture->dims[3]; k++)
                    *out++ = (a[k] * (1 - fx) + b[k] * fx) * (1 - fy) + (c[k] * (1 - fx) + d[k] * fx) * fy;
            }
    return NO_ERROR;
}

// DEPTH_TO_SPACE and SPACE_TO_DEPTH: the channels of a large pixel are its rows, columns, then the rest.
int blocks(Call *call) {
    const Operand *picture = call->inputs[0].operand, *result = call->outputs[0].operand;
    bool spreads = call->type == 5;
    TRY(takes(call, 2, 3, 1));
    TRY(tensor_in(call, 0, 4, 4));
    TRY(is_real(call, picture));
    TRY(same_numbers(call, picture, result, true));
    TRY(channels_last(call, 2));
    int32_t block;
    TRY(constant_int(call, 1, &block));
    if (block < 1)
        FAIL(BAD_DATA, "a block of %d", block);
    uint32_t b = (uint32_t)block;
    const uint32_t *dims = picture->dims;
    if (spreads ? dims[3] % (b * b) : dims[1] % b || dims[2] % b)
        FAIL(BAD_DATA, "blocks of %u do not fit", b);
    uint32_t spread[4] = {dims[0], dims[1] * b, dims[2] * b, dims[3] / (b * b)};
    uint32_t deep[4] = {dims[0], dims[1] / b, dims[2] / b, dims[3] * b * b};
    TRY(result_is(call, 0, 4, spreads ? spread : deep));
    if (!call->is_run)
        return NO_ERROR;
    const Operand *large = spreads ? picture : result, *small = spreads ? result : picture;
    uint32_t rest = small->dims[3];
    for (uint32_t n = 0; n < dims[0]; n++)
        for (uint32_t y = 0; y < small->dims[1]; y++)
            for (uint32_t x = 0; x < small->dims[2]; x++)
                for (uint32_t c = 0; c < rest; c++) {
                    size_t fine = pixel(small, n, y, x) + c;
                    size_t coarse = pixel(large, n, y / b, x / b) + ((y % b) * b + x % b) * rest + c;
                    call->outputs[0].data[spreads ? fine : coarse] = call->inputs[0].data[spreads ? coarse : fine];
                }
    return NO_ERROR;
}
