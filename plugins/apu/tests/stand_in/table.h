// Kernels: each checks all of an operation's operands, tells its shape, and on a run computes.
#pragma once

#include "state.h"

enum { MOST_ARGUMENTS = 64 };

typedef struct {
    const Operand *operand;
    float *data;  // on a run
} Tensor;

typedef struct {
    int32_t type;
    bool is_run, is_half;  // whether it computes; whether numbers inside are to be those of float16
    uint32_t input_count, output_count;
    Tensor inputs[MOST_ARGUMENTS], outputs[MOST_ARGUMENTS];
} Call;

typedef int (*Kernel)(Call *);

Kernel find_kernel(int32_t operation);  // NULL for an operation that is not here
int describe_call(Call *call, const NeuronModel *model, const Operation *operation);

// --- checks; the code to return, NO_ERROR where all is well

int takes(const Call *call, uint32_t least, uint32_t most, uint32_t results);
int tensor_in(const Call *call, uint32_t index, uint32_t least_rank, uint32_t most_rank);  // numbers of any kind
int same_numbers(const Call *call, const Operand *left, const Operand *right, bool scales);
int result_is(const Call *call, uint32_t index, uint32_t rank, const uint32_t *dims);
int constant_int(const Call *call, uint32_t index, int32_t *value);
int constant_bool(const Call *call, uint32_t index, bool *value);
int constant_float(const Call *call, uint32_t index, float *value);
int constant_ints(const Call *call, uint32_t index, const int32_t **values, uint32_t *count);
int channels_last(const Call *call, uint32_t index);  // an optional argument: true would mean channels first
int is_real(const Call *call, const Operand *operand);  // float or quantized

// --- windows that slide over pictures

typedef struct {
    int32_t left, right, top, bottom, stride_x, stride_y, width, height, dilation_x, dilation_y;
} Window;

int same_padding(Window *window, int32_t scheme, uint32_t in_height, uint32_t in_width);
int window_result(const Window *window, const Operand *picture, uint32_t *height, uint32_t *width);
float fused(int32_t activation, float value);
int activation_at(const Call *call, uint32_t index, int32_t *activation);

float dot(const float *left, const float *right, size_t count);
int check_filter(const Call *call, uint32_t index, uint32_t axis, uint32_t rank);
int check_bias(const Call *call, uint32_t index, const Operand *picture, const Operand *filter, uint32_t channels);
float bias_of(const Call *call, uint32_t channel);

enum { WINOGRAD_CONVOLUTION = 0x10000 };  // of an extension, so beyond the interface's own

int winograd_convolution(Call *call);
int convolution(Call *call);
int grouped_convolution(Call *call);
int depthwise_convolution(Call *call);
int transposed_convolution(Call *call);
int pooling(Call *call);
int resizing(Call *call);
int fully_connected(Call *call);
int matrix_product(Call *call);
int binary(Call *call);
int comparison(Call *call);
int selection(Call *call);
int unary(Call *call);
int logical_not(Call *call);
int prelu(Call *call);
int softmax(Call *call);
int conversion(Call *call);
int reduction(Call *call);
int flags_reduction(Call *call);
int argument(Call *call);
int top_k(Call *call);
int instance_normalization(Call *call);
int l2_normalization(Call *call);
int reshaping(Call *call);
int transposition(Call *call);
int concatenation(Call *call);
int splitting(Call *call);
int padding(Call *call);
int slicing(Call *call);
int strided_slicing(Call *call);
int gathering(Call *call);
int tiling(Call *call);
int blocks(Call *call);
int channel_shuffle(Call *call);
int filling(Call *call);
