// The extension `mace.winograd`: convolutions of 3x3 by Winograd's minimal filtering, F(2x2, 3x3) and F(4x4, 3x3).
//
// A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), section 4: for each tile d of the
// picture and each filter g, result = A'[(G g G') * (B' d B)]A, where * is a product of elements, summed over the channels.
// The interpolation points are 0, 1, -1 (and 2, -2). -DNO_EXTENSIONS builds a library that has none.
#include <stdlib.h>
#include <string.h>

#include "table.h"

static const char NAME[] = "mace.winograd";

enum { MOST_POINTS = 6, TAPS = 3 };

typedef struct {
    int32_t left, right, top, bottom, activation, block;
} Given;

static const float B2[4][6] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
static const float G2[4][3] = {{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
static const float A2[2][6] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
static const float B4[6][6] = {
    {4, 0, -5, 0, 1, 0}, {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
    {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1},
};
static const float G4[6][3] = {
    {1 / 4.f, 0, 0}, {-1 / 6.f, -1 / 6.f, -1 / 6.f}, {-1 / 6.f, 1 / 6.f, -1 / 6.f},
    {1 / 24.f, 1 / 12.f, 1 / 6.f}, {1 / 24.f, -1 / 12.f, 1 / 6.f}, {0, 0, 1},
};
static const float A4[4][6] = {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

// result (rows x rows) = matrix (rows x inner) * tile (inner x inner) * matrix'
static void both_sides(const float *matrix, int width, int rows, int inner, const float *tile, float *result) {
    float half[MOST_POINTS * MOST_POINTS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < inner; j++) {
            half[i * inner + j] = 0;
            for (int k = 0; k < inner; k++)
                half[i * inner + j] += matrix[i * width + k] * tile[k * inner + j];
        }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < rows; j++) {
            result[i * rows + j] = 0;
            for (int k = 0; k < inner; k++)
                result[i * rows + j] += half[i * inner + k] * matrix[j * width + k];
        }
}

static float rounded(float value, bool half) { return half ? (float)(_Float16)value : value; }

// transformed[point][output][input]
static void transform_filters(const Call *call, int points, float *transformed) {
    const Operand *filter = call->inputs[1].operand;
    size_t outputs = filter->dims[0], depth = filter->dims[3];
    const float *g = points == 4 ? &G2[0][0] : &G4[0][0];
    for (size_t k = 0; k < outputs; k++)
        for (size_t c = 0; c < depth; c++) {
            float taps[TAPS * TAPS], found[MOST_POINTS * MOST_POINTS];
            for (size_t tap = 0; tap < TAPS * TAPS; tap++)
                taps[tap] = call->inputs[1].data[(k * TAPS * TAPS + tap) * depth + c];
            both_sides(g, TAPS, points, TAPS, taps, found);
            for (int point = 0; point < points * points; point++)
                transformed[((size_t)point * outputs + k) * depth + c] = rounded(found[point], call->is_half);
        }
}

// transformed[point][input] of the tile at (y, x)
static void transform_tile(const Call *call, int points, uint32_t batch, int32_t y, int32_t x, float *transformed) {
    const uint32_t *dims = call->inputs[0].operand->dims;
    size_t depth = dims[3];
    const float *b = points == 4 ? &B2[0][0] : &B4[0][0];
    for (size_t c = 0; c < depth; c++) {
        float tile[MOST_POINTS * MOST_POINTS], found[MOST_POINTS * MOST_POINTS];
        for (int j = 0; j < points; j++)
            for (int i = 0; i < points; i++) {
                int32_t row = y + j, column = x + i;
                bool inside = row >= 0 && column >= 0 && row < (int32_t)dims[1] && column < (int32_t)dims[2];
                size_t at = ((size_t)batch * dims[1] + (size_t)row) * dims[2] + (size_t)column;
                tile[j * points + i] = inside ? call->inputs[0].data[at * depth + c] : 0;
            }
        both_sides(b, MOST_POINTS, points, points, tile, found);
        for (int point = 0; point < points * points; point++)
            transformed[(size_t)point * depth + c] = rounded(found[point], call->is_half);
    }
}

static int read_given(const Call *call, Given *given) {
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    TRY(takes(call, 9, 9, 1));
    TRY(tensor_in(call, 0, 4, 4));
    if (picture->type != T_TENSOR_FLOAT32 && picture->type != T_TENSOR_FLOAT16)
        FAIL(BAD_DATA, "Winograd's convolution of type %d", picture->type);
    TRY(same_numbers(call, picture, call->outputs[0].operand, false));
    TRY(check_filter(call, 1, 0, 4));
    if (filter->dims[1] != TAPS || filter->dims[2] != TAPS || filter->dims[3] != picture->dims[3])
        FAIL(BAD_DATA, "a filter of %u by %u for %u channels", filter->dims[1], filter->dims[2], filter->dims[3]);
    TRY(check_bias(call, 2, picture, filter, filter->dims[0]));
    TRY(constant_int(call, 3, &given->left));
    TRY(constant_int(call, 4, &given->right));
    TRY(constant_int(call, 5, &given->top));
    TRY(constant_int(call, 6, &given->bottom));
    TRY(activation_at(call, 7, &given->activation));
    TRY(constant_int(call, 8, &given->block));
    if (given->block != 2 && given->block != 4)
        FAIL(BAD_DATA, "a block of %d", given->block);
    if (given->left < 0 || given->right < 0 || given->top < 0 || given->bottom < 0)
        FAIL(BAD_DATA, "a negative padding");
    return NO_ERROR;
}

static void convolve(const Call *call, const Given *given, const float *filters, float *tile, float *sums) {
    const uint32_t *dims = call->outputs[0].operand->dims;
    size_t channels = dims[3], depth = call->inputs[0].operand->dims[3];
    int block = given->block, points = block + 2;
    for (uint32_t n = 0; n < dims[0]; n++)
        for (int32_t y = 0; y < (int32_t)dims[1]; y += block)
            for (int32_t x = 0; x < (int32_t)dims[2]; x += block) {
                transform_tile(call, points, n, y - given->top, x - given->left, tile);
                for (int point = 0; point < points * points; point++)
                    for (size_t k = 0; k < channels; k++)
                        sums[k * (size_t)(points * points) + (size_t)point] = dot(
                            tile + (size_t)point * depth, filters + ((size_t)point * channels + k) * depth, depth
                        );
                for (size_t k = 0; k < channels; k++) {
                    float found[16];
                    both_sides(
                        block == 2 ? &A2[0][0] : &A4[0][0], MOST_POINTS, block, points,
                        sums + k * (size_t)(points * points), found
                    );
                    for (int j = 0; j < block && y + j < (int32_t)dims[1]; j++)
                        for (int i = 0; i < block && x + i < (int32_t)dims[2]; i++) {
                            size_t at = ((size_t)n * dims[1] + (size_t)(y + j)) * dims[2] + (size_t)(x + i);
                            call->outputs[0].data[at * channels + k] =
                                fused(given->activation, found[j * block + i] + bias_of(call, (uint32_t)k));
                        }
                }
            }
}

int winograd_convolution(Call *call) {
    Given given;
    TRY(read_given(call, &given));
    const Operand *picture = call->inputs[0].operand, *filter = call->inputs[1].operand;
    int64_t height = (int64_t)picture->dims[1] + given.top + given.bottom - (TAPS - 1);
    int64_t width = (int64_t)picture->dims[2] + given.left + given.right - (TAPS - 1);
    if (height < 1 || width < 1)
        FAIL(BAD_DATA, "a result of %d by %d", (int)height, (int)width);
    TRY(result_is(call, 0, 4, (uint32_t[]){picture->dims[0], (uint32_t)height, (uint32_t)width, filter->dims[0]}));
    if (!call->is_run)
        return NO_ERROR;
    size_t points = (size_t)(given.block + 2) * (size_t)(given.block + 2);
    float *filters = malloc(sizeof(float) * points * filter->dims[0] * filter->dims[3]);
    float *tile = malloc(sizeof(float) * points * filter->dims[3]), *sums = malloc(sizeof(float) * points * filter->dims[0]);
    int code = filters && tile && sums ? NO_ERROR : OUT_OF_MEMORY;
    if (!code) {
        transform_filters(call, given.block + 2, filters);
        convolve(call, &given, filters, tile, sums);
    }
    free(filters);
    free(tile);
    free(sums);
    return code;
}

static bool is_here(const char *name) {
#ifdef NO_EXTENSIONS
    (void)name;
    (void)NAME;
    return false;
#else
    return !strcmp(name, NAME);
#endif
}

EXPORT int NeuronDevice_getExtensionSupport(const char *name, bool *is_supported) {
    ENTER();
    if (!name || !is_supported)
        FAIL(UNEXPECTED_NULL, "no name of an extension, or no place for the answer");
    *is_supported = is_here(name);
    return NO_ERROR;
}

EXPORT int NeuronModel_getExtensionOperationType(
    NeuronModel *model, const char *name, uint16_t operation, int32_t *type
) {
    ENTER();
    if (!model || !name || !type)
        FAIL(UNEXPECTED_NULL, "no model, no name of an extension, or no place for the type");
    if (!is_model(model) || !is_here(name) || operation)
        FAIL(BAD_DATA, "there is no operation %u of an extension '%s'", operation, name);
    *type = WINOGRAD_CONVOLUTION;
    return NO_ERROR;
}
