/* What a core can do with the instructions of a level: loads as wide as they come, and products
 * whose operands never leave the registers. Here, and only here among the tests, functions have
 * instruction sets of their own; they run only where the level does. */
#include <string.h>

#include "checkkern.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define TIME_NS UINT64_C(2000000) /* a measurement at least */

typedef struct machine {
    const char *level;
    uint64_t (*load)(const void *p, size_t bytes); /* a sum of all bytes, in some way */
    uint64_t (*floats)(uint64_t rounds);           /* rounds of multiply-adds */
    uint64_t (*bytes)(uint64_t rounds);
    double floats_a_round, bytes_a_round; /* multiply-adds */
} machine;

/* ---- loads ----------------------------------------------------------------------------------- */

/* Two halves side by side, as many kernels have two streams; eight sums that do not wait for each
 * other. bytes is a multiple of 1024. */
#define DEFINE_LOAD(name, target, width)                                                       \
    target static uint64_t name(const void *p, size_t bytes)                                   \
    {                                                                                          \
        typedef uint64_t wide __attribute__((vector_size(width), aligned(width), may_alias));  \
        const wide *v = p, *w = v + bytes / (width) / 2;                                       \
        wide s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, s4 = {0}, s5 = {0}, s6 = {0}, s7 = {0};   \
        for (size_t i = 0; i < bytes / (width) / 2; i += 4) {                                  \
            s0 += v[i], s1 += v[i + 1], s2 += v[i + 2], s3 += v[i + 3];                        \
            s4 += w[i], s5 += w[i + 1], s6 += w[i + 2], s7 += w[i + 3];                        \
        }                                                                                      \
        s0 += s1 + s2 + s3 + s4 + s5 + s6 + s7;                                                \
        uint64_t words[(width) / 8], sum = 0;                                                  \
        memcpy(words, &s0, sizeof words);                                                      \
        for (unsigned j = 0; j < (width) / 8; j++)                                             \
            sum += words[j];                                                                   \
        return sum;                                                                            \
    }

/* What a step computes of the operands alone is computed anew each time. */
#define ANEW(a) __asm__ volatile("" : "+m"(a))

/* Twelve chains of step(s, a, b), as many as hide how long a step takes. They are no array: what
 * has an address is stored again and again. */
#define DEFINE_CHAINS(name, target, vector, zero, one, step)                                   \
    target static uint64_t name(uint64_t rounds)                                               \
    {                                                                                          \
        vector s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero;    \
        vector s7 = zero, s8 = zero, s9 = zero, s10 = zero, s11 = zero, a = one, b = one;      \
        for (uint64_t i = 0; i < rounds; i++) {                                                \
            step(s0, a, b); step(s1, a, b); step(s2, a, b); step(s3, a, b);                    \
            step(s4, a, b); step(s5, a, b); step(s6, a, b); step(s7, a, b);                    \
            step(s8, a, b); step(s9, a, b); step(s10, a, b); step(s11, a, b);                  \
            ANEW(b);                                                                           \
        }                                                                                      \
        const vector last[12] = {s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11};            \
        uint64_t words[12], sum = 0;                                                           \
        for (unsigned j = 0; j < 12; j++) {                                                    \
            memcpy(&words[j], &last[j], sizeof words[j]);                                      \
            sum += words[j];                                                                   \
        }                                                                                      \
        return sum;                                                                            \
    }

/* ---- the levels ------------------------------------------------------------------------------ */

#if defined(__x86_64__)

#define AVX2    __attribute__((target("avx2,fma")))
#define AVXVNNI __attribute__((target("avx2,avxvnni")))
#define AVX512  __attribute__((target("avx512f,avx512bw")))
#define VNNI512 __attribute__((target("avx512f,avx512vnni")))

DEFINE_LOAD(load_16, , 16)
DEFINE_LOAD(load_32, AVX2, 32)
DEFINE_LOAD(load_64, AVX512, 64)

#define FLOATS_16(s, a, b) (s) = _mm_add_ps(s, _mm_mul_ps(a, b)); ANEW(a)
#define FLOATS_32(s, a, b) (s) = _mm256_fmadd_ps(a, b, s)
#define FLOATS_64(s, a, b) (s) = _mm512_fmadd_ps(a, b, s)
DEFINE_CHAINS(floats_16, , __m128, _mm_setzero_ps(), _mm_set1_ps(1), FLOATS_16)
DEFINE_CHAINS(floats_32, AVX2, __m256, _mm256_setzero_ps(), _mm256_set1_ps(1), FLOATS_32)
DEFINE_CHAINS(floats_64, AVX512, __m512, _mm512_setzero_ps(), _mm512_set1_ps(1), FLOATS_64)

#define BYTES_16(s, a, b) (s) = _mm_add_epi32(s, _mm_madd_epi16(a, b)); ANEW(a)
#define BYTES_32(s, a, b) \
    (s) = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), b)); ANEW(a)
#define BYTES_64(s, a, b) \
    (s) = _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), b)); ANEW(a)
#define VNNI_32(s, a, b) (s) = _mm256_dpbusd_avx_epi32(s, a, b)
#define VNNI_64(s, a, b) (s) = _mm512_dpbusd_epi32(s, a, b)
DEFINE_CHAINS(bytes_16, , __m128i, _mm_setzero_si128(), _mm_set1_epi16(1), BYTES_16)
DEFINE_CHAINS(bytes_32, AVX2, __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(1), BYTES_32)
DEFINE_CHAINS(bytes_64, AVX512, __m512i, _mm512_setzero_si512(), _mm512_set1_epi8(1), BYTES_64)
DEFINE_CHAINS(vnni_32, AVXVNNI, __m256i, _mm256_setzero_si256(), _mm256_set1_epi8(1), VNNI_32)
DEFINE_CHAINS(vnni_64, VNNI512, __m512i, _mm512_setzero_si512(), _mm512_set1_epi8(1), VNNI_64)

/* A level that is not named here has the limits of the one below it. */
static const machine machines[] = {
    {"ref", load_16, floats_16, bytes_16, 12 * 4, 12 * 8},
    {"avx2", load_32, floats_32, bytes_32, 12 * 8, 12 * 32},
    {"avxvnni", load_32, floats_32, vnni_32, 12 * 8, 12 * 32},
    {"avx512", load_64, floats_64, bytes_64, 12 * 16, 12 * 64},
    {"avx512vnni", load_64, floats_64, vnni_64, 12 * 16, 12 * 64},
};

#elif defined(__aarch64__)

DEFINE_LOAD(load_16, , 16)

#define FLOATS_16(s, a, b) (s) = vfmaq_f32(s, a, b)
#define LOW_8(a) vget_low_s8(vreinterpretq_s8_s16(a))
#define BYTES_16(s, a, b) (s) = vmlal_s8(s, LOW_8(a), LOW_8(b))
#define DOT_16(s, a, b) \
    __asm__(".arch armv8.6-a\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(s) : "w"(a), "w"(b))
#define I8MM_16(s, a, b) \
    __asm__(".arch armv8.6-a\n\tsmmla %0.4s, %1.16b, %2.16b" : "+w"(s) : "w"(a), "w"(b))

DEFINE_CHAINS(floats_16, , float32x4_t, vdupq_n_f32(0), vdupq_n_f32(1), FLOATS_16)
DEFINE_CHAINS(bytes_16, , int16x8_t, vdupq_n_s16(0), vdupq_n_s16(1), BYTES_16)
DEFINE_CHAINS(dot_16, , int32x4_t, vdupq_n_s32(0), vdupq_n_s32(1), DOT_16)
DEFINE_CHAINS(i8mm_16, , int32x4_t, vdupq_n_s32(0), vdupq_n_s32(1), I8MM_16)

static const machine machines[] = {
    {"ref", load_16, floats_16, bytes_16, 12 * 4, 12 * 8},
    {"dotprod", load_16, floats_16, dot_16, 12 * 4, 12 * 16},
    {"i8mm", load_16, floats_16, i8mm_16, 12 * 4, 12 * 32},
};

#else
#error "no limits are known for this architecture"
#endif

/* ---- measuring ------------------------------------------------------------------------------- */

static const machine *machine_of(const char *level)
{
    const machine *found = &machines[0];
    for (unsigned i = 0; i < ck_level_count; i++) {
        for (size_t j = 0; j < sizeof machines / sizeof machines[0]; j++) {
            if (strcmp(machines[j].level, ck_levels[i].level) == 0) found = &machines[j];
        }
        if (strcmp(ck_levels[i].level, level) == 0) break;
    }
    return found;
}

double ck_limit(const char *level, ck_bound bound, const void *buffer, size_t bytes)
{
    const machine *m = machine_of(level);
    const uint64_t rounds = 20000;
    double done = 0;
    uint64_t begin, now;
    volatile uint64_t sink = 0; /* what is computed must go somewhere */
    if (bound == CK_L2) sink += m->load(buffer, bytes); /* into the cache */
    begin = ck_now_ns();
    do {
        switch (bound) {
        case CK_FLOAT:
            sink += m->floats(rounds);
            done += (double)rounds * m->floats_a_round;
            break;
        case CK_BYTES:
            sink += m->bytes(rounds);
            done += (double)rounds * m->bytes_a_round;
            break;
        default:
            sink += m->load(buffer, bytes);
            done += (double)bytes;
        }
        now = ck_now_ns();
    } while (now - begin < TIME_NS);
    (void)sink;
    return done * 1e9 / (double)(now - begin);
}
