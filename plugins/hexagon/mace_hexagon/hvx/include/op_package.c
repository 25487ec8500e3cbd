/* What all op packages need: the interface the backend asks for, answered from the package's table of operators. */
#include "htp_op_package.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_OPERATORS 64
#define MAX_NAME 128

EXPORT Qnn_ErrorHandle_t HtpOpPackageInterfaceProvider(QnnOpPackage_Interface_t *interface);
EXPORT const char *qhpi_init(void);

static int initialized;
static const char *operation_names[MAX_OPERATORS];
static char full_names[MAX_OPERATORS][MAX_NAME];
static QHPI_OpInfo_v1 infos[MAX_OPERATORS];
/* Of QAIRT 2.51, with which the layout of the structures was checked: a backend refuses packages newer than itself. */
static const Qnn_ApiVersion_t api_version = {{2, 40, 0}, {5, 51, 0}};
static QnnOpPackage_Info_t package_info;

static int equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static Qnn_ErrorHandle_t initialize(void *infrastructure)
{
    (void)infrastructure;
    if (initialized) {
        return QNN_OP_PACKAGE_ERROR_LIBRARY_ALREADY_INITIALIZED;
    }
    if (htp_num_operators > MAX_OPERATORS) {
        return QNN_OP_PACKAGE_ERROR_INVALID_INFO;
    }
    for (uint32_t i = 0; i < htp_num_operators; i++) {
        operation_names[i] = htp_operators[i].name;
    }
    package_info.packageName = htp_package_name;
    package_info.operationNames = operation_names;
    package_info.numOperations = htp_num_operators;
    package_info.sdkBuildId = "mace";
    package_info.sdkApiVersion = &api_version;
    initialized = 1;
    return QNN_SUCCESS;
}

static Qnn_ErrorHandle_t terminate(void)
{
    if (!initialized) {
        return QNN_OP_PACKAGE_ERROR_LIBRARY_NOT_INITIALIZED;
    }
    initialized = 0;
    return QNN_SUCCESS;
}

static Qnn_ErrorHandle_t get_info(const QnnOpPackage_Info_t **info)
{
    if (!initialized) {
        return QNN_OP_PACKAGE_ERROR_LIBRARY_NOT_INITIALIZED;
    }
    if (!info) {
        return QNN_OP_PACKAGE_ERROR_INVALID_INFO;
    }
    *info = &package_info;
    return QNN_SUCCESS;
}

/* Whether a tensor of QNN's type can reach a kernel as one of QHPI's: graphs may compute float32 in float16. */
static int type_fits(uint32_t data_type, uint32_t element_type)
{
    switch (data_type) {
    case QNN_DATATYPE_UINT_8:
    case QNN_DATATYPE_UFIXED_POINT_8:
        return element_type == QHPI_QUInt8;
    case QNN_DATATYPE_INT_8:
    case QNN_DATATYPE_SFIXED_POINT_8:
        return element_type == QHPI_QInt8;
    case QNN_DATATYPE_UFIXED_POINT_16:
        return element_type == QHPI_QUInt16;
    case QNN_DATATYPE_SFIXED_POINT_16:
        return element_type == QHPI_QInt16;
    case QNN_DATATYPE_INT_32:
        return element_type == QHPI_Int32;
    case QNN_DATATYPE_SFIXED_POINT_32:
        return element_type == QHPI_QInt32;
    case QNN_DATATYPE_FLOAT_16:
        return element_type == QHPI_Float16;
    case QNN_DATATYPE_FLOAT_32:
        return element_type == QHPI_Float32 || element_type == QHPI_Float16;
    default:
        return 0;
    }
}

/* Whether tensors have types and ranks that a kernel takes. */
static int types_fit(const Qnn_Tensor_t *tensors, const QHPI_Tensor_Signature_v1 *signature, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t most = signature[i].layout == QHPI_Layout_Flat5 ? 5 : 4; /* the HTP fills up what has fewer */
        if (!type_fits(tensors[i].v1.dataType, signature[i].element_type) || tensors[i].v1.rank > most) {
            return 0;
        }
    }
    return 1;
}

static Qnn_ErrorHandle_t validate(Qnn_OpConfig_t config)
{
    if (config.version != 1 || !equal(config.v1.packageName, htp_package_name)) {
        return QNN_OP_PACKAGE_ERROR_VALIDATION_FAILURE;
    }
    for (uint32_t i = 0; i < htp_num_operators; i++) {
        const HtpOperator *op = &htp_operators[i];
        for (uint32_t k = 0; equal(op->name, config.v1.typeName) && k < op->num_kernels; k++) {
            const QHPI_Kernel_v1 *kernel = &op->kernels[k];
            if (config.v1.numOfParams == 0 && config.v1.numOfInputs == kernel->min_inputs &&
                config.v1.numOfOutputs == kernel->min_outputs &&
                types_fit(config.v1.inputTensors, kernel->input_signature, kernel->min_inputs) &&
                types_fit(config.v1.outputTensors, kernel->output_signature, kernel->min_outputs)) {
                return QNN_SUCCESS;
            }
        }
    }
    return QNN_OP_PACKAGE_ERROR_VALIDATION_FAILURE;
}

/* Kernels are created by the HTP's core from what is registered through QHPI, not here. */
static Qnn_ErrorHandle_t create_op(void *infrastructure, void *node, void **impl)
{
    (void)infrastructure;
    (void)node;
    (void)impl;
    return QNN_OP_PACKAGE_ERROR_UNSUPPORTED_FEATURE;
}

static Qnn_ErrorHandle_t free_op(void *impl)
{
    (void)impl;
    return QNN_OP_PACKAGE_ERROR_UNSUPPORTED_FEATURE;
}

static Qnn_ErrorHandle_t log_initialize(void *callback, uint32_t level)
{
    (void)callback;
    (void)level;
    return QNN_SUCCESS;
}

static Qnn_ErrorHandle_t log_set_level(uint32_t level)
{
    (void)level;
    return QNN_SUCCESS;
}

static Qnn_ErrorHandle_t log_terminate(void)
{
    return QNN_SUCCESS;
}

Qnn_ErrorHandle_t HtpOpPackageInterfaceProvider(QnnOpPackage_Interface_t *interface)
{
    if (!interface) {
        return QNN_OP_PACKAGE_ERROR_INVALID_ARGUMENT;
    }
    interface->interfaceVersion.major = 1;
    interface->interfaceVersion.minor = 4;
    interface->interfaceVersion.patch = 0;
    interface->v1_4.init = initialize;
    interface->v1_4.terminate = terminate;
    interface->v1_4.getInfo = get_info;
    interface->v1_4.validateOpConfig = validate;
    interface->v1_4.createOpImpl = create_op;
    interface->v1_4.freeOpImpl = free_op;
    interface->v1_4.logInitialize = log_initialize;
    interface->v1_4.logSetLevel = log_set_level;
    interface->v1_4.logTerminate = log_terminate;
    return QNN_SUCCESS;
}

/* Write "package::operator"; 0 if there is no room. */
static int join(char *full, const char *operator_name)
{
    uint32_t length = 0;
    for (const char *c = htp_package_name; *c && length < MAX_NAME; c++) {
        full[length++] = *c;
    }
    for (const char *c = "::"; *c && length < MAX_NAME; c++) {
        full[length++] = *c;
    }
    for (const char *c = operator_name; *c && length < MAX_NAME; c++) {
        full[length++] = *c;
    }
    if (length >= MAX_NAME) {
        return 0;
    }
    full[length] = 0;
    return 1;
}

const char *qhpi_init(void)
{
    uint32_t count = 0;
    for (; count < htp_num_operators && count < MAX_OPERATORS; count++) {
        if (!join(full_names[count], htp_operators[count].name)) {
            return 0;
        }
        infos[count].name = full_names[count];
        infos[count].num_kernels = htp_operators[count].num_kernels;
        infos[count].kernels = htp_operators[count].kernels;
    }
    return qhpi_register_ops_v1(count, infos, htp_package_name) == QHPI_Success ? htp_package_name : 0;
}

uint32_t htp_elements(const QHPI_Tensor *tensor)
{
    QHPI_Shape shape = qhpi_tensor_shape(tensor);
    uint32_t elements = 1;
    for (uint32_t i = 0; i < shape.rank; i++) {
        elements *= shape.dims[i];
    }
    return elements;
}

/* In a loop of shifts: a division would be a call into the compiler's library, which the DSP may lack. */
static uint32_t divide(uint64_t dividend, uint32_t divisor)
{
    uint64_t rest = 0;
    uint32_t quotient = 0;
    for (int bit = 63; bit >= 0; bit--) {
        rest = rest << 1 | (dividend >> bit & 1);
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1;
        }
    }
    return quotient;
}

HtpRange htp_slice(QHPI_RuntimeHandle *handle, uint32_t elements, uint32_t elements_per_vector)
{
    uint32_t slices = qhpi_num_slices(handle), number = qhpi_slice_number(handle);
    uint64_t vectors = divide(elements, elements_per_vector);
    HtpRange range;
    range.begin = divide(vectors * number, slices) * elements_per_vector;
    range.end = number + 1 == slices ? elements : divide(vectors * (number + 1), slices) * elements_per_vector;
    return range;
}
