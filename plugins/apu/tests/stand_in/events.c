// Runs in the background: each on a thread of its own, after the runs that it depends on.
#include <pthread.h>
#include <stdlib.h>

#include "execution.h"

struct NeuronEvent {
    uint32_t magic;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_done;
    int code;
    NeuronExecution *execution;
    NeuronEvent **dependencies;
    uint32_t dependency_count;
    int users;  // the client, the thread, and runs that depend on it
};

static int result_of(NeuronEvent *event) {
    pthread_mutex_lock(&event->lock);
    while (!event->is_done)
        pthread_cond_wait(&event->ended, &event->lock);
    int code = event->code;
    pthread_mutex_unlock(&event->lock);
    return code;
}

static void forget(NeuronEvent *event) {
    if (__atomic_sub_fetch(&event->users, 1, __ATOMIC_ACQ_REL))
        return;
    pthread_mutex_destroy(&event->lock);
    pthread_cond_destroy(&event->ended);
    free(event->dependencies);
    event->magic = 0;
    free(event);
}

static void *work(void *argument) {
    NeuronEvent *event = argument;
    int code = NO_ERROR;
    for (uint32_t i = 0; i < event->dependency_count; i++) {
        if (result_of(event->dependencies[i]) && !code)
            code = stand_in_complain(OP_FAILED, "a run that this one depends on failed");
        forget(event->dependencies[i]);
    }
    if (!code)
        code = compute(event->execution);
    __atomic_store_n(&event->execution->is_running, false, __ATOMIC_RELEASE);
    pthread_mutex_lock(&event->lock);
    event->code = code;
    event->is_done = true;
    pthread_cond_broadcast(&event->ended);
    pthread_mutex_unlock(&event->lock);
    forget(event);
    return NULL;
}

static bool has_failed(NeuronEvent *event) {
    pthread_mutex_lock(&event->lock);
    bool failed = event->is_done && event->code;
    pthread_mutex_unlock(&event->lock);
    return failed;
}

EXPORT int NeuronExecution_startComputeWithDependencies(
    NeuronExecution *execution, const NeuronEvent *const *dependencies, uint32_t count, uint64_t duration,
    NeuronEvent **event
) {
    ENTER();
    TRY(check_execution(execution));
    (void)duration;
    if (!event || (count && !dependencies))
        FAIL(UNEXPECTED_NULL, "no place for the event, or no dependencies");
    *event = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (!dependencies[i] || dependencies[i]->magic != EVENT || has_failed((NeuronEvent *)dependencies[i]))
            FAIL(BAD_DATA, "dependency %u failed, or is no event", i);
    NeuronEvent *made = calloc(1, sizeof *made);
    NeuronEvent **held = calloc(count + 1, sizeof *held);
    int code = made && held ? begin_execution(execution) : OUT_OF_MEMORY;
    if (code) {
        free(made);
        free(held);
        return code;
    }
    for (uint32_t i = 0; i < count; i++) {
        held[i] = (NeuronEvent *)dependencies[i];
        __atomic_add_fetch(&held[i]->users, 1, __ATOMIC_ACQ_REL);
    }
    made->magic = EVENT;
    made->execution = execution;
    made->dependencies = held;
    made->dependency_count = count;
    made->users = 2;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->ended, NULL);
    stand_in_count(1);
    if (pthread_create(&made->thread, NULL, work, made))
        work(made);  // then it is done before this returns, as the interface allows
    else
        pthread_detach(made->thread);
    *event = made;
    return NO_ERROR;
}

EXPORT int NeuronEvent_wait(NeuronEvent *event) {
    ENTER();
    if (!event)
        FAIL(UNEXPECTED_NULL, "no event");
    return event->magic == EVENT ? result_of(event) : BAD_DATA;
}

EXPORT void NeuronEvent_free(NeuronEvent *event) {
    if (!event || event->magic != EVENT)
        return;
    result_of(event);
    stand_in_count(-1);
    forget(event);
}
