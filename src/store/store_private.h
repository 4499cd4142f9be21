/* The store's inside, shared by the files store*.c. */
#ifndef SL_STORE_STORE_PRIVATE_H
#define SL_STORE_STORE_PRIVATE_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/file.h"
#include "store/gguf_arch.h"
#include "store/pack.h"

#define SL_STORE_DIRECT_UNTRIED (-2)

typedef struct sl__store_file {
    const char *path;
    uint64_t bytes;
    int fd;                /* -1: not open */
    _Atomic int direct_fd; /* past the page cache; SL_STORE_DIRECT_UNTRIED, -1: cannot be had */
    void *map;             /* NULL: not mapped */
} sl__store_file;

/* The experts of one layer. */
typedef struct sl__store_layer {
    sl__expert_layout layout;  /* expert_count 0: nothing is bound */
    sl__expert_piece *pieces;  /* checkpoint: [expert_count][SL_PART_COUNT] */
    uint32_t file;             /* pack */
    uint64_t stride;           /* pack */
    const uint64_t *checksums; /* pack: [expert_count] */
    _Atomic uint64_t *verified; /* pack: a bit a record */
} sl__store_layer;

typedef enum sl__store_kind {
    SL_STORE_CHECKPOINT,
    SL_STORE_PACK,
    SL_STORE_GGUF,
} sl__store_kind;

/* Whose conventions a checkpoint follows. */
typedef enum sl__store_flavour {
    SL_FLAVOUR_PLAIN,
    SL_FLAVOUR_MLX,
    SL_FLAVOUR_FP8,
    SL_FLAVOUR_MXFP4,      /* gpt-oss */
    SL_FLAVOUR_COMPRESSED, /* compressed-tensors */
} sl__store_flavour;

struct sl__store {
    char path[SL_PATH_MAX], folder[SL_PATH_MAX];
    sl__store_kind kind;
    sl__problems *problems; /* while opening; NULL: the first failure ends it */
    sl__store_flavour flavour; /* of a checkpoint */
    bool stripped;             /* MLX: names in the file begin with SL_MLX_PREFIX */
    sl__config config;
    json_t *generation; /* owned; NULL: none */
    const char *generation_path;
    sl__store_file *files; /* [file_count] */
    uint32_t file_count;
    sl__tensor *tensors; /* [tensor_count], sorted by name */
    size_t tensor_count;
    sl__store_layer *layers; /* [layer_count], by layer number; malloc'd, grows while binding */
    uint32_t layer_count;
    sl__gguf_model gguf;        /* for names; without its set */
    const char *template_text;  /* GGUF; NULL: none */
    uint64_t tokenizer_bytes;   /* GGUF; 0: none */
    sl__pack_manifest manifest; /* pack: tensors, checksums and names lie in its arena */
    sl__arena arena;            /* everything else */
};

sl_status sl__store_open_checkpoint(sl__store *store, sl_error *err);
sl_status sl__store_open_pack(sl__store *store, sl_error *err);
sl_status sl__store_open_gguf(sl__store *store, sl_error *err);

/* Takes a table of `count` files, none of them open. */
sl_status sl__store_take_files(sl__store *store, uint32_t count, sl_error *err);

/* Opens file i of the table; its size must be the one that the headers were checked against.
 * absent: it is known to be missing, and noted; the table has its name then. */
sl_status sl__store_open_file(sl__store *store, uint32_t i, const char *path, uint64_t bytes,
                              bool absent, sl_error *err);

/* Finds the planes of all tensors that have any, by their names, and checks their shapes where
 * those of the codes are known. */
sl_status sl__store_join_planes(sl__store *store, sl_error *err);

void sl__store_unmap(sl__store *store); /* all that sl__store_map has mapped */

/* Makes room for layer and returns it. */
sl_status sl__store_layer_slot(sl__store *store, uint32_t layer, sl__store_layer **out,
                               sl_error *err);

#endif
