/* Replays files through a libFuzzer entry point where libFuzzer itself is not there:
 * every file of every folder named on the command line is given to the target once. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    uint8_t *data = NULL;
    size_t size = 0, room = 0;
    for (;;) {
        if (size == room) {
            room = room ? room * 2 : 4096;
            uint8_t *grown = realloc(data, room);
            if (!grown) abort();
            data = grown;
        }
        size_t got = fread(data + size, 1, room - size, f);
        if (got == 0) break;
        size += got;
    }
    fclose(f);
    /* An exact-size copy lets AddressSanitizer see a read one byte too far. */
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) abort();
    if (size) memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int bad = 0, count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "%s: no such folder\n", argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            if (e->d_name[0] == '.') continue;
            char path[4096];
            int n = snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (n < 0 || (size_t)n >= sizeof path) {
                bad = 1;
                continue;
            }
            bad |= replay_file(path);
            count++;
        }
        closedir(dir);
    }
    printf("%d inputs replayed\n", count);
    return bad || count == 0;
}
