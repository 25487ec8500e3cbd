// Which kernel computes an operation, and what all of them check.
#include <math.h>
#include <string.h>

#include "table.h"

static const struct {
    int32_t operation;
    Kernel kernel;
} KERNELS[] = {
    {0, binary}, {1, pooling}, {2, concatenation}, {3, convolution}, {4, depthwise_convolution}, {5, blocks},
    {6, conversion}, {8, unary}, {9, fully_connected}, {11, l2_normalization}, {12, pooling}, {14, unary},
    {17, pooling}, {18, binary}, {19, unary}, {20, unary}, {21, unary}, {22, reshaping}, {23, resizing}, {25, softmax},
    {26, blocks}, {28, unary}, {30, binary}, {31, reduction}, {32, padding}, {34, reshaping}, {35, strided_slicing},
    {36, binary}, {37, transposition}, {38, unary}, {39, argument}, {40, argument}, {45, conversion},
    {46, channel_shuffle}, {48, comparison}, {49, unary}, {50, reshaping}, {51, gathering}, {53, comparison},
    {54, comparison}, {55, grouped_convolution}, {57, instance_normalization}, {58, comparison}, {59, comparison},
    {61, comparison}, {62, logical_not}, {63, comparison}, {65, binary}, {66, binary}, {67, unary}, {68, comparison},
    {69, padding}, {70, binary}, {71, prelu}, {72, conversion}, {75, flags_reduction}, {76, flags_reduction}, {77, reduction}, {78, reduction}, {80, reduction},
    {83, unary}, {84, selection}, {86, slicing}, {87, splitting}, {88, unary}, {89, tiling}, {90, top_k},
    {91, transposed_convolution}, {94, resizing}, {99, unary}, {100, filling}, {102, matrix_product},
#ifndef NO_EXTENSIONS
    {WINOGRAD_CONVOLUTION, winograd_convolution},
#endif
};

Kernel find_kernel(int32_t operation) {
    for (size_t i = 0; i < sizeof KERNELS / sizeof *KERNELS; i++)
        if (KERNELS[i].operation == operation)
            return KERNELS[i].kernel;
    return NULL;
}

int describe_call(Call *call, const NeuronModel *model, const Operation *operation) {
    if (operation->input_count > MOST_ARGUMENTS || operation->output_count > MOST_ARGUMENTS)
        FAIL(BAD_DATA, "operation %d with %u inputs", operation->type, operation->input_count);
    memset(call, 0, sizeof *call);
    call->type = operation->type;
    call->input_count = operation->input_count;
    call->output_count = operation->output_count;
    for (uint32_t i = 0; i < call->input_count; i++)
        call->inputs[i].operand = &model->operands[operation->inputs[i]];
    for (uint32_t i = 0; i < call->output_count; i++)
        call->outputs[i].operand = &model->operands[operation->outputs[i]];
    return NO_ERROR;
}

int check_model(NeuronModel *model) {
    static char made[1 << 20];  // by an operation that came before, a constant, or an input
    for (uint32_t i = 0; i < model->operand_count; i++)
        made[i] = model->operands[i].value || model->operands[i].is_input;
    for (uint32_t i = 0; i < model->operation_count; i++) {
        const Operation *operation = &model->operations[i];
        for (uint32_t j = 0; j < operation->input_count; j++)
            if (!made[operation->inputs[j]])
                FAIL(BAD_DATA, "operation %u reads operand %u before it is made", i, operation->inputs[j]);
        for (uint32_t j = 0; j < operation->output_count; j++)
            made[operation->outputs[j]] = 1;
        Call call;
        TRY(describe_call(&call, model, operation));
        TRY(find_kernel(operation->type)(&call));
    }
    return NO_ERROR;
}

int takes(const Call *call, uint32_t least, uint32_t most, uint32_t results) {
    if (call->input_count < least || call->input_count > most || call->output_count != results)
        FAIL(BAD_DATA, "operation %d with %u inputs and %u outputs", call->type, call->input_count, call->output_count);
    return NO_ERROR;
}

int tensor_in(const Call *call, uint32_t index, uint32_t least_rank, uint32_t most_rank) {
    const Operand *operand = call->inputs[index].operand;
    if (is_scalar(operand->type) || operand->rank < least_rank || operand->rank > most_rank)
        FAIL(
            BAD_DATA, "input %u of operation %d has %u dimensions (type %d)", index, call->type, operand->rank,
            operand->type
        );
    return NO_ERROR;
}

int is_real(const Call *call, const Operand *operand) {
    if (operand->type != T_TENSOR_FLOAT32 && operand->type != T_TENSOR_FLOAT16 && operand->type != T_QUANT8 &&
        operand->type != T_QUANT8_SIGNED)
        FAIL(BAD_DATA, "operation %d on type %d", call->type, operand->type);
    return NO_ERROR;
}

int same_numbers(const Call *call, const Operand *left, const Operand *right, bool scales) {
    if (left->type != right->type)
        FAIL(BAD_DATA, "operation %d on types %d and %d", call->type, left->type, right->type);
    if (scales && (left->scale != right->scale || left->zero_point != right->zero_point))
        FAIL(BAD_DATA, "operation %d on two scales", call->type);
    return NO_ERROR;
}

int result_is(const Call *call, uint32_t index, uint32_t rank, const uint32_t *dims) {
    const Operand *operand = call->outputs[index].operand;
    if (operand->rank != rank)
        FAIL(BAD_DATA, "output %u of operation %d has %u dimensions, not %u", index, call->type, operand->rank, rank);
    for (uint32_t i = 0; i < rank; i++)
        if (operand->dims[i] != dims[i])
            FAIL(
                BAD_DATA, "dimension %u of output %u of operation %d is %u, not %u", i, index, call->type,
                operand->dims[i], dims[i]
            );
    return NO_ERROR;
}

static int constant(const Call *call, uint32_t index, int32_t type, const void **value) {
    const Operand *operand = call->inputs[index].operand;
    if (operand->type != type || !operand->value)
        FAIL(BAD_DATA, "input %u of operation %d is not a constant of type %d", index, call->type, type);
    *value = operand->value;
    return NO_ERROR;
}

int constant_int(const Call *call, uint32_t index, int32_t *value) {
    const void *found;
    TRY(constant(call, index, T_INT32, &found));
    memcpy(value, found, 4);
    return NO_ERROR;
}

int constant_bool(const Call *call, uint32_t index, bool *value) {
    const void *found;
    TRY(constant(call, index, T_BOOL, &found));
    *value = *(const uint8_t *)found != 0;
    return NO_ERROR;
}

int constant_float(const Call *call, uint32_t index, float *value) {
    const void *found;
    if (call->inputs[index].operand->type == T_FLOAT16) {
        const Operand *operand = call->inputs[index].operand;
        TRY(constant(call, index, T_FLOAT16, &found));
        to_real(operand, found, value);
        return NO_ERROR;
    }
    TRY(constant(call, index, T_FLOAT32, &found));
    memcpy(value, found, 4);
    return NO_ERROR;
}

int constant_ints(const Call *call, uint32_t index, const int32_t **values, uint32_t *count) {
    const Operand *operand = call->inputs[index].operand;
    const void *found;
    TRY(constant(call, index, T_TENSOR_INT32, &found));
    *values = found;
    *count = (uint32_t)element_count(operand);
    return NO_ERROR;
}

int channels_last(const Call *call, uint32_t index) {
    bool first = false;
    if (index < call->input_count)
        TRY(constant_bool(call, index, &first));
    if (first)
        FAIL(BAD_DATA, "operation %d with channels first, which is not here", call->type);
    return NO_ERROR;
}

int activation_at(const Call *call, uint32_t index, int32_t *activation) {
    TRY(constant_int(call, index, activation));
    if (*activation < 0 || *activation > 3)
        FAIL(BAD_DATA, "there is no activation %d", *activation);
    return NO_ERROR;
}

float fused(int32_t activation, float value) {
    switch (activation) {
    case 1: return value > 0 ? value : 0;
    case 2: return value > 1 ? 1 : value < -1 ? -1 : value;
    case 3: return value > 6 ? 6 : value > 0 ? value : 0;
    default: return value;
    }
}

int same_padding(Window *window, int32_t scheme, uint32_t in_height, uint32_t in_width) {
    if (scheme != 1 && scheme != 2)
        FAIL(BAD_DATA, "there is no padding scheme %d", scheme);
    window->left = window->right = window->top = window->bottom = 0;
    if (scheme == 2 || window->stride_x < 1 || window->stride_y < 1)
        return NO_ERROR;
    int32_t extent_x = (window->width - 1) * window->dilation_x + 1, extent_y = (window->height - 1) * window->dilation_y + 1;
    int32_t out_x = ((int32_t)in_width + window->stride_x - 1) / window->stride_x;
    int32_t out_y = ((int32_t)in_height + window->stride_y - 1) / window->stride_y;
    int32_t needed_x = (out_x - 1) * window->stride_x + extent_x - (int32_t)in_width;
    int32_t needed_y = (out_y - 1) * window->stride_y + extent_y - (int32_t)in_height;
    needed_x = needed_x > 0 ? needed_x : 0;
    needed_y = needed_y > 0 ? needed_y : 0;
    window->left = needed_x / 2;
    window->right = needed_x - window->left;
    window->top = needed_y / 2;
    window->bottom = needed_y - window->top;
    return NO_ERROR;
}

int window_result(const Window *window, const Operand *picture, uint32_t *height, uint32_t *width) {
    if (window->stride_x < 1 || window->stride_y < 1 || window->width < 1 || window->height < 1 ||
        window->dilation_x < 1 || window->dilation_y < 1 || window->left < 0 || window->right < 0 || window->top < 0 ||
        window->bottom < 0)
        FAIL(BAD_DATA, "a window with a negative padding, or a stride, size or dilation below 1");
    int32_t free_x = (int32_t)picture->dims[2] + window->left + window->right - ((window->width - 1) * window->dilation_x + 1);
    int32_t free_y = (int32_t)picture->dims[1] + window->top + window->bottom - ((window->height - 1) * window->dilation_y + 1);
    if (free_x < 0 || free_y < 0)
        FAIL(BAD_DATA, "a window larger than the picture");
    *width = (uint32_t)(free_x / window->stride_x + 1);
    *height = (uint32_t)(free_y / window->stride_y + 1);
    return NO_ERROR;
}
