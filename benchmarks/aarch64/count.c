/* Counts the instructions that an emulated program executes, block by block: a plugin of qemu-user.
 *
 * Argument: out=FILE.  Lines of the file: "total N", then for each block that ran often
 * "block ADDRESS EXECUTIONS INSTRUCTIONS CODE", the code in hexadecimal.
 *
 * Of qemu's plugin interface only what is used is declared here, so that no package of headers is needed
 * (qemu-plugin.h, version 1).
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr, uint64_t imm);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *), void *userdata);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t idx);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

int qemu_plugin_version = 1;

struct block {
    struct block *next;
    uint64_t executions, address;
    size_t instructions;
    uint32_t code[];
};

static struct block *blocks;
static char *out;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t count = qemu_plugin_tb_n_insns(tb);
    struct block *block = calloc(1, sizeof *block + 4 * count);
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = count;
    for (size_t i = 0; i < count; i++)
        memcpy(&block->code[i], qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), 4);
    do
        block->next = blocks;
    while (!__atomic_compare_exchange_n(&blocks, &block->next, block, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &block->executions, 1);
}

static void finished(qemu_plugin_id_t id, void *data)
{
    uint64_t total = 0;
    for (struct block *block = blocks; block; block = block->next)
        total += block->executions * block->instructions;
    FILE *file = fopen(out, "w");
    if (!file)
        return;
    fprintf(file, "total %" PRIu64 "\n", total);
    for (struct block *block = blocks; block; block = block->next) {
        if (block->executions * block->instructions < total / 50000)
            continue;
        fprintf(file, "block %" PRIx64 " %" PRIu64 " %zu ", block->address, block->executions, block->instructions);
        for (size_t i = 0; i < block->instructions; i++)
            fprintf(file, "%08x", block->code[i]);
        fputc('\n', file);
    }
    fclose(file);
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = strdup(argv[i] + 4);
    if (!out)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
