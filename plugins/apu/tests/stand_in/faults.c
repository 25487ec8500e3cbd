// What the stand-in is told from outside: to fail, to refuse an operation, to be another version.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

enum { LONGEST = 80, MOST = 128 };

static struct {
    char function[LONGEST];
    int code;
    bool once;
} faults[MOST];
static bool refused[256];
static char message[512];
static RuntimeVersion version = {8, 2, 0};

// Nothing else has a symbol of this name: whoever finds it knows that the library is no vendor's.
EXPORT const char neuron_stand_in_marker[] = "neuron_stand_in_marker: built by the tests of MACE, computes on this CPU";

// From now on `function` returns `code`; 0 mends it.
EXPORT void stand_in_fail(const char *function, int code) {
    for (int i = 0; i < MOST; i++)
        if (!faults[i].function[0] || !strcmp(faults[i].function, function)) {
            snprintf(faults[i].function, LONGEST, "%s", function);
            faults[i].code = code;
            faults[i].once = false;
            return;
        }
}

// Operations of extensions are counted down from the last.
static unsigned place_of(int32_t operation) {
    return operation < 0x10000 ? (unsigned)operation % 256 : 255u - ((unsigned)operation & 0x7f);
}

// The next call of `function` returns `code`.
EXPORT void stand_in_fail_once(const char *function, int code) {
    stand_in_fail(function, code);
    for (int i = 0; i < MOST && faults[i].function[0]; i++)
        if (!strcmp(faults[i].function, function))
            faults[i].once = true;
}

EXPORT void stand_in_refuse(int operation, int refuse) { refused[place_of(operation)] = refuse; }

EXPORT void stand_in_version(int major, int minor, int patch) {
    version = (RuntimeVersion){(uint8_t)major, (uint8_t)minor, (uint8_t)patch};
}

EXPORT const char *stand_in_message(void) { return message; }

static int live;

EXPORT int stand_in_live(void) { return live; }

void stand_in_count(int change) { __atomic_add_fetch(&live, change, __ATOMIC_RELAXED); }

int stand_in_refused(int32_t operation) { return refused[place_of(operation)]; }

int stand_in_fault(const char *what) {
    for (int i = 0; i < MOST && faults[i].function[0]; i++)
        if (!strcmp(faults[i].function, what) && faults[i].code)
            return faults[i].once ? __atomic_exchange_n(&faults[i].code, 0, __ATOMIC_ACQ_REL) : faults[i].code;
    return 0;
}

// NEURON_STAND_IN_FAIL=NeuronExecution_compute:5,NeuronModel_finish:4 does the same for other processes.
int stand_in_enter(const char *function) {
    int fault = stand_in_fault(function);
    if (fault)
        return fault;
    const char *place = getenv("NEURON_STAND_IN_FAIL");
    size_t length = strlen(function);
    while (place && *place) {
        if (!strncmp(place, function, length) && place[length] == ':')
            return atoi(place + length + 1);
        place = strchr(place, ',');
        place = place ? place + 1 : NULL;
    }
    const char *log = getenv("NEURON_STAND_IN_LOG");
    if (log) {
        FILE *file = fopen(log, "a");
        if (file) {
            fprintf(file, "%s\n", function);
            fclose(file);
        }
    }
    return 0;
}

int stand_in_complain(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (getenv("NEURON_STAND_IN_VERBOSE"))
        fprintf(stderr, "Neuron stand-in: %s (%d)\n", message, code);
    return code;
}

EXPORT int Neuron_getVersion(RuntimeVersion *found) {
    ENTER();
    if (!found)
        FAIL(UNEXPECTED_NULL, "no place for the version");
    *found = version;
    return NO_ERROR;
}
