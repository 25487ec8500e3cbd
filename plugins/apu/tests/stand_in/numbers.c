// Numbers of operands as floats, and back: all kernels compute in float32.
#include <math.h>
#include <string.h>

#include "state.h"

void to_real(const Operand *operand, const void *raw, float *real) {
    size_t count = element_count(operand);
    const int8_t *bytes = raw;
    switch (operand->type) {
    case T_FLOAT32: case T_TENSOR_FLOAT32:
        memcpy(real, raw, 4 * count);
        return;
    case T_FLOAT16: case T_TENSOR_FLOAT16:
        for (size_t i = 0; i < count; i++)
            real[i] = (float)((const _Float16 *)raw)[i];
        return;
    case T_INT32: case T_UINT32: case T_TENSOR_INT32:
        for (size_t i = 0; i < count; i++)
            real[i] = (float)((const int32_t *)raw)[i];
        return;
    case T_QUANT8:
        for (size_t i = 0; i < count; i++)
            real[i] = (float)((int32_t)((const uint8_t *)raw)[i] - operand->zero_point) * operand->scale;
        return;
    case T_QUANT8_SIGNED: case T_QUANT8_SYMM:
        for (size_t i = 0; i < count; i++)
            real[i] = (float)(bytes[i] - operand->zero_point) * operand->scale;
        return;
    case T_QUANT8_CHANNELS: {
        size_t inner = 1;
        for (uint32_t i = operand->channel_axis + 1; i < operand->rank; i++)
            inner *= operand->dims[i];
        for (size_t i = 0; i < count; i++)
            real[i] = (float)bytes[i] * operand->channel_scales[i / inner % operand->channel_count];
        return;
    }
    default:
        for (size_t i = 0; i < count; i++)
            real[i] = bytes[i] != 0;
    }
}

static float level(const Operand *operand, float real) {
    float low = operand->type == T_QUANT8 ? 0.0f : -128.0f, high = operand->type == T_QUANT8 ? 255.0f : 127.0f;
    float found = rintf(real / operand->scale) + (float)operand->zero_point;
    return found > high ? high : found >= low ? found : low;  // low for NaN
}

void from_real(const Operand *operand, const float *real, void *raw) {
    size_t count = element_count(operand);
    switch (operand->type) {
    case T_TENSOR_FLOAT32:
        memcpy(raw, real, 4 * count);
        return;
    case T_TENSOR_FLOAT16:
        for (size_t i = 0; i < count; i++)
            ((_Float16 *)raw)[i] = (_Float16)real[i];
        return;
    case T_TENSOR_INT32:
        for (size_t i = 0; i < count; i++)
            ((int32_t *)raw)[i] = (int32_t)real[i];
        return;
    case T_QUANT8:
        for (size_t i = 0; i < count; i++)
            ((uint8_t *)raw)[i] = (uint8_t)level(operand, real[i]);
        return;
    case T_QUANT8_SIGNED: case T_QUANT8_SYMM:
        for (size_t i = 0; i < count; i++)
            ((int8_t *)raw)[i] = (int8_t)level(operand, real[i]);
        return;
    default:
        for (size_t i = 0; i < count; i++)
            ((uint8_t *)raw)[i] = real[i] != 0;
    }
}

// Relaxed float32 goes through float16, as it does in the hardware that this stands for.
void settle(const Operand *operand, float *real, bool relaxed) {
    size_t count = element_count(operand);
    if (is_quantized(operand->type)) {
        for (size_t i = 0; i < count; i++)
            real[i] = (level(operand, real[i]) - (float)operand->zero_point) * operand->scale;
    } else if (operand->type == T_TENSOR_FLOAT16 || (operand->type == T_TENSOR_FLOAT32 && relaxed)) {
        for (size_t i = 0; i < count; i++)
            real[i] = (float)(_Float16)real[i];
    } else if (operand->type == T_TENSOR_INT32) {
        for (size_t i = 0; i < count; i++)
            real[i] = truncf(real[i]);
    }
}
