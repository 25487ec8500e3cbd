/* Stands in for the library that loads an op package: asks it what it has, then calls its kernel with tensors that are
 * read from standard input, and writes what it made of them. Runs under qemu-hexagon, without a C library.
 *
 * A request is 6 words (slices, element type, elements, bytes of the table, misalignment of the input and of the output)
 * and the bytes of input and table; an answer is the status, whether memory around the output is untouched, and the
 * output. The end of the input ends the program.
 */
#include "htp_op_package.h"

#define ROOM (1u << 20)
#define VECTOR 128
#define GUARD 0xA5

Qnn_ErrorHandle_t HtpOpPackageInterfaceProvider(QnnOpPackage_Interface_t *interface);
const char *qhpi_init(void);

enum { READ = 63, WRITE = 64, EXIT = 93 };

static long syscall(long number, long a, long b, long c)
{
    register long r6 __asm__("r6") = number;
    register long r0 __asm__("r0") = a;
    register long r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    __asm__ volatile("trap0(#1)" : "+r"(r0) : "r"(r1), "r"(r2), "r"(r6) : "memory");
    return r0;
}

static void leave(long code)
{
    for (;;) {
        syscall(EXIT, code, 0, 0);
    }
}

static int read_all(void *to, uint32_t bytes)
{
    for (uint32_t done = 0; done < bytes;) {
        long got = syscall(READ, 0, (long)((char *)to + done), bytes - done);
        if (got <= 0) {
            return 0;
        }
        done += got;
    }
    return 1;
}

static void write_all(const void *from, uint32_t bytes)
{
    for (uint32_t done = 0; done < bytes;) {
        long put = syscall(WRITE, 1, (long)((const char *)from + done), bytes - done);
        if (put <= 0) {
            leave(90);
        }
        done += put;
    }
}

/* The compiler may turn loops into calls of these. */
void *memset(void *to, int value, size_t bytes)
{
    volatile unsigned char *c = to;
    while (bytes--) {
        *c++ = value;
    }
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    volatile unsigned char *c = to;
    const unsigned char *f = from;
    while (bytes--) {
        *c++ = *f++;
    }
    return to;
}

void *__hexagon_memcpy_likely_aligned_min32bytes_mult8bytes(void *to, const void *from, size_t bytes)
{
    return memcpy(to, from, bytes);
}

/* --- the library's side of QHPI ---------------------------------------------------------------------------------- */

struct QHPI_Tensor {
    void *data;
    uint32_t type;
    QHPI_Shape shape;
};

struct QHPI_RuntimeHandle {
    uint32_t slices, number;
};

static QHPI_OpInfo_v1 *registered;
static uint32_t num_registered;

uint32_t qhpi_register_ops_v1(uint32_t num_ops, QHPI_OpInfo_v1 *operators, const char *package)
{
    (void)package;
    registered = operators;
    num_registered = num_ops;
    return QHPI_Success;
}

QHPI_Shape qhpi_tensor_shape(const QHPI_Tensor *tensor)
{
    return tensor->shape;
}

uint32_t qhpi_tensor_type(const QHPI_Tensor *tensor)
{
    return tensor->type;
}

void *qhpi_tensor_raw_data(const QHPI_Tensor *tensor)
{
    return tensor->data;
}

uint32_t qhpi_num_slices(QHPI_RuntimeHandle *handle)
{
    return handle->slices;
}

uint32_t qhpi_slice_number(QHPI_RuntimeHandle *handle)
{
    return handle->number;
}

/* --- the program ------------------------------------------------------------------------------------------------- */

static unsigned char input_room[ROOM] __attribute__((aligned(VECTOR)));
static unsigned char output_room[ROOM] __attribute__((aligned(VECTOR)));
static unsigned char table[4096] __attribute__((aligned(VECTOR)));

static QHPI_Tensor tensor(void *data, uint32_t type, uint32_t elements)
{
    QHPI_Tensor made = {data, type, {4, {1, 1, 1, elements}}};
    return made;
}

static uint32_t run(uint32_t slices, uint32_t type, uint32_t elements, uint32_t table_bytes, unsigned char *x,
                    unsigned char *y)
{
    QHPI_Tensor in = tensor(x, type, elements), out = tensor(y, type, elements), look = tensor(table, type, table_bytes);
    const QHPI_Tensor *inputs[] = {&in, &look};
    QHPI_Tensor *outputs[] = {&out};
    for (uint32_t k = 0; k < registered[0].num_kernels; k++) {
        QHPI_Kernel_v1 *kernel = &registered[0].kernels[k];
        if (kernel->input_signature[0].element_type != type) {
            continue;
        }
        for (uint32_t number = 0; number < slices; number++) {
            QHPI_RuntimeHandle handle = {slices, number};
            uint32_t status = kernel->function(&handle, 1, outputs, 2, inputs);
            if (status != QHPI_Success) {
                return status;
            }
        }
        return QHPI_Success;
    }
    return 100;
}

/* What a backend asks of a package, and what it must refuse; each failure has a number of its own. */
static long check_interface(void)
{
    QnnOpPackage_Interface_t package;
    const QnnOpPackage_Info_t *info = 0;
    Qnn_Tensor_t tensors[3];
    Qnn_OpConfig_t config = {1, {"node", htp_package_name, "Lookup8", 0, 0, 2, tensors, 1, tensors + 2}};
    memset(tensors, 0, sizeof tensors);
    if (HtpOpPackageInterfaceProvider(&package) != QNN_SUCCESS || package.interfaceVersion.major != 1 ||
        package.interfaceVersion.minor != 4) {
        return 10;
    }
    if (package.v1_4.getInfo(&info) != QNN_OP_PACKAGE_ERROR_LIBRARY_NOT_INITIALIZED) {
        return 11;
    }
    if (package.v1_4.init(0) != QNN_SUCCESS || package.v1_4.init(0) == QNN_SUCCESS) {
        return 12;
    }
    if (package.v1_4.getInfo(&info) != QNN_SUCCESS || info->numOperations != 1 || !info->operationNames[0]) {
        return 13;
    }
    for (int i = 0; i < 3; i++) {
        tensors[i].version = 1;
        tensors[i].v1.dataType = QNN_DATATYPE_UFIXED_POINT_8;
    }
    if (package.v1_4.validateOpConfig(config) != QNN_SUCCESS) {
        return 14;
    }
    tensors[2].v1.dataType = QNN_DATATYPE_UFIXED_POINT_16;
    if (package.v1_4.validateOpConfig(config) == QNN_SUCCESS) {
        return 15;
    }
    tensors[2].v1.dataType = QNN_DATATYPE_UFIXED_POINT_8;
    config.v1.numOfInputs = 1;
    if (package.v1_4.validateOpConfig(config) == QNN_SUCCESS) {
        return 16;
    }
    if (!qhpi_init() || num_registered != 1 || registered[0].num_kernels != 2) {
        return 17;
    }
    return package.v1_4.terminate() == QNN_SUCCESS && package.v1_4.terminate() != QNN_SUCCESS ? 0 : 18;
}

void program(void)
{
    uint32_t words[6];
    long wrong = check_interface();
    if (wrong) {
        leave(wrong);
    }
    while (read_all(words, sizeof words)) {
        uint32_t elements = words[2], answer[2] = {0, 1};
        unsigned char *x = input_room + VECTOR + words[4], *y = output_room + VECTOR + words[5];
        if (elements > ROOM - 4 * VECTOR || words[3] > sizeof table || words[4] >= VECTOR || words[5] >= VECTOR ||
            !read_all(x, elements) || !read_all(table, words[3])) {
            leave(91);
        }
        memset(output_room, GUARD, elements + 4 * VECTOR);
        answer[0] = run(words[0], words[1], elements, words[3], x, y);
        for (uint32_t i = 0; i < elements + 4 * VECTOR; i++) {
            uint32_t place = VECTOR + words[5];
            if ((i < place || i >= place + elements) && output_room[i] != GUARD) {
                answer[1] = 0;
            }
        }
        write_all(answer, sizeof answer);
        write_all(y, elements);
    }
    leave(0);
}

/* The stack that the kernel of the system gives is aligned to 8; whole vectors may be put on it. */
__asm__(".globl _start\n_start:\n{ r29 = and(r29, #-128) }\n{ jump program }\n");
