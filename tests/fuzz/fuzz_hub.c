/* An answer of the hub's API of any bytes, up to a NUL or the end; what follows the NUL is the text
 * of an index, and what a URL and a selector are taken from. What is accepted must be fit for the
 * disk and sorted, and whatever is chosen must be of the list. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "hub/hub_names.h"
#include "hub/hub_select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

static void check_list(const sl__hub_list *list)
{
    require(sl__hub_is_hex(list->commit, 40));
    for (size_t i = 0; i < list->count; i++) {
        const sl__hub_file *file = &list->files[i];
        require(sl__hub_path_ok(file->path) && file->path[0] != '/');
        require(!file->digest[0] || sl__hub_is_hex(file->digest, strlen(file->digest)));
        require(i == 0 || strcmp(list->files[i - 1].path, file->path) < 0);
        require(sl__hub_list_find(list, file->path) == file);
    }
}

static void select_files(sl__hub_list *list, const char *selector, sl__arena *arena)
{
    sl__hub_selection selection;
    sl_error err = {0};
    size_t chosen = 0;
    sl_status status = sl__hub_select(list, "fuzz", selector, arena, &selection, &err);
    for (size_t i = 0; i < list->count; i++)
        chosen += list->files[i].chosen;
    require((status == SL_OK) == (chosen > 0));
    require(status == SL_OK || err.message[0]);
    if (selection.main_path) {
        const sl__hub_file *file = sl__hub_list_find(list, selection.main_path);
        require(file && file->chosen);
    }
    /* What is offered can be chosen. */
    for (size_t i = 0; i < selection.choice_count && i < 4 && !selector; i++)
        select_files(list, selection.choices[i].selector, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    size_t list_size = end ? (size_t)(end - data) : size;
    size_t rest_size = end ? size - list_size - 1 : 0;
    char *rest = malloc(rest_size + 1);
    require(rest != NULL);
    if (rest_size) memcpy(rest, end + 1, rest_size);
    rest[rest_size] = '\0';

    sl__arena arena;
    sl__arena_init(&arena, 0);
    sl__hub_list list;
    sl_error err = {0};
    sl__hub_origin origin;
    sl__hub_name name;
    if (sl__hub_origin_of(&origin, rest)) require(origin.port > 0 && origin.host[0]);
    if (sl__hub_name_parse(&name, rest)) require(sl__hub_path_ok(name.repo));
    const char *text = size ? (const char *)data : "";
    if (sl__hub_list_parse(&list, text, list_size, "fuzz", &arena, &err) == SL_OK) {
        check_list(&list);
        select_files(&list, NULL, &arena);
        if (rest_size) select_files(&list, rest, &arena);
        sl_error why = {0};
        if (sl__hub_select_indexed(&list, "fuzz", rest, rest_size, &why) != SL_OK)
            require(why.message[0]);
    } else {
        require(list.count == 0 && err.message[0]);
    }
    sl__arena_free(&arena);
    free(rest);
    return 0;
}
