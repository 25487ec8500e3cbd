// The part of the Neuron Adapter interface that the stand-in offers, from the vendor's public description of it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NO_ERROR = 0, OUT_OF_MEMORY = 1, INCOMPLETE = 2, UNEXPECTED_NULL = 3, BAD_DATA = 4, OP_FAILED = 5, UNMAPPABLE = 6,
    BAD_STATE = 7, BAD_VERSION = 8, OUTPUT_INSUFFICIENT_SIZE = 9, UNAVAILABLE_DEVICE = 10
};

enum {
    T_FLOAT32 = 0, T_INT32 = 1, T_UINT32 = 2, T_TENSOR_FLOAT32 = 3, T_TENSOR_INT32 = 4, T_QUANT8 = 5, T_BOOL = 6,
    T_TENSOR_FLOAT16 = 8, T_TENSOR_BOOL8 = 9, T_FLOAT16 = 10, T_QUANT8_CHANNELS = 11, T_QUANT8_SYMM = 13, T_QUANT8_SIGNED = 14
};

enum { COPIED_BYTES = 128, MAX_RANK = 8 };

typedef struct {
    uint8_t major, minor, patch;
} RuntimeVersion;

typedef struct {
#ifdef WRONG_STRUCT  // two fields the other way round, to see that a client of the real interface notices
    uint32_t rank;
    int32_t type;
#else
    int32_t type;
    uint32_t rank;
#endif
    const uint32_t *dimensions;
    float scale;
    int32_t zero_point;
} OperandType;

typedef struct {
    uint32_t axis, count;
    const float *scales;
} ChannelQuantization;

typedef struct {
    uint32_t axis, count;
    const float *scales;
    uint32_t zero_point_count;
    const int32_t *zero_points;
} ChannelQuantizationWithZeros;

typedef struct NeuronDevice NeuronDevice;
typedef struct NeuronMemory NeuronMemory;
typedef struct NeuronModel NeuronModel;
typedef struct NeuronCompilation NeuronCompilation;
typedef struct NeuronExecution NeuronExecution;
typedef struct NeuronEvent NeuronEvent;

#define EXPORT __attribute__((visibility("default")))
