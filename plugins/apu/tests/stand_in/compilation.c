// Compilations: a checked model with its constants made ready; stored and restored as bytes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "state.h"
#include "table.h"

static const char HEADER[16] = "NeuronStandIn 1";

typedef struct {
    char header[16];
    uint64_t size, checksum;
} Preamble;

static bool is_compilation(const NeuronCompilation *compilation) {
    return compilation && compilation->magic == COMPILATION;
}

static char last_options[512];

// What was told to the compilation that was created last.
EXPORT const char *stand_in_options(void) { return last_options; }

static void remember(const char *what, const char *value) {
    size_t used = strlen(last_options);
    snprintf(last_options + used, sizeof last_options - used, "%s=%s;", what, value);
}

static void remember_number(const char *what, int value) {
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    remember(what, text);
}

static int create(NeuronModel *model, NeuronCompilation **compilation) {
    if (!compilation)
        FAIL(UNEXPECTED_NULL, "no place for the compilation");
    *compilation = NULL;
    if (!model)
        FAIL(UNEXPECTED_NULL, "no model");
    if (!is_model(model))
        FAIL(BAD_DATA, "not a model");
    if (!model->finished || model->restored)
        FAIL(BAD_STATE, "the model is not finished, or restored");
    NeuronCompilation *made = calloc(1, sizeof *made);
    if (!made)
        return OUT_OF_MEMORY;
    *made = (NeuronCompilation){COMPILATION, model, false, false, 0};
    last_options[0] = 0;
    model->users++;
    stand_in_count(1);
    *compilation = made;
    return NO_ERROR;
}

EXPORT int NeuronCompilation_create(NeuronModel *model, NeuronCompilation **compilation) {
    ENTER();
    return create(model, compilation);
}

EXPORT int NeuronCompilation_createForDevices(
    NeuronModel *model, const NeuronDevice *const *devices, uint32_t count, NeuronCompilation **compilation
) {
    ENTER();
    TRY(check_devices(devices, count));
    return create(model, compilation);
}

EXPORT int NeuronCompilation_createWithOptions(
    NeuronModel *model, NeuronCompilation **compilation, const char *options
) {
    ENTER();
    TRY(create(model, compilation));
    if (options)  // NULL for none
        remember("create", options);
    return NO_ERROR;
}

EXPORT void NeuronCompilation_free(NeuronCompilation *compilation) {
    if (!is_compilation(compilation))
        return;
    if (compilation->executions)  // an execution would use what is freed here
        abort();
    compilation->model->users--;
    stand_in_count(-1);
    compilation->magic = 0;
    free(compilation);
}

static int check_unfinished(const NeuronCompilation *compilation) {
    if (!compilation)
        FAIL(UNEXPECTED_NULL, "no compilation");
    if (!is_compilation(compilation))
        FAIL(BAD_DATA, "not a compilation");
    if (compilation->finished)
        FAIL(BAD_STATE, "the compilation is finished");
    return NO_ERROR;
}

static int32_t last_preference = -1;

EXPORT int stand_in_preference(void) { return last_preference; }

EXPORT int NeuronCompilation_setPreference(NeuronCompilation *compilation, int32_t preference) {
    ENTER();
    TRY(check_unfinished(compilation));
    if (preference < 0 || preference > 3)
        FAIL(BAD_DATA, "there is no preference %d", preference);
    last_preference = preference;
    return NO_ERROR;
}

EXPORT int NeuronCompilation_setPriority(NeuronCompilation *compilation, int priority) {
    ENTER();
    TRY(check_unfinished(compilation));
    if (priority != 90 && priority != 100 && priority != 110)
        FAIL(BAD_DATA, "there is no priority %d", priority);
    remember_number("priority", priority);
    return NO_ERROR;
}

EXPORT int NeuronCompilation_setOptimizationHint(NeuronCompilation *compilation, uint32_t hint) {
    ENTER();
    TRY(check_unfinished(compilation));
    if (hint > 7)
        FAIL(BAD_DATA, "there is no optimization hint %u", hint);
    remember_number("hint", (int)hint);
    return NO_ERROR;
}

EXPORT int NeuronCompilation_setOptimizationString(NeuronCompilation *compilation, const char *options) {
    ENTER();
    TRY(check_unfinished(compilation));
    if (!options)
        FAIL(UNEXPECTED_NULL, "no options");
    remember("string", options);
    return NO_ERROR;
}

// The numbers of the constants, as executions read them; from here on nothing of the client's is referred to.
static int prepare(NeuronModel *model) {
    for (uint32_t i = 0; i < model->operand_count; i++) {
        Operand *operand = &model->operands[i];
        operand->last_use = operand->is_output ? (int)model->operation_count : -1;
        if (!operand->value)
            continue;
        if (!operand->owned) {
            operand->owned = malloc(operand->length);
            if (!operand->owned)
                return OUT_OF_MEMORY;
            operand->value = memcpy(operand->owned, operand->value, operand->length);
        }
        if (operand->real)
            continue;
        operand->real = malloc(sizeof(float) * element_count(operand));
        if (!operand->real)
            return OUT_OF_MEMORY;
        to_real(operand, operand->value, operand->real);
        if (operand->type == T_TENSOR_FLOAT32)
            settle(operand, operand->real, model->relaxed);
    }
    for (uint32_t i = 0; i < model->operation_count; i++)
        for (uint32_t j = 0; j < model->operations[i].input_count; j++) {
            Operand *operand = &model->operands[model->operations[i].inputs[j]];
            if (operand->last_use < (int)i)
                operand->last_use = (int)i;
        }
    return NO_ERROR;
}

EXPORT int NeuronCompilation_finish(NeuronCompilation *compilation) {
    ENTER();
    TRY(check_unfinished(compilation));
    NeuronModel *model = compilation->model;
    for (uint32_t i = 0; i < model->operation_count; i++)
        if (stand_in_refused(model->operations[i].type))
            FAIL(BAD_DATA, "operation %d is refused", model->operations[i].type);
    TRY(prepare(model));
    compilation->finished = true;
    return NO_ERROR;
}

// --- bytes

typedef struct {
    uint8_t *data;
    size_t size, place;
    bool fits;
} Stream;

static void put(Stream *stream, const void *data, size_t size) {
    if (stream->data)
        memcpy(stream->data + stream->place, data, size);
    stream->place += size;
}

static void take(Stream *stream, void *data, size_t size) {
    stream->fits = stream->fits && size <= stream->size - stream->place;
    if (!stream->fits) {
        memset(data, 0, size);
        return;
    }
    memcpy(data, stream->data + stream->place, size);
    stream->place += size;
}

static uint64_t checksum(const uint8_t *data, size_t size) {  // FNV-1a
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * 1099511628211u;
    return sum;
}

static size_t write_model(const NeuronModel *model, uint8_t *data) {
    Stream stream = {data, 0, 0, true};
    uint32_t counts[5] = {
        model->operand_count, model->operation_count, model->input_count, model->output_count, model->relaxed
    };
    put(&stream, counts, sizeof counts);
    for (uint32_t i = 0; i < model->operand_count; i++) {
        const Operand *operand = &model->operands[i];
        uint64_t length = operand->value ? operand->length : 0;
        put(&stream, operand, sizeof *operand);
        put(&stream, &length, sizeof length);
        put(&stream, operand->channel_scales, 4 * operand->channel_count);
        put(&stream, operand->value, length);
    }
    for (uint32_t i = 0; i < model->operation_count; i++) {
        const Operation *operation = &model->operations[i];
        put(&stream, operation, sizeof *operation);
        put(&stream, operation->inputs, 4 * operation->input_count);
        put(&stream, operation->outputs, 4 * operation->output_count);
    }
    put(&stream, model->inputs, 4 * model->input_count);
    put(&stream, model->outputs, 4 * model->output_count);
    return stream.place;
}

static void *taken(Stream *stream, size_t size) {
    void *made = stream->fits && size <= stream->size - stream->place ? malloc(size ? size : 1) : NULL;
    if (!made) {
        stream->fits = false;
        return NULL;
    }
    take(stream, made, size);
    return made;
}

static bool read_model(NeuronModel *model, Stream *stream) {
    uint32_t counts[5];
    take(stream, counts, sizeof counts);
    if (!stream->fits || counts[0] > stream->size / sizeof(Operand) || counts[1] > stream->size / sizeof(Operation))
        return false;
    model->operands = calloc(counts[0] ? counts[0] : 1, sizeof(Operand));
    model->operations = calloc(counts[1] ? counts[1] : 1, sizeof(Operation));
    if (!model->operands || !model->operations)
        return false;
    for (; stream->fits && model->operand_count < counts[0]; model->operand_count++) {
        Operand *operand = &model->operands[model->operand_count];
        uint64_t length;
        take(stream, operand, sizeof *operand);
        take(stream, &length, sizeof length);
        operand->channel_scales = operand->owned = operand->real = NULL;
        operand->value = NULL;
        if (operand->channel_count)
            operand->channel_scales = taken(stream, 4 * (size_t)operand->channel_count);
        if (length)
            operand->value = operand->owned = taken(stream, length);
    }
    for (; stream->fits && model->operation_count < counts[1]; model->operation_count++) {
        Operation *operation = &model->operations[model->operation_count];
        take(stream, operation, sizeof *operation);
        operation->inputs = operation->outputs = NULL;
        operation->inputs = taken(stream, 4 * (size_t)operation->input_count);
        operation->outputs = taken(stream, 4 * (size_t)operation->output_count);
    }
    model->inputs = taken(stream, 4 * (size_t)counts[2]);
    model->outputs = taken(stream, 4 * (size_t)counts[3]);
    model->input_count = counts[2];
    model->output_count = counts[3];
    model->relaxed = counts[4];
    return stream->fits && stream->place == stream->size;
}

static int check_storable(const NeuronCompilation *compilation) {
    if (!compilation)
        FAIL(UNEXPECTED_NULL, "no compilation");
    if (!is_compilation(compilation))
        FAIL(BAD_DATA, "not a compilation");
    if (!compilation->finished || compilation->restored || compilation->executions)
        FAIL(BAD_STATE, "the compilation is not finished, or restored, or has executions");
    return NO_ERROR;
}

EXPORT int NeuronCompilation_getCompiledNetworkSize(NeuronCompilation *compilation, size_t *size) {
    ENTER();
    TRY(check_storable(compilation));
    if (!size)
        FAIL(UNEXPECTED_NULL, "no place for the size");
    *size = sizeof(Preamble) + write_model(compilation->model, NULL);
    return NO_ERROR;
}

EXPORT int NeuronCompilation_storeCompiledNetwork(NeuronCompilation *compilation, void *buffer, size_t size) {
    ENTER();
    TRY(check_storable(compilation));
    if (!buffer)
        FAIL(UNEXPECTED_NULL, "no buffer");
    size_t needed = sizeof(Preamble) + write_model(compilation->model, NULL);
    if (size < needed)
        FAIL(BAD_DATA, "%zu bytes are needed, not %zu", needed, size);
    uint8_t *content = (uint8_t *)buffer + sizeof(Preamble);
    write_model(compilation->model, content);
    Preamble preamble = {.size = needed - sizeof(Preamble)};
    memcpy(preamble.header, HEADER, sizeof HEADER);
    preamble.checksum = checksum(content, preamble.size);
    memcpy(buffer, &preamble, sizeof preamble);
    return NO_ERROR;
}

static int restore(NeuronModel *model, NeuronCompilation *compilation, const void *buffer, size_t size) {
    Preamble preamble;
    if (size < sizeof preamble)
        FAIL(BAD_DATA, "%zu bytes are no compiled network", size);
    memcpy(&preamble, buffer, sizeof preamble);
    const uint8_t *content = (const uint8_t *)buffer + sizeof preamble;
    if (memcmp(preamble.header, HEADER, sizeof HEADER) || preamble.size != size - sizeof preamble ||
        preamble.checksum != checksum(content, preamble.size))
        FAIL(BAD_DATA, "not a compiled network, or damaged");
    Stream stream = {(uint8_t *)content, preamble.size, 0, true};
    if (!read_model(model, &stream))
        FAIL(BAD_DATA, "a compiled network of another build");
    for (uint32_t i = 0; i < model->operation_count; i++)
        if (!find_kernel(model->operations[i].type))
            FAIL(BAD_DATA, "a compiled network with an operation %d, which is not here", model->operations[i].type);
    *compilation = (NeuronCompilation){COMPILATION, model, true, true, 0};
    model->magic = MODEL;
    model->identified = model->finished = model->restored = true;
    model->users = 1;
    return prepare(model);
}

EXPORT int NeuronModel_restoreFromCompiledNetwork(
    NeuronModel **model, NeuronCompilation **compilation, const void *buffer, size_t size
) {
    ENTER();
    if (!model || !compilation || !buffer)
        FAIL(UNEXPECTED_NULL, "no place for the model or the compilation, or no buffer");
    NeuronModel *made = calloc(1, sizeof *made);
    NeuronCompilation *compiled = calloc(1, sizeof *compiled);
    int code = made && compiled ? restore(made, compiled, buffer, size) : OUT_OF_MEMORY;
    if (code) {
        if (made)
            free_model_content(made);
        free(made);
        free(compiled);
        return code;
    }
    *model = made;
    *compilation = compiled;
    stand_in_count(2);
    return NO_ERROR;
}
