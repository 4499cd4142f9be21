/* Sluice: runs Mixture-of-Experts language models whose experts stay on the disk.
 *
 * The one public header. Two nouns carry it: an engine is a model that was opened under a memory
 * budget; a session is one sequence of tokens run through it. A tokenizer and a sampler stand
 * beside them and can be used alone.
 *
 * Errors. Functions that can fail return an sl_status; SL_OK is 0, every other value is negative.
 * `err` may be NULL; where it is not, the first cause is left in it as one line that names the file
 * and the thing. Nothing here prints, and nothing here ends the process.
 *
 * Threads. An engine may be used by one thread at a time, with all of its sessions. A tokenizer is
 * immutable after opening and may be shared.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ---------------------------------------------------------------------------------- */

typedef enum sl_status {
    SL_OK = 0,
    SL_ENOMEM = -1,       /* an allocation failed */
    SL_EIO = -2,          /* the system refused to open, read or write */
    SL_EFORMAT = -3,      /* a file does not say what its format requires */
    SL_EUNSUPPORTED = -4, /* well-formed, but something that Sluice does not run */
    SL_EINVAL = -5,       /* an argument is outside its stated range */
    SL_EBUDGET = -6,      /* the memory budget is too small; the message says what would do */
    SL_ECORRUPT = -7,     /* bytes differ from their checksum */
    SL_ENUMERIC = -8,     /* a NaN or an infinity where the model can have none */
    SL_ECANCELLED = -9,   /* the caller's callback asked to stop */
} sl_status;

/* The first cause of a failure. Zero-initialise before the first use; reusable after a clear. */
typedef struct sl_error {
    sl_status status;
    char message[1024]; /* one line, NUL-terminated, no newline */
} sl_error;

const char *sl_status_name(sl_status status); /* "SL_EIO"; static string */
void sl_error_clear(sl_error *err);
const char *sl_version(void); /* "0.1.0"; static string */

/* ---- tokenizer ------------------------------------------------------------------------------- */

typedef struct sl_tokenizer sl_tokenizer;

/* Opens the tokenizer of a model: a pack, a checkpoint folder or its one .safetensors file (beside
 * which it lies), its GGUF file (any part of a split one), or the file itself: tokenizer.json, or a
 * tiktoken file, tiktoken.model (Kimi's, with the tokenizer_config.json beside it) or
 * o200k*.tiktoken. Reads no weights. The caller closes it. */
sl_status sl_tokenizer_open(sl_tokenizer **out, const char *path, sl_error *err);
void sl_tokenizer_close(sl_tokenizer *tok); /* NULL is allowed */

/* Token ids run from 0 to the count - 1; ids may have holes, which decode to nothing. */
uint32_t sl_tokenizer_vocab_size(const sl_tokenizer *tok);

/* The id of a token given by its literal text ("<|im_end|>"), added tokens first; -1 if none. */
int32_t sl_tokenizer_token_id(const sl_tokenizer *tok, const char *text);

/* What sl_tokenizer_encode does besides; 0: nothing. */
typedef enum sl_encode_flags {
    SL_ENCODE_ADDED = 1, /* the text of added tokens ("<|im_start|>") becomes their ids; not for
                          * text that must not be able to forge control tokens */
    SL_ENCODE_BOS = 2,   /* what the tokenizer's post-processor puts around every text, such as a
                          * BOS; not for text that has it already, as a chat template's does */
} sl_encode_flags;

/* Encodes `size` bytes. *ids is allocated with malloc and owned by the caller (free); NULL where
 * *count is 0. Bytes that are not UTF-8 are encoded as the byte tokens of themselves.
 * flags: sl_encode_flags, or'ed; others are SL_EINVAL. */
sl_status sl_tokenizer_encode(const sl_tokenizer *tok, const char *text, size_t size,
                              unsigned flags, int32_t **ids, size_t *count, sl_error *err);

/* Decodes ids to text. *text is allocated with malloc, NUL-terminated, owned by the caller.
 * skip_special leaves out added tokens that are marked special. Incomplete UTF-8 becomes U+FFFD. */
sl_status sl_tokenizer_decode(const sl_tokenizer *tok, const int32_t *ids, size_t count,
                              bool skip_special, char **text, size_t *size, sl_error *err);

/* Streaming decoder: never gives out half a character. */
typedef struct sl_detokenizer sl_detokenizer;
sl_status sl_detokenizer_create(sl_detokenizer **out, const sl_tokenizer *tok, bool skip_special,
                                sl_error *err); /* borrows tok */
void sl_detokenizer_destroy(sl_detokenizer *detok);
/* The text that `id` completes, borrowed until the next call, NUL-terminated; *size may be 0. */
const char *sl_detokenizer_push(sl_detokenizer *detok, int32_t id, size_t *size);
/* What is held back at the end (U+FFFD for an incomplete character), borrowed likewise. What is
 * pushed afterwards goes on: it does not count as the beginning of a text, whose first space some
 * tokenizers drop. So pushing a prompt, then this, leaves a decoder for what follows the prompt. */
const char *sl_detokenizer_finish(sl_detokenizer *detok, size_t *size);

/* ---- chat templates -------------------------------------------------------------------------- */

/* The template that turns messages into a prompt: Jinja, as published with a model. It does not
 * change after opening and may be shared by threads. */
typedef struct sl_template sl_template;

/* Opens the template of a model: a pack, a checkpoint folder or its one .safetensors file
 * (chat_template.jinja, else the chat_template of tokenizer_config.json), its GGUF file (any part
 * of a split one), or a file itself: such a tokenizer_config.json, or any other file, which is the
 * template. A model may have another one named tool_use, which is taken where there are tools. The
 * caller closes it. */
sl_status sl_template_open(sl_template **out, const char *path, sl_error *err);
/* The same from text; name (NULL: "template") is for messages, which say line and column. */
sl_status sl_template_parse(sl_template **out, const char *text, size_t size, const char *name,
                            sl_error *err);
void sl_template_close(sl_template *tmpl); /* NULL is allowed */

/* Renders with the variables of a JSON object: messages, tools, bos_token, add_generation_prompt
 * and whatever else the template asks for; the order of keys is kept. bos_token, eos_token,
 * unk_token and pad_token are the model's own, where it names them and the caller does not, unless
 * the template was opened without its model. The string "now", ISO 8601,
 * is besides what strftime_now sees; without it, the time is that of the system.
 * *text is allocated with malloc, NUL-terminated, owned by the caller; NULL after a failure.
 * SL_EINVAL where the template fails on the variables or refuses them, SL_EBUDGET where it takes
 * more steps, memory, depth or text than a render may. */
sl_status sl_template_render(const sl_template *tmpl, const char *json, size_t json_size,
                             char **text, size_t *size, sl_error *err);

typedef struct sl_prompt {
    int32_t *ids; /* allocated with malloc, owned by the caller (free); NULL where count is 0 */
    size_t count;
    bool thinking; /* the template leaves the model inside of its reasoning: after "<think>" */
} sl_prompt;

/* Renders, and encodes what comes of it. The control tokens in it are those that the template
 * writes: where the variables hold the text of one ("<|im_end|>"), it stays text, so that no
 * message can end itself and begin another one. Added tokens that are not marked special, such as
 * "<think>", are found in messages, too. Errors: those of both; nothing is allocated then. */
sl_status sl_template_prompt(const sl_template *tmpl, const sl_tokenizer *tok, const char *json,
                             size_t json_size, sl_prompt *prompt, sl_error *err);

/* ---- the processor --------------------------------------------------------------------------- */

/* The levels of kernels that this build knows, lowest first: "ref" (plain C), "avx2", …; NULL after
 * the last. Static strings. A level has the same kernels on every processor that runs it. */
const char *sl_cpu_level_name(uint32_t i);

typedef struct sl_cpu_info {
    char brand[64];             /* as the processor calls itself; "" where it does not */
    uint32_t cores;             /* that this process may use */
    uint64_t l1_data_bytes, l2_bytes, l3_bytes; /* as the first core sees them; 0: unknown */
    char features[256];         /* what kernels may use: "avx2 fma f16c", space between */
    uint32_t levels;            /* bit i: sl_cpu_level_name(i) runs here */
    const char *level;          /* the highest of them that pays: the default; static string */
} sl_cpu_info;
void sl_cpu_info_get(sl_cpu_info *info);

/* ---- engine ---------------------------------------------------------------------------------- */

typedef struct sl_engine sl_engine;

/* When a pack's checksums are compared. */
typedef enum sl_verify_rule {
    SL_VERIFY_FIRST = 0, /* when a record is first read */
    SL_VERIFY_ALL,       /* at every read */
    SL_VERIFY_NONE,
} sl_verify_rule;

/* How reads are made. None of these can be seen in a result. */
typedef enum sl_io_kind {
    SL_IO_KIND_AUTO = 0, /* what the probe found best */
    SL_IO_KIND_URING,    /* io_uring; Linux */
    SL_IO_KIND_PREAD,    /* a pool of threads */
    SL_IO_KIND_MMAP,     /* page faults, a baseline for benches; packs only, no expert cache */
} sl_io_kind;

/* "auto", "uring", "pread", "mmap" */
const char *sl_io_kind_name(sl_io_kind kind);

/* What the system is told of mapped files. */
typedef enum sl_map_advice {
    SL_MAP_ADVICE_NORMAL = 0, /* it reads ahead as it likes */
    SL_MAP_ADVICE_RANDOM,     /* it does not read ahead */
    SL_MAP_ADVICE_WILLNEED,   /* an expert is asked for as soon as the router has chosen it */
} sl_map_advice;

typedef enum sl_switch { SL_AUTO = 0, SL_ON, SL_OFF } sl_switch;

/* How keys and values of attention are kept, MLA's latents too. */
typedef enum sl_kv_type {
    SL_KV_F32 = 0,
    SL_KV_F16,
    SL_KV_Q8, /* 8 bits, a scale for 64 channels of a position and head */
} sl_kv_type;

/* "f32", "f16", "q8" */
const char *sl_kv_type_name(sl_kv_type type);

/* What weights are multiplied with. What decides which experts run (routers, gates) meets floats
 * always. */
typedef enum sl_activations {
    SL_ACTIVATIONS_F32 = 0,
    /* Rounded, several times faster: to 8 bits in groups of 64 for weights of 8 bits and fewer, to
     * bf16 for weights in bf16. */
    SL_ACTIVATIONS_Q8,
} sl_activations;

typedef struct sl_engine_options {
    uint64_t memory_bytes;      /* a promise about the process's resident size; 0: what is free */
    uint64_t cache_bytes;       /* the expert cache alone; 0: what memory_bytes leaves */
    uint32_t threads;           /* compute threads; 0: one a core */
    uint32_t context_tokens;    /* the longest sequence; 0: chosen, at most the model's own: as
                                 * expected_tokens says, else 4096, fewer where memory is short */
    uint32_t expected_tokens;   /* the longest sequence that will be asked for; 0: not known */
    uint32_t chunk_tokens;      /* tokens a forward pass at most, of all its sessions together; 0:
                                 * chosen from the budget */
    uint32_t sessions;          /* sequences that the budget has room for at full context; 0: 1 */
    uint64_t prefix_bytes;      /* that the budget keeps free for prefix caches in memory */
    uint32_t experts_per_token; /* 0: as trained; below that is lossy, above it is refused */
    sl_io_kind io;
    sl_switch direct;           /* past the page cache; AUTO: as probed. ON fails where it cannot */
    sl_switch prefetch;         /* one layer ahead; AUTO: while it pays */
    sl_switch follow_memory;    /* the expert cache shrinks under memory pressure and grows back,
                                 * never beyond the budget; AUTO: on */
    uint32_t io_depth;          /* pieces in flight; 0: as probed */
    uint64_t io_split_bytes;    /* the largest piece of a read; 0: as probed */
    sl_map_advice map_advice;   /* with SL_IO_KIND_MMAP */
    const char *probe_file;     /* where the probe's findings are remembered; NULL: nowhere */
    const sl_tokenizer *tokenizer; /* borrowed, outlives the engine; NULL: the model's is opened */
    sl_verify_rule verify;      /* packs only: a checkpoint carries no checksums */
    sl_kv_type kv;
    sl_activations activations;
    const char *cpu_level;      /* the level of kernels, of sl_cpu_level_name; NULL: the default
                                 * here. SL_EINVAL where it does not run here */
} sl_engine_options;

/* Opens a model (pack or checkpoint folder, one .safetensors file beside its config.json, or a GGUF
 * file, any part of a split one): reads headers, then the resident part; no expert. opt may be
 * NULL. The caller closes it after its sessions are destroyed. */
sl_status sl_engine_open(sl_engine **out, const char *path, const sl_engine_options *opt,
                         sl_error *err);
void sl_engine_close(sl_engine *engine); /* NULL is allowed */

const sl_tokenizer *sl_engine_tokenizer(const sl_engine *engine); /* borrowed; NULL if none */

/* What was opened and how it was planned. Strings are borrowed from the engine. */
typedef struct sl_engine_info {
    const char *family;         /* "qwen3_5_moe" */
    const char *path;
    uint32_t layers, hidden_size, vocab_size, experts, experts_per_token, trained_experts_per_token;
    uint32_t context_tokens, chunk_tokens, sessions, threads;
    sl_kv_type kv;
    sl_activations activations; /* Q8 only where the model has weights that it is for */
    const char *cpu_level;      /* of the kernels that run; static string */
    uint64_t memory_bytes;      /* the budget, resolved */
    uint64_t resident_bytes;    /* weights that stay in memory */
    uint64_t state_bytes;       /* a session's KV cache, DeltaNet and conv state and token ids at
                                 * full context; the budget has room for `sessions` of them */
    uint64_t scratch_bytes;
    uint64_t cache_bytes;       /* the expert cache */
    uint64_t process_bytes;     /* what the process held before the plan was made */
    uint64_t expert_bytes;      /* one expert in memory */
    uint64_t experts_bytes;     /* all experts of all layers */
    bool embedding_resident;    /* false: rows of the embedding are read when needed */
    sl_io_kind io;              /* never AUTO */
    bool direct;
    uint32_t io_depth;
    uint64_t io_split_bytes;
    double disk_bytes_per_s;    /* as probed, at the size of an expert; 0: not probed */
    bool synthetic;             /* random weights, written by sl_synth */
    char rounded_to[16];        /* "q8, bf16": what activations are rounded to; "": they are not */
    char expert_types[64];      /* "q4": how experts are stored, comma-separated where mixed */
    double expert_bits;         /* a weight of the experts, scales and padding included */
} sl_engine_info;
void sl_engine_info_get(const sl_engine *engine, sl_engine_info *info);

/* Counters since the engine was opened. Take two and subtract. */
typedef struct sl_stats {
    uint64_t tokens;            /* through the forward pass */
    uint64_t expert_requests;   /* (token chunk, layer, expert) asked of the cache */
    uint64_t expert_hits;       /* ready when asked */
    uint64_t expert_joins;      /* already loading when asked */
    uint64_t expert_misses;
    uint64_t expert_evictions;
    uint64_t bytes_needed;      /* of experts, had nothing been in memory */
    uint64_t bytes_missing;     /* of experts asked for that had to be read for it, ahead or not */
    uint64_t bytes_read;        /* from files, experts and embedding rows */
    uint64_t wait_ns;           /* compute waiting for reads */
    uint64_t verify_ns;         /* comparing checksums */
    uint64_t forward_ns;
    uint64_t read_ns;           /* at least one read was in flight */
    uint64_t io_cpu_ns;         /* processor time of the I/O engine's threads */
    /* Experts read ahead; once all is settled, reads = useful + late + wasted. */
    uint64_t prefetch_reads;
    uint64_t prefetch_useful;   /* ready when asked for */
    uint64_t prefetch_late;     /* still on their way when asked for */
    uint64_t prefetch_wasted;   /* evicted before they were asked for */
    uint64_t prefetch_cancelled; /* never begun, not counted in reads */
    uint64_t prefetch_bytes, prefetch_wasted_bytes;
    bool prefetch_on;           /* now */
    /* The next layer's router on the present state: its first k against what was then chosen. */
    uint64_t predicted, predicted_right;
    uint64_t cache_bytes;       /* the expert cache may hold this much now */
    uint64_t cache_resizes;
} sl_stats;
void sl_engine_stats_get(const sl_engine *engine, sl_stats *stats);

/* A picture of the expert cache: one byte an expert, which says whether it is in memory, and in the
 * lower bits how many passes ago it was last used: 0 by the last one, SL_EXPERT_PASSES that many or
 * more, or never. */
#define SL_EXPERT_HELD   0x80u
#define SL_EXPERT_PASSES 0x7fu

typedef struct sl_expert_map {
    uint32_t layers;  /* that have experts, in order */
    uint32_t experts; /* of the layer that has most; a layer that has fewer never uses the rest */
    uint8_t *state;   /* [layers][experts], the caller's; NULL: layers and experts alone are told */
} sl_expert_map;
/* Between calls that run tokens, or from a progress callback; no more than a look at each expert.
 * With SL_IO_KIND_MMAP nobody knows what is in memory, and nothing is said to be. */
void sl_engine_experts_get(const sl_engine *engine, sl_expert_map *map);

/* ---- session --------------------------------------------------------------------------------- */

typedef struct sl_session sl_session;

/* The budget has room for as many sessions as the options said; SL_EBUDGET where what it has left
 * is too little for another. */
sl_status sl_session_create(sl_session **out, sl_engine *engine, sl_error *err);
void sl_session_destroy(sl_session *session); /* NULL is allowed */
void sl_session_reset(sl_session *session);   /* back to the empty sequence */
uint32_t sl_session_position(const sl_session *session); /* tokens so far */
sl_engine *sl_session_engine(const sl_session *session); /* the one it was created on; borrowed */
/* The tokens so far, [position], borrowed until the session's next call. */
const int32_t *sl_session_ids(const sl_session *session);

/* Receives logits of tokens [first, first+count) of a call, row-major [count, vocab_size], borrowed
 * for the duration of the callback. Anything but SL_OK stops the evaluation and is returned. */
typedef sl_status (*sl_logits_fn)(void *ctx, size_t first, size_t count, const float *logits);

/* Hears how far an evaluation of several tokens is: `done` of `count`, in parts of a token, after
 * each layer of each chunk. Anything but SL_OK stops the evaluation and is returned. */
typedef sl_status (*sl_progress_fn)(void *ctx, double done, size_t count);
void sl_session_set_progress(sl_session *session, sl_progress_fn fn, void *ctx); /* fn NULL: none */

/* Runs `count` >= 1 tokens after those so far. How the tokens of a sequence are spread over calls
 * cannot be seen in a result, but for one thing: models with DeltaNet take tokens together in runs
 * that end at positions that are multiples of 64 (of chunk_tokens, where that is smaller) and where
 * a call ends. A call that ends elsewhere, as every generated token's does, may change the last
 * bits of what follows.
 * logits (may be NULL): receives the logits of the last token, [vocab_size].
 * fn (may be NULL): receives the logits of every token, a chunk at a time, in order.
 * After a failure the session must be reset. */
sl_status sl_session_eval(sl_session *session, const int32_t *ids, size_t count, float *logits,
                          sl_logits_fn fn, void *ctx, sl_error *err);

/* One session's part of a batch. */
typedef struct sl_batch_item {
    sl_session *session;   /* all of one engine, none twice */
    const int32_t *ids;
    size_t count;          /* >= 1 tokens after those so far; any number of them */
    float *logits;         /* NULL, or [vocab_size]: receives those of the last token */
    sl_status status;      /* out: as sl_session_eval would have returned it */
    sl_error error;        /* out: why, where status is not SL_OK */
} sl_batch_item;

/* Runs tokens of several sessions through the same passes: an expert that several of them need is
 * read once for all. Each gets, to the bit, what sl_session_eval alone would give it.
 * An item that cannot be run, such as one whose context is full, has its status and is left as it
 * was; one that fails midway, or whose progress callback stops it, must be reset; neither hurts the
 * others. A failure of a pass, such as one to read, is the status of all that were in it.
 * Returns SL_OK whatever the items' statuses are; SL_EINVAL where the call itself is wrong (no
 * item, a session twice, one of another engine): then nothing is run and no item is touched. */
sl_status sl_engine_eval_batch(sl_engine *engine, sl_batch_item *items, size_t count,
                               sl_error *err);

/* ---- snapshots ------------------------------------------------------------------------------- */

/* A snapshot is all that a session needs to go on: its tokens and what the model keeps of them. The
 * session that goes on from one gives, to the bit, what the one that was saved would have given.
 * It is of a model and of the settings that decide answers: the type of keys and values,
 * activations, experts a token, the level of kernels. docs/internals/engine.md has the format. */

/* Writes path ".partial", syncs it and renames it to path; after a failure path is as it was. Other
 * users cannot read the file. */
sl_status sl_session_save(const sl_session *session, const char *path, sl_error *err);
/* The session becomes what was saved. What is wrong with a snapshot is said by name: another model
 * or setting (SL_EINVAL), a version that is not known (SL_EUNSUPPORTED), too long for the context
 * (SL_EINVAL), not a snapshot or not whole (SL_EFORMAT), changed (SL_ECORRUPT). After any failure
 * the session is as it was, or reset. */
sl_status sl_session_load(sl_session *session, const char *path, sl_error *err);
/* dst becomes what src is; both of one engine. */
sl_status sl_session_copy(sl_session *dst, const sl_session *src, sl_error *err);

/* ---- prompts that are kept ------------------------------------------------------------------- */

/* States of sessions, found again by the tokens that led to them: a text that begins as an earlier
 * one did goes on from there. Answers are those of a run without it, to the bit, unless
 * `approximate` is asked for. It is of one engine, which must outlive it, and may be used by the
 * engine's thread alone. */
typedef struct sl_prefix_cache sl_prefix_cache;

typedef struct sl_prefix_cache_options {
    const char *folder;    /* made where it is not there; what is kept there outlives the process.
                            * NULL: nothing is kept on a disk */
    uint64_t memory_bytes; /* in memory at most; counts as the engine's prefix_bytes; 0: none */
    uint64_t disk_bytes;   /* in the folder at most, of this model and these settings */
    bool approximate;      /* models with DeltaNet: states are kept and used at any position, not
                            * at multiples of 64 alone. Then last bits of an answer may be others
                            * than without the cache (1e-5), and so, now and then, a token */
    /* Hears what a cache goes on without: a damaged file that it removed, one that it could not
     * write. May be NULL. */
    void (*message)(void *ctx, const char *line);
    void *message_ctx;
} sl_prefix_cache_options;

/* SL_EBUDGET where the engine's budget has no room for memory_bytes; SL_EINVAL where another cache
 * of the same model and settings has the folder. */
sl_status sl_prefix_cache_open(sl_prefix_cache **out, sl_engine *engine,
                               const sl_prefix_cache_options *opt, sl_error *err);
void sl_prefix_cache_close(sl_prefix_cache *cache); /* NULL is allowed */

/* The most tokens, at most `count`, of a text after which a session can be kept: count itself, but
 * for models with DeltaNet, where it is a multiple of 64. Running a text up to there, keeping the
 * session, and running the rest gives the bits of running it at once. */
size_t sl_prefix_cache_boundary(const sl_prefix_cache *cache, size_t count);

/* Makes the session one that is at the longest known beginning of ids[count], at most count - 1
 * tokens, so that one is left to be run: its own, if what it holds will do, else a kept one; else
 * it is reset. *reused: its position. What is damaged is removed, with a message, and not used. */
sl_status sl_prefix_cache_find(sl_prefix_cache *cache, sl_session *session, const int32_t *ids,
                               size_t count, size_t *reused, sl_error *err);

/* Keeps what the session is now. Where that is not at a boundary, or too large, or cannot be
 * written (which is a message), nothing is kept and it is SL_OK. What was used longest ago goes. */
sl_status sl_prefix_cache_keep(sl_prefix_cache *cache, const sl_session *session, sl_error *err);

typedef struct sl_prefix_cache_stats {
    uint64_t memory_entries, memory_bytes;
    uint64_t disk_entries, disk_bytes;
    uint64_t finds, hits;          /* hits: something was reused */
    uint64_t reused_tokens;
    uint64_t kept, refused;        /* refused: not at a boundary */
    uint64_t evicted, damaged;
} sl_prefix_cache_stats;
void sl_prefix_cache_stats_get(const sl_prefix_cache *cache, sl_prefix_cache_stats *stats);

/* ---- sampler --------------------------------------------------------------------------------- */

typedef struct sl_sampler_options {
    float temperature;        /* 0: greedy, ties to the lower id */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off; over prompt and generated tokens */
    float presence_penalty;   /* 0: off; over generated tokens */
    float frequency_penalty;  /* 0: off; the same, once for each time that one was generated */
    uint64_t seed;            /* the same seed, logits and options give the same ids */
} sl_sampler_options;

/* Greedy, everything else off, seed 0. */
void sl_sampler_options_default(sl_sampler_options *opt);

typedef struct sl_sampler sl_sampler;
sl_status sl_sampler_create(sl_sampler **out, uint32_t vocab_size, const sl_sampler_options *opt,
                            sl_error *err);
void sl_sampler_destroy(sl_sampler *sampler);
/* Tells the sampler of a token of the prompt (for the repetition penalty). */
void sl_sampler_accept_prompt(sl_sampler *sampler, int32_t id);
/* Chooses the next id from logits [vocab_size] (borrowed, not changed) and accepts it as generated.
 * SL_ENUMERIC where a logit is NaN or none is finite. Allocates nothing. */
sl_status sl_sampler_sample(sl_sampler *sampler, const float *logits, int32_t *id, sl_error *err);
/* Its two halves: an id that is drawn may be dropped and another one be drawn. */
sl_status sl_sampler_draw(sl_sampler *sampler, const float *logits, int32_t *id, sl_error *err);
void sl_sampler_accept(sl_sampler *sampler, int32_t id);

/* ---- constrained decoding -------------------------------------------------------------------- */

/* What a text may be. Immutable; may be shared by threads, and by constraints at the same time. */
typedef struct sl_grammar sl_grammar;

/* Any JSON object. */
sl_status sl_grammar_json(sl_grammar **out, sl_error *err);
/* What a JSON schema allows, its properties in the order of the schema. docs/internals/constrain.md
 * lists what a schema may say; SL_EUNSUPPORTED names anything else and its place, SL_EINVAL and
 * SL_EFORMAT what is no schema. */
sl_status sl_grammar_json_schema(sl_grammar **out, const char *schema, size_t size, sl_error *err);

/* How calls of tools are written. */
typedef enum sl_tool_form {
    SL_TOOL_FORM_PARAMETERS = 0, /* <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n… */
    SL_TOOL_FORM_JSON,           /* <tool_call>\n{"name": NAME, "arguments": {…}}\n… */
} sl_tool_form;

typedef struct sl_tool_options {
    sl_tool_form form;
    bool required; /* nothing but calls, one at least; else free text, and calls in it */
    bool single;   /* one call at most, and nothing behind it */
    bool strict;   /* arguments fit their schemas, also of tools that do not say "strict": true;
                    * without either they are only well-formed, and the tool's name is one */
    /* Not NULL: the text is either nothing but calls, or JSON that this schema allows. Borrowed for
     * the call. */
    const char *answer;
    size_t answer_size;
} sl_tool_options;

/* Calls of tools, a JSON array as in a request. Errors as of sl_grammar_json_schema. */
sl_status sl_grammar_tool_calls(sl_grammar **out, const char *tools, size_t size,
                                const sl_tool_options *opt, sl_error *err);
void sl_grammar_close(sl_grammar *grammar); /* NULL is allowed */

/* The tokens of a tokenizer, made ready for constraints: once, to be shared. Immutable. */
typedef struct sl_vocabulary sl_vocabulary;
sl_status sl_vocabulary_create(sl_vocabulary **out, const sl_tokenizer *tok, sl_error *err);
void sl_vocabulary_destroy(sl_vocabulary *vocabulary); /* NULL is allowed */
uint64_t sl_vocabulary_bytes(const sl_vocabulary *vocabulary); /* of memory */

#define SL_CONSTRAINT_EOS_MAX 64

/* One text that is being generated under a grammar. */
typedef struct sl_constraint sl_constraint;
/* Borrows grammar and vocabulary. vocab_size: of the model's logits, which may be more than the
 * tokenizer's. eos: the end tokens, at most SL_CONSTRAINT_EOS_MAX. */
sl_status sl_constraint_create(sl_constraint **out, const sl_grammar *grammar,
                               const sl_vocabulary *vocabulary, uint32_t vocab_size,
                               const int32_t *eos, size_t eos_count, sl_error *err);
void sl_constraint_destroy(sl_constraint *constraint); /* NULL is allowed */
void sl_constraint_reset(sl_constraint *constraint);   /* back to the empty text */
/* Sets the logits [vocab_size] of all tokens that cannot come next to -infinity, end tokens among
 * them while the text is not complete. SL_EUNSUPPORTED where no token can come, SL_EINVAL behind an
 * end token. Allocates nothing. */
sl_status sl_constraint_mask(sl_constraint *constraint, float *logits, sl_error *err);
/* Tells of the token that comes. SL_EINVAL where it cannot: then only a reset helps. Allocates
 * nothing. */
sl_status sl_constraint_accept(sl_constraint *constraint, int32_t id, sl_error *err);
/* Whether the text is complete and nothing but an end token may follow. */
bool sl_constraint_done(const sl_constraint *constraint);

/* A text that must come to its end within a limit of tokens. Until a choice would take it too far
 * it is as without the limit, to the token:
 *
 *     mask, draw an id; unless fits(id, left): mask_within(left), draw again; accept
 *
 * watch: makes ready for that; back to the empty text. SL_ENOMEM. */
sl_status sl_constraint_watch(sl_constraint *constraint, sl_error *err);
/* So many tokens suffice to complete the text, no end token among them: an upper bound, as
 * tokens may reach further than it takes into account. 0: it is complete, or not watched.
 * UINT32_MAX: the vocabulary has no token for what must come. */
uint32_t sl_constraint_needs(const sl_constraint *constraint);
/* Whether a token can come next such that what is left of `left` tokens, this one among them (1 at
 * least), suffices behind it; where they do not suffice as it is: such that no more are lacking
 * behind it. End tokens fit where the text is complete. Allocates nothing, nor does the next. */
bool sl_constraint_fits(sl_constraint *constraint, int32_t id, uint32_t left);
/* As sl_constraint_mask, and in addition all that do not fit (none of those where no token does).
 * Logits that sl_constraint_mask has masked are as good as the model's. */
sl_status sl_constraint_mask_within(sl_constraint *constraint, uint32_t left, float *logits,
                                    sl_error *err);

/* What generation_config.json asks for, and where to stop. */
typedef struct sl_generation_defaults {
    sl_sampler_options sampler;
    int32_t eos_ids[16];
    uint32_t eos_count;
} sl_generation_defaults;
void sl_engine_generation_defaults(const sl_engine *engine, sl_generation_defaults *defaults);

/* ---- generating ------------------------------------------------------------------------------ */

/* What a generation says while it writes. */
typedef enum sl_event_kind {
    SL_EVENT_TEXT,      /* of the answer */
    SL_EVENT_REASONING, /* between <think> and </think> */
    SL_EVENT_CALL,      /* a call of a tool begins: text is its name */
    SL_EVENT_ARGUMENTS, /* the next piece of its arguments, one JSON object in all */
    SL_EVENT_CALL_END,  /* complete: it was written as it should be; else it broke off */
    SL_EVENT_TOKEN,     /* the next token was chosen; told before what it says */
} sl_event_kind;

typedef struct sl_token_chance {
    int32_t id;
    float logprob; /* natural logarithm, of the model's own distribution: no penalty, temperature or
                    * filter is in it */
} sl_token_chance;

typedef struct sl_event {
    sl_event_kind kind;
    const char *text; /* borrowed for the call; not NUL-terminated */
    size_t size;
    bool complete;         /* SL_EVENT_CALL_END */
    sl_token_chance token; /* SL_EVENT_TOKEN; its logprob only where options.logprobs */
    const sl_token_chance *top; /* the likeliest, best first; borrowed for the call */
    uint32_t top_count;
} sl_event;

/* Anything but SL_OK ends the generation, and is what the call that told it returns. */
typedef sl_status (*sl_event_fn)(void *ctx, const sl_event *event);

#define SL_TOP_LOGPROBS_MAX 20u

typedef struct sl_generation_options {
    sl_sampler_options sampler;
    const int32_t *end_ids; /* [end_count] tokens that end the answer; copied */
    size_t end_count;
    uint32_t max_tokens;      /* 0: as many as the caller evaluates */
    const char *const *stops; /* [stop_count] texts that end the answer and are not in it; copied */
    size_t stop_count;
    bool chat;         /* reasoning and calls are told apart from the answer; else all is TEXT */
    bool thinking;     /* with chat: the prompt ended inside <think> */
    const char *tools; /* with chat: [tools_size] JSON, an array as in a request; NULL: none */
    size_t tools_size;
    /* What the answer may be, behind its reasoning; borrowed. NULL: anything. */
    const sl_grammar *grammar;
    const sl_vocabulary *vocabulary; /* with a grammar: of the same tokenizer */
    /* With a grammar and max_tokens: the answer is brought to its end within them, where the model
     * does not do so itself. Not for calls of tools: one with arguments that were cut short would
     * look like one that was meant. */
    bool whole;
    bool logprobs;
    uint32_t top_logprobs; /* at most SL_TOP_LOGPROBS_MAX */
    sl_event_fn event;     /* may be NULL */
    void *ctx;
} sl_generation_options;

/* Greedy, nothing else. */
void sl_generation_options_default(sl_generation_options *opt);

typedef enum sl_finish {
    SL_FINISH_NONE = 0, /* it goes on */
    SL_FINISH_STOP,     /* an end token, or one of the stops; under a grammar also the last of
                         * max_tokens, where nothing but an end token could have followed */
    SL_FINISH_CALLS,    /* an end token, after complete calls of tools */
    SL_FINISH_LENGTH,   /* max_tokens; also where the answer came to its end, but a choice had been
                         * set aside for it to do so within them (options.whole) */
} sl_finish;

/* One answer, being written: sampler, streaming decoder and parser. It evaluates nothing itself, so
 * that a caller can run many together:
 *
 *     evaluate the prompt; until it has finished: take(logits) -> id; evaluate id */
typedef struct sl_generation sl_generation;

/* prompt: the ids before the answer. tok is borrowed. SL_EINVAL where an option is out of range or
 * tools are no array. */
sl_status sl_generation_create(sl_generation **out, const sl_tokenizer *tok, uint32_t vocab_size,
                               const sl_generation_options *opt, const int32_t *prompt,
                               size_t prompt_count, sl_error *err);
void sl_generation_destroy(sl_generation *generation); /* NULL is allowed */

/* Chooses the next token from logits [vocab_size] of the last one, and tells what it says. *id is
 * to be evaluated next, unless the generation has finished. */
sl_status sl_generation_take(sl_generation *generation, const float *logits, int32_t *id,
                             sl_error *err);
/* Tells what is held back, where the caller ends it: the context is full, say. */
sl_status sl_generation_end(sl_generation *generation, sl_finish finish, sl_error *err);
sl_finish sl_generation_finish(const sl_generation *generation);
uint32_t sl_generation_tokens(const sl_generation *generation); /* taken so far, an end token too */
/* Which of options.stops it met; -1: none. */
int sl_generation_stop(const sl_generation *generation);

/* ---- inspecting and packing ------------------------------------------------------------------ */

/* One kind of a model's weights. */
typedef struct sl_model_part {
    const char *name;           /* "attention", "experts' gate", …; static */
    char types[160];            /* "q4_k" or, where mixed, "q4_k (36), q6_k (4)": matrices of each,
                                 * the experts of a layer counting as one */
    uint64_t weights, bytes;    /* weights 0: there are none of this kind */
} sl_model_part;

#define SL_MODEL_PARTS 9u
#define SL_MODEL_PROBLEMS 20u

/* What a model is, from its headers alone. */
typedef struct sl_model_info {
    char family[32];
    /* "pack", "safetensors", "gguf"; "mlx", "fp8", "mxfp4" or "compressed-tensors" */
    char format[24];
    uint32_t layers;            /* the sum of the next four */
    uint32_t linear_layers, full_layers, latent_layers, window_layers;
    uint32_t dense_layers;      /* of layers: those without routed experts */
    uint32_t mtp_layers;
    uint32_t hidden_size, vocab_size, max_context;
    uint32_t experts, experts_per_token, expert_intermediate_size, shared_intermediate_size;
    char expert_types[64];      /* "bf16" or "q4", comma-separated where mixed */
    char resident_types[64];
    uint64_t parameters;        /* of the text model, without MTP */
    uint64_t active_parameters; /* a token */
    uint64_t resident_bytes;    /* all that every token needs, embedding_bytes included */
    uint64_t embedding_bytes, experts_bytes, mtp_bytes, ignored_bytes;
    uint64_t expert_bytes;      /* one expert */
    uint32_t expert_extents;    /* reads an expert */
    uint64_t bytes_per_token;   /* of experts, had nothing been in memory */
    uint32_t reads_per_token;   /* for those */
    uint64_t read_min_bytes, read_max_bytes; /* the smallest and the largest of them */
    sl_model_part parts[SL_MODEL_PARTS]; /* without drafting layers */
    uint64_t kv_bytes_per_token, kv_f16_bytes_per_token, kv_q8_bytes_per_token; /* f32: the first */
    uint64_t state_bytes;
    uint64_t minimum_memory_bytes; /* the smallest budget that would open, at minimum_context */
    uint32_t minimum_context;   /* 4096 tokens, or the longest that the model knows */
    uint64_t free_memory_bytes; /* here and now, cgroup-aware */
    uint32_t ignored_tensors;   /* vision and the like */
    bool has_tokenizer, has_chat_template;
    bool synthetic;             /* random weights, written by sl_synth with these options: */
    bool synthetic_uniform;
    double synthetic_overlap, synthetic_predictable;
    /* What is wrong with it: files and tensors that are missing, cut short or of another shape. All
     * figures are of what is there. */
    uint32_t problem_count;
    char problems[SL_MODEL_PROBLEMS][256]; /* the first of them */
} sl_model_info;
/* Where there are problems it fails as the first of them says, and info has what is known: layers
 * is 0 where that is nothing but the problems. */
sl_status sl_model_inspect(const char *path, sl_model_info *info, sl_error *err);

typedef struct sl_pack_progress {
    const char *what;           /* "resident", "layer 3" */
    uint64_t done_bytes, total_bytes; /* of output */
} sl_pack_progress;

/* What a pack has of one kind of weights, and its source. */
typedef struct sl_pack_part {
    const char *name;           /* "experts", "embedding", "the rest", "drafting layers"; static */
    char from[64], to[64];      /* types of matrices: "bf16", comma-separated where mixed */
    uint64_t weights;           /* 0: there are none of this kind */
    uint64_t from_bytes, to_bytes;
    bool lossy;                 /* some of it cannot hold all numbers of the source */
} sl_pack_part;

#define SL_PACK_PARTS 4u

/* A type that some matrices cannot have, their rows being no whole number of its blocks. */
typedef struct sl_pack_substitute {
    char wanted[16], taken[16];
    uint32_t matrices;          /* the experts of a layer count as three */
    char first[256];            /* the name of the first of them */
} sl_pack_substitute;

#define SL_PACK_SUBSTITUTES 4u

typedef struct sl_pack_report {
    sl_pack_part parts[SL_PACK_PARTS];
    sl_pack_substitute substitutes[SL_PACK_SUBSTITUTES];
    uint32_t substitute_count;
    bool lossy;
    uint64_t disk_bytes;        /* of the pack, spaces included */
    uint64_t free_bytes;        /* on the file system of dst, before anything is written */
    uint64_t from_expert_bytes, to_expert_bytes; /* one expert; 0: there are none */
    uint32_t from_expert_reads; /* reads an expert in the source; one in a pack */
    uint64_t read_bytes;        /* of the source; less where a pack is resumed */
    double seconds;             /* that it took; in a dry run: that it would take, if the disk of
                                 * dst keeps up */
    /* Dry run: bytes of source a second, as measured on a sample. 0: not measured. */
    double convert_bytes_per_s, disk_bytes_per_s;
} sl_pack_report;

typedef struct sl_pack_options {
    /* NULL: "keep", no loss. Else a type: "bf16", "f16", "f32"; the pack's own "q8", "q4", "q3",
     * "q2", which are fastest; GGUF's "q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k", "q5_0",
     * "q5_1", "q4_0", "q4_1", "iq4_nl", "iq4_xs"; "mxfp4". Where rows are no whole number of a
     * type's blocks, the pack's own type of as many bits, or of more, is taken instead. */
    const char *experts;        /* or by parts, "gate=q4,up=q4,down=q8"; kept where not named */
    const char *resident;       /* the same, for all that is not a routed expert */
    uint32_t threads;           /* 0: one a core */
    bool verify;                /* read everything back and compare with the checksums */
    bool dry_run;               /* writes nothing: fills the report */
    sl_pack_report *report;     /* may be NULL. Filled as far as the call came */
    /* Called from the packing thread; anything but SL_OK stops, leaving what can be resumed. */
    sl_status (*progress)(void *ctx, const sl_pack_progress *progress);
    void *progress_ctx;
    /* 0: 1 GiB. Usually two experts are held as they come and two as they go; where that is more,
     * one and one. */
    uint64_t memory_bytes;
} sl_pack_options;

/* Writes a pack of the model at src as the folder dst, which must not exist, or be an interrupted
 * pack of the same source and options, which is then resumed. dst appears under its name only when
 * it is complete. Before anything is written, SL_EIO says where the disk has too little room. */
sl_status sl_pack(const char *src, const char *dst, const sl_pack_options *opt, sl_error *err);

/* ---- downloading ----------------------------------------------------------------------------- */

typedef struct sl_pull_file {
    const char *path;           /* in the repository */
    uint64_t bytes, there_bytes; /* there: need not be fetched */
} sl_pull_file;

/* One of several models that a repository holds: ORG/NAME:selector names it. */
typedef struct sl_pull_choice {
    const char *selector;
    uint64_t bytes;
    uint32_t files;
} sl_pull_choice;

/* What a pull is about to do. Everything is borrowed for the duration of the callback. */
typedef struct sl_pull_plan {
    const char *name;           /* "ORG/NAME" */
    const char *revision, *commit;
    const char *path;           /* what the pull will have made: a folder or a GGUF file */
    const sl_pull_file *files;
    size_t file_count;
    uint64_t total_bytes, there_bytes;
    uint64_t free_bytes;        /* of the disk under the cache */
    const sl_pull_choice *choices; /* instead of files, where the user has to choose */
    size_t choice_count;
} sl_pull_plan;

typedef struct sl_pull_progress {
    uint64_t done_bytes, total_bytes;
    uint32_t done_files, total_files;
    const char *note;           /* new, such as that the hub asks to wait; NULL: none */
} sl_pull_progress;

typedef struct sl_pull_options {
    const char *revision;       /* a branch, a tag or a commit; NULL: "main" */
    bool dry_run;               /* nothing is written; ends after the plan */
    uint32_t connections;       /* at a time, at most 64; 0: 8 */
    uint32_t tries;             /* of a request that comes no further; 0: 6 */
    /* Each may be NULL; anything but SL_OK stops, leaving what can be resumed. */
    sl_status (*plan)(void *ctx, const sl_pull_plan *plan); /* before anything is written */
    sl_status (*progress)(void *ctx, const sl_pull_progress *progress);
    void *ctx;
} sl_pull_options;

/* Downloads a model from the Hugging Face hub into the cache that huggingface_hub uses, and
 * verifies it; what is there already is not fetched again. name: "ORG/NAME", or
 * "ORG/NAME:SELECTOR", where the selector is a quantisation ("Q4_K_M") or a file of a repository of
 * GGUF files. out receives what to open: a folder or a GGUF file. opt may be NULL. The environment
 * says where the hub and the cache are, and holds the token: docs/internals/hub.md. SL_EUNSUPPORTED
 * in a build without libcurl. The first two calls in a process must not be at the same time. */
sl_status sl_pull(const char *name, const sl_pull_options *opt, char *out, size_t out_size,
                  sl_error *err);

/* Whether text has the form of a model's name on the hub: "ORG/NAME" or "ORG/NAME:SELECTOR". */
bool sl_hub_is_name(const char *text);
/* Where a model lies that was pulled (or that huggingface_hub fetched), of the branch main. Asks
 * nobody. SL_EIO where it is not in the cache; the message says how to get it. */
sl_status sl_hub_find(const char *name, char *out, size_t out_size, sl_error *err);

/* ---- the disk -------------------------------------------------------------------------------- */

typedef struct sl_probe_point {
    sl_io_kind io;
    bool direct;
    uint64_t read_bytes;        /* size of a piece */
    uint32_t depth;             /* pieces in flight */
    double bytes_per_s;
} sl_probe_point;

typedef struct sl_probe_result {
    sl_io_kind io;              /* the choice, never AUTO */
    bool direct;
    uint64_t split_bytes;
    uint32_t depth;
    double bytes_per_s;         /* with the choice */
    double best_bytes_per_s;    /* of the points that were measured again and again */
    char device[64];            /* "8:0 NVME MODEL": what the findings are remembered under */
    bool remembered;            /* nothing was measured now */
    uint64_t took_ns;
    uint32_t point_count;
    sl_probe_point points[64];
} sl_probe_result;

typedef struct sl_probe_options {
    uint64_t time_ns;           /* at most; 0: half a second */
    uint64_t expert_bytes;      /* 0: the model's */
    const char *probe_file;     /* remembers; NULL: measures and forgets */
    bool again;                 /* measures though something is remembered */
} sl_probe_options;

/* Measures how a model's own files (a pack, a checkpoint folder), or any one file, are read best.
 * Reads only. opt may be NULL. A bytes_per_s of 0: nothing could be measured, such as of files that
 * lie in memory; the choice is a guess then, and not remembered. That a finding could not be
 * written to probe_file is no failure. */
sl_status sl_probe(const char *path, const sl_probe_options *opt, sl_probe_result *result,
                   sl_error *err);

/* Bytes a second that `threads` threads read from memory, measured over time_ns; 0: no memory. */
double sl_probe_memory(uint32_t threads, uint64_t time_ns);

/* ---- traces of routing ----------------------------------------------------------------------- */

/* Writes from now on what the router chooses to a file (format: docs/internals/cache.md), until
 * the end or the engine's close. path must not exist. One trace at a time. */
sl_status sl_engine_trace_begin(sl_engine *engine, const char *path, sl_error *err);
sl_status sl_engine_trace_end(sl_engine *engine, sl_error *err);

/* What is in a trace, and what is known of it without a cache. */
typedef struct sl_trace_info {
    uint32_t layers, experts, experts_per_token; /* layers with experts */
    uint64_t tokens;
    double overlap;             /* of a token's experts, those of the token before; mean */
    double predictable;         /* the next layer's predictions that were right; NaN: not traced */
} sl_trace_info;
sl_status sl_trace_inspect(const char *path, sl_trace_info *info, sl_error *err);

typedef struct sl_trace_result {
    char policy[16];            /* "lru", "belady", and the names of sl_trace_policies */
    uint64_t slots;             /* experts that the cache holds, over all layers */
    uint64_t requests, hits;
} sl_trace_result;

/* The policies' names, ended by NULL. */
const char *const *sl_trace_policies(void);
/* Replays a trace against a policy, cache empty at first. */
sl_status sl_trace_simulate(const char *path, const char *policy, uint64_t slots,
                            sl_trace_result *result, sl_error *err);

/* ---- synthetic models ------------------------------------------------------------------------ */

/* Random weights in the shapes of a real model, as a pack. Routing follows two dials, as measured
 * on real models; see docs/internals/engine.md. */
typedef struct sl_synth_options {
    const char *like;           /* a name of sl_synth_shapes */
    uint32_t layers;            /* 0: as the model has */
    const char *experts, *resident; /* "q8", "q4", "q3", "q2", "bf16"; NULL: "q4", "q8" */
    double overlap;             /* of a token's experts, those of the token before; 0: 0.25 */
    double predictable;         /* of the next layer's experts, predicted; 0: 0.70 */
    bool uniform;               /* every token chooses anew; overlap is not looked at */
    uint64_t seed;
    /* As in sl_pack_options. */
    sl_status (*progress)(void *ctx, const sl_pack_progress *progress);
    void *progress_ctx;
} sl_synth_options;

const char *const *sl_synth_shapes(void); /* ended by NULL */
/* Of the tensors and records of the pack; 0: the options are wrong, sl_synth says how. */
uint64_t sl_synth_bytes(const sl_synth_options *opt);
/* dst must not exist; it appears under its name only when it is complete. What was stopped is
 * resumed, as with sl_pack. The same options give the same bytes. */
sl_status sl_synth(const char *dst, const sl_synth_options *opt, sl_error *err);

/* Measures routing on a session (reset first, and left at a position > 0): `tokens` >= 2 tokens,
 * each sampled from the last one's logits at temperature 1, always the same ones. Both are means
 * over tokens and layers of fractions of the experts a token. */
typedef struct sl_routing_measured {
    uint64_t tokens;
    double overlap;     /* chosen for the token before too */
    double predictable; /* by the layer's router on the state that the router before it saw; NaN
                         * where there is but one layer with experts */
} sl_routing_measured;
sl_status sl_measure_routing(sl_session *session, uint32_t tokens, sl_routing_measured *out,
                             sl_error *err);

/* ---- evaluation ------------------------------------------------------------------------------ */

/* Negative log-likelihood in nats of ids[1..count), each given all before it in the same call:
 * nll receives count - 1 values. The session is reset first. */
sl_status sl_eval_nll(sl_session *session, const int32_t *ids, size_t count, float *nll,
                      sl_error *err);

#ifdef __cplusplus
}
#endif

#endif
