/* A file on its way: its bytes, and which pieces of it are there. Private to this room.
 *
 *     blobs/DIGEST.sluice          the bytes, each piece at its place, the rest holes
 *     blobs/DIGEST.sluice-pieces   "sluice pull 1 SIZE PIECE\n", then a byte a piece:
 *                                  '#' there, '.' missing
 *
 * A piece is marked after its bytes were written, so a process that is killed loses the pieces
 * under way and no more. The marks do not wait for the disk: after a loss of power a marked piece
 * can be missing, which the checksum of the whole finds, and the file is then fetched anew.
 *
 * The names are not those of huggingface_hub, whose unfinished DIGEST.incomplete is a plain front
 * part: it would take a file with holes for a finished one. Its own is taken over as such a part.
 */
#ifndef SL_HUB_HUB_PARTIAL_H
#define SL_HUB_HUB_PARTIAL_H

#include "hub/hub_cache.h"

#define SL_HUB_PIECE_BYTES (16u << 20)

typedef enum sl__hub_piece { SL_PIECE_MISSING, SL_PIECE_ASKED, SL_PIECE_THERE } sl__hub_piece;

typedef struct sl__hub_partial {
    char path[SL_PATH_MAX], map_path[SL_PATH_MAX], blob_path[SL_PATH_MAX];
    int fd, map_fd;
    uint64_t size, there_bytes;
    uint32_t piece_count; /* 0 of an empty file */
    uint8_t *pieces;      /* sl__hub_piece; owned */
    size_t map_head;      /* bytes before the marks */
} sl__hub_partial;

/* Opens what is there of a file, or begins it. The caller holds the file's lock. */
sl_status sl__hub_partial_open(sl__hub_partial *out, const sl__hub_cache *cache,
                               const sl__hub_file *file, sl_error *err);
void sl__hub_partial_close(
    sl__hub_partial *partial); /* what is there stays; a zeroed one: nothing */

uint64_t sl__hub_piece_end(const sl__hub_partial *partial, uint32_t piece); /* an offset */

/* Marks a piece whose bytes were written. */
sl_status sl__hub_partial_mark(sl__hub_partial *partial, uint32_t piece, sl_error *err);

/* Forgets all pieces: the file is begun anew. */
sl_status sl__hub_partial_reset(sl__hub_partial *partial, sl_error *err);

/* Makes a verified file the blob: on the disk, then under its name. Closes. */
sl_status sl__hub_partial_finish(sl__hub_partial *partial, sl_error *err);

/* Removes what is there. Closes. */
void sl__hub_partial_discard(sl__hub_partial *partial);

/* The bytes that need not be fetched again; changes nothing. */
uint64_t sl__hub_partial_there(const sl__hub_cache *cache, const sl__hub_file *file);

#endif
