/* The two C interfaces of an op package for QNN's HTP backend, as Qualcomm's public documentation describes them:
 * that of op packages of any backend (1.4), through which the backend loads a package and asks what is in it, and the
 * Hexagon Plugin Interface (QHPI, version 1), through which the package registers kernels and kernels see tensors.
 *
 * Only what packages here need is declared. The names are Qualcomm's, so that a package also builds with the SDK's
 * own headers. The library that loads a package provides the qhpi_ functions.
 */
#ifndef MACE_HTP_OP_PACKAGE_H
#define MACE_HTP_OP_PACKAGE_H

#include <stddef.h>
#include <stdint.h>

/* --- op packages ---------------------------------------------------------------------------------------------- */

typedef uint64_t Qnn_ErrorHandle_t;

enum {
    QNN_SUCCESS = 0,
    QNN_OP_PACKAGE_ERROR_UNSUPPORTED_FEATURE = 1000,
    QNN_OP_PACKAGE_ERROR_LIBRARY_ALREADY_INITIALIZED = 3000,
    QNN_OP_PACKAGE_ERROR_LIBRARY_NOT_INITIALIZED = 3001,
    QNN_OP_PACKAGE_ERROR_INVALID_INFO = 3101,
    QNN_OP_PACKAGE_ERROR_VALIDATION_FAILURE = 3110,
    QNN_OP_PACKAGE_ERROR_INVALID_ARGUMENT = 3200,
};

enum {
    QNN_DATATYPE_INT_8 = 0x0008,
    QNN_DATATYPE_INT_32 = 0x0032,
    QNN_DATATYPE_UINT_8 = 0x0108,
    QNN_DATATYPE_FLOAT_16 = 0x0216,
    QNN_DATATYPE_FLOAT_32 = 0x0232,
    QNN_DATATYPE_SFIXED_POINT_8 = 0x0308,
    QNN_DATATYPE_SFIXED_POINT_16 = 0x0316,
    QNN_DATATYPE_SFIXED_POINT_32 = 0x0332,
    QNN_DATATYPE_UFIXED_POINT_8 = 0x0408,
    QNN_DATATYPE_UFIXED_POINT_16 = 0x0416,
};

typedef struct {
    uint32_t major, minor, patch;
} Qnn_Version_t;

typedef struct {
    Qnn_Version_t coreApiVersion, backendApiVersion;
} Qnn_ApiVersion_t;

typedef struct {
    uint32_t encodingDefinition, quantizationEncoding;
    union {
        struct {
            float scale;
            int32_t offset;
        } scaleOffsetEncoding;
        struct { /* the widest of the encodings: it sets the size */
            uint32_t bitwidth;
            int32_t axis;
            uint32_t numElements;
            float *scales;
            int32_t *offsets;
        } bwAxisScaleOffsetEncoding;
    };
} Qnn_QuantizeParams_t;

typedef struct {
    uint32_t id;
    const char *name;
    uint32_t type, dataFormat, dataType;
    Qnn_QuantizeParams_t quantizeParams;
    uint32_t rank;
    uint32_t *dimensions;
    uint32_t memType;
    struct {
        void *data;
        uint32_t dataSize;
    } clientBuf;
} Qnn_TensorV1_t;

typedef struct {
    Qnn_TensorV1_t common;
    uint8_t *isDynamicDimensions;
    uint32_t sparseParams[3];
    uint8_t isProduced;
} Qnn_TensorV2_t;

typedef struct {
    uint32_t version; /* what both versions begin with is the same */
    union {
        Qnn_TensorV1_t v1;
        Qnn_TensorV2_t v2;
    };
} Qnn_Tensor_t;

typedef struct {
    uint32_t version;
    struct {
        const char *name, *packageName, *typeName;
        uint32_t numOfParams;
        void *params;
        uint32_t numOfInputs;
        Qnn_Tensor_t *inputTensors;
        uint32_t numOfOutputs;
        Qnn_Tensor_t *outputTensors;
    } v1;
} Qnn_OpConfig_t;

typedef struct {
    const char *packageName;
    const char **operationNames;
    const void *operationInfo;
    uint32_t numOperations;
    const void *optimizations;
    uint32_t numOptimizations;
    const char *sdkBuildId;
    const Qnn_ApiVersion_t *sdkApiVersion;
    const void *packageInfo;
    const Qnn_Version_t *opsetVersion;
    size_t reserved[12];
} QnnOpPackage_Info_t;

typedef struct {
    Qnn_Version_t interfaceVersion;
    struct {
        Qnn_ErrorHandle_t (*init)(void *infrastructure);
        Qnn_ErrorHandle_t (*terminate)(void);
        Qnn_ErrorHandle_t (*getInfo)(const QnnOpPackage_Info_t **info);
        Qnn_ErrorHandle_t (*validateOpConfig)(Qnn_OpConfig_t config);
        Qnn_ErrorHandle_t (*createOpImpl)(void *infrastructure, void *node, void **impl);
        Qnn_ErrorHandle_t (*freeOpImpl)(void *impl);
        Qnn_ErrorHandle_t (*logInitialize)(void *callback, uint32_t level);
        Qnn_ErrorHandle_t (*logSetLevel)(uint32_t level);
        Qnn_ErrorHandle_t (*logTerminate)(void);
    } v1_4;
} QnnOpPackage_Interface_t;

/* --- QHPI ----------------------------------------------------------------------------------------------------- */

enum { QHPI_Success = 0, QHPI_Unsupported = 1, QHPI_ErrorFatal = 2 };

enum {
    QHPI_QUInt8 = 1,
    QHPI_QUInt16 = 2,
    QHPI_QInt16 = 3,
    QHPI_Float32 = 4,
    QHPI_Int32 = 5,
    QHPI_QInt32 = 6,
    QHPI_QInt8 = 7,
    QHPI_Float16 = 8,
};

enum { QHPI_Layout_Flat4 = 2, QHPI_Layout_Flat5 = 3 };
enum { QHPI_Storage_Direct = 0 };
enum { QHPI_MemLoc_DDR_Only = 0, QHPI_MemLoc_TCM_Only = 1, QHPI_MemLoc_DDR_OR_TCM = 2 };
enum { QHPI_RESOURCE_MAIN = 1, QHPI_RESOURCE_HVX = 2 };

#define QHPI_MAX_RANK 8

typedef struct QHPI_Op QHPI_Op;
typedef struct QHPI_Tensor QHPI_Tensor;
typedef struct QHPI_RuntimeHandle QHPI_RuntimeHandle;

typedef struct {
    uint32_t rank, dims[QHPI_MAX_RANK];
} QHPI_Shape;

typedef struct {
    int32_t zero_offset;
    float stepsize;
} QHPI_Quant_Parameters;

typedef struct {
    uint32_t element_type, layout;
    unsigned char storage, mem_placement;
} QHPI_Tensor_Signature_v1;

typedef uint32_t (*QHPI_Plugin_Function)(QHPI_RuntimeHandle *handle, uint32_t num_outputs, QHPI_Tensor **outputs,
                                         uint32_t num_inputs, const QHPI_Tensor *const *inputs);

typedef struct {
    const char *function_name;
    QHPI_Plugin_Function function;
    unsigned char resources;
    unsigned char source_destructive : 1, multithreaded : 1, variable_inputs : 1, variable_outputs : 1;
    uint32_t min_inputs;
    QHPI_Tensor_Signature_v1 *input_signature;
    uint32_t min_outputs;
    QHPI_Tensor_Signature_v1 *output_signature;
    float (*cost_function)(const uint32_t num_inputs, const QHPI_Tensor *const *inputs);
    uint32_t sync_block_size, precomputed_data_size;
    void *do_precomputation_function, *function_with_precomputed_data, *predicate;
    void *reserved[4];
} QHPI_Kernel_v1;

typedef struct {
    const char *name;
    uint32_t num_kernels;
    QHPI_Kernel_v1 *kernels;
    void *early_rewrite, *shape_required, *shape_legalized;
    unsigned tile_output;
    void *build_tile, *late_rewrite;
    void *reserved[4];
} QHPI_OpInfo_v1;

uint32_t qhpi_register_ops_v1(uint32_t num_ops, QHPI_OpInfo_v1 *operators, const char *package);
QHPI_Shape qhpi_tensor_shape(const QHPI_Tensor *tensor);
uint32_t qhpi_tensor_type(const QHPI_Tensor *tensor);
QHPI_Quant_Parameters qhpi_tensor_quant_parameters(const QHPI_Tensor *tensor);
void *qhpi_tensor_raw_data(const QHPI_Tensor *tensor);
uint32_t qhpi_num_slices(QHPI_RuntimeHandle *handle);
uint32_t qhpi_slice_number(QHPI_RuntimeHandle *handle);

/* --- what a package of ours consists of: op_package.c does the rest --------------------------------------------- */

/* An operator's name without the package's; its kernels are distinguished by the types of their tensors. */
typedef struct {
    const char *name;
    QHPI_Kernel_v1 *kernels;
    uint32_t num_kernels;
} HtpOperator;

extern const char htp_package_name[];
extern const HtpOperator htp_operators[];
extern const uint32_t htp_num_operators;

/* A part of a flat tensor for each of the kernel's threads, in whole vectors; the last part has what is left. */
typedef struct {
    uint32_t begin, end;
} HtpRange;

HtpRange htp_slice(QHPI_RuntimeHandle *handle, uint32_t elements, uint32_t elements_per_vector);
uint32_t htp_elements(const QHPI_Tensor *tensor);

#endif
