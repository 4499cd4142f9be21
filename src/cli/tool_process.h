/* A tool's program while it runs: what it writes, for as long as it may. */
#ifndef SL_CLI_TOOL_PROCESS_H
#define SL_CLI_TOOL_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

typedef struct tool_limits {
    uint64_t time_ns;
    size_t output_bytes; /* what is written beyond is read and dropped */
    bool (*stop)(void);  /* asked often; true ends the program. NULL: never */
} tool_limits;

typedef enum tool_end {
    TOOL_EXITED = 0, /* with .code */
    TOOL_KILLED,     /* by signal .code */
    TOOL_TOO_LONG,   /* ended after time_ns */
    TOOL_STOPPED,    /* because of stop */
    TOOL_NOT_BEGUN,  /* .code is an errno */
} tool_end;

typedef struct tool_result {
    tool_end end;
    int code;
    bool cut; /* more was written than output_bytes */
} tool_result;

/* Runs argv[0], as execvp finds it, with nothing to read and standard output and error joined into
 * *output (initialised by the caller). It and what it starts are one process group, which is killed
 * at the end, whatever the end is. */
tool_result tool_process_run(char *const *argv, const tool_limits *limits, sl__buffer *output);

#endif
