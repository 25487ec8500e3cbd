/* Op package "mace.hvx": Lookup8, any function of one 8-bit number, by its table of 256 results.
 *
 * A quantized operator with one operand (Erf, Tan, Mish, a sigmoid between any two encodings) has 256 different results,
 * which the host computes exactly; what is left to the HTP is to look them up. The table is in ascending order of the
 * operand: from 0 to 255, or from -128 to 127. (The HTP may hold signed numbers as unsigned ones, 128 more; so the order
 * must be the same for both.)
 */
#include "htp_op_package.h"

#ifdef __HVX__
#include <hexagon_types.h>
#include <hvx_hexagon_protos.h>
#endif

#define VECTOR 128
#define TABLE 256

#define SIGN 0x80

static void lookup8_scalar(uint8_t *restrict y, const uint8_t *restrict x, uint32_t elements,
                           const uint8_t *restrict table, uint8_t flip)
{
#pragma clang loop vectorize(disable)
    for (uint32_t i = 0; i < elements; i++) {
        y[i] = table[x[i] ^ flip];
    }
}

#ifdef __HVX__
/* vlut32 looks up the elements whose upper three bits equal its last operand, the number of a group of 32 results, and
 * gives 0 for the others. A vector holds four groups: the first two in its even bytes, the other two in its odd ones. */
static inline HVX_Vector lookup_vector(HVX_Vector x, HVX_Vector low, HVX_Vector high, HVX_Vector flip)
{
    x = Q6_V_vxor_VV(x, flip);
    HVX_Vector y = Q6_Vb_vlut32_VbVbR(x, low, 0);
    y = Q6_Vb_vlut32or_VbVbVbR(y, x, low, 1);
    y = Q6_Vb_vlut32or_VbVbVbR(y, x, low, 2);
    y = Q6_Vb_vlut32or_VbVbVbR(y, x, low, 3);
    y = Q6_Vb_vlut32or_VbVbVbR(y, x, high, 4);
    y = Q6_Vb_vlut32or_VbVbVbR(y, x, high, 5);
    y = Q6_Vb_vlut32or_VbVbVbR(y, x, high, 6);
    return Q6_Vb_vlut32or_VbVbVbR(y, x, high, 7);
}

/* y[i] = table[x[i] ^ flip] for any number of elements and any alignment; the arrays do not overlap. */
static void lookup8(uint8_t *restrict y, const uint8_t *restrict x, uint32_t elements, const uint8_t *restrict table,
                    uint8_t flip)
{
    if (elements < VECTOR) {
        lookup8_scalar(y, x, elements, table, flip);
        return;
    }
    HVX_Vector flips = Q6_V_vsplat_R(flip * 0x01010101u);
    HVX_Vector low = Q6_Vb_vshuff_Vb(*(const HVX_UVector *)table);
    HVX_Vector high = Q6_Vb_vshuff_Vb(*(const HVX_UVector *)(table + VECTOR));
    uint32_t whole = elements / VECTOR * VECTOR;
    for (uint32_t i = 0; i < whole; i += VECTOR) {
        *(HVX_UVector *)(y + i) = lookup_vector(*(const HVX_UVector *)(x + i), low, high, flips);
    }
    if (whole < elements) { /* the last vector again covers some elements of the one before it */
        uint32_t i = elements - VECTOR;
        *(HVX_UVector *)(y + i) = lookup_vector(*(const HVX_UVector *)(x + i), low, high, flips);
    }
}
#else
static void lookup8(uint8_t *restrict y, const uint8_t *restrict x, uint32_t elements, const uint8_t *restrict table,
                    uint8_t flip)
{
    lookup8_scalar(y, x, elements, table, flip);
}
#endif

static uint32_t run(QHPI_RuntimeHandle *handle, uint32_t num_outputs, QHPI_Tensor **outputs, uint32_t num_inputs,
                    const QHPI_Tensor *const *inputs)
{
    if (num_outputs != 1 || num_inputs != 2 || htp_elements(inputs[1]) != TABLE ||
        htp_elements(inputs[0]) != htp_elements(outputs[0])) {
        return QHPI_ErrorFatal;
    }
    HtpRange part = htp_slice(handle, htp_elements(outputs[0]), VECTOR);
    lookup8((uint8_t *)qhpi_tensor_raw_data(outputs[0]) + part.begin,
            (const uint8_t *)qhpi_tensor_raw_data(inputs[0]) + part.begin, part.end - part.begin,
            (const uint8_t *)qhpi_tensor_raw_data(inputs[1]),
            qhpi_tensor_type(inputs[0]) == QHPI_QInt8 ? SIGN : 0);
    return QHPI_Success;
}

#define FLAT(type) {type, QHPI_Layout_Flat4, QHPI_Storage_Direct, QHPI_MemLoc_DDR_OR_TCM}

static QHPI_Tensor_Signature_v1 unsigned_tensors[] = {FLAT(QHPI_QUInt8), FLAT(QHPI_QUInt8)};
static QHPI_Tensor_Signature_v1 signed_tensors[] = {FLAT(QHPI_QInt8), FLAT(QHPI_QInt8)};

#define KERNEL(label, tensors)                                                                                        \
    {.function_name = label, .function = run, .resources = QHPI_RESOURCE_HVX, .multithreaded = 1, .min_inputs = 2,     \
     .input_signature = tensors, .min_outputs = 1, .output_signature = tensors}

static QHPI_Kernel_v1 kernels[] = {
    KERNEL("mace.hvx::lookup8_unsigned", unsigned_tensors),
    KERNEL("mace.hvx::lookup8_signed", signed_tensors),
};

const char htp_package_name[] = "mace.hvx";
const HtpOperator htp_operators[] = {{"Lookup8", kernels, 2}};
const uint32_t htp_num_operators = 1;
