/* The pack writer's state, shared by pack_writer.c (what is written) and pack_resume.c (what an
 * earlier run has left). */
#ifndef SL_STORE_PACK_WRITER_H
#define SL_STORE_PACK_WRITER_H

#include "base/file.h"
#include "base/hash.h"
#include "store/pack.h"
#include "store/pack_journal.h"

typedef enum sl__pack_open {
    SL_PACK_OPEN_NONE = 0,
    SL_PACK_OPEN_RESIDENT,
    SL_PACK_OPEN_LAYER,
} sl__pack_open;

struct sl__pack_writer {
    char dst[SL_PATH_MAX], partial[SL_PATH_MAX];
    json_t *root;           /* the manifest in the making */
    sl__pack_manifest plan; /* the same, read by the reader's own function: all layouts */
    sl__tensor *tensors;    /* [plan.tensor_count], in the order of the plan; names borrowed */
    uint64_t *tensor_sums;  /* [plan.tensor_count] */
    bool resident_done;
    bool *layer_done;       /* [plan.layer_count]; checksums are in plan.layers */
    bool opened, committed;
    sl__pack_journal journal;

    /* The one file that is being written. */
    sl__pack_open open;
    size_t layer;           /* index into plan.layers, with SL_PACK_OPEN_LAYER */
    size_t next;            /* tensor or expert that must come now */
    uint64_t tensor_bytes;  /* of that tensor, so far */
    uint64_t begun;         /* of the file, that the system was asked to write to the disk */
    int fd;                 /* -1: none */
    char file_path[SL_PATH_MAX];
    sl__hasher *hash;
};

/* Makes or takes up the folder and its journal, compares what the journal calls finished with its
 * checksums, and removes every other file. */
sl_status sl__pack_resume(sl__pack_writer *w, const char *fingerprint, sl_error *err);

/* Removes the files of the folder that are neither finished nor the journal. */
sl_status sl__pack_remove_strays(sl__pack_writer *w, sl_error *err);

/* The index in plan.layers; false: no such layer. */
bool sl__pack_writer_find(const sl__pack_writer *w, uint32_t layer, size_t *index);

#endif
