/*
 * CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected; RFC 3720 appendix B.4) of a record's bytes.
 *
 * A processor with SSE 4.2 has an instruction for 8 bytes, which may start every cycle but ends after three. One chain of
 * them therefore waits two cycles of three. Bytes are split into three lanes of equal length, each with a chain of its
 * own, and the lanes' results are combined, as V. Gopal et al. describe in "Fast CRC Computation for iSCSI Polynomial
 * Using CRC32 Instruction" (Intel, 2011). The checksum is linear: what a lane of n words contributes to a whole that goes
 * on for m words is its state times x^(64 m) modulo the polynomial. With reflected bits a carry-less product of two 32 bit
 * states and the instruction's own reduction of it add up to a factor of x^33, so the constants kept are x^(64 m - 33).
 * The instruction itself makes each of them of the one before: applied to a zero word it multiplies by x^64.
 *
 * One such instruction starts in a cycle, so three lanes end at 8 bytes a cycle, while the unit that multiplies stands idle.
 * Where it multiplies two pairs of words at once (VPCLMULQDQ), a region ahead of the lanes is folded meanwhile: 128 bytes,
 * in four registers, are multiplied by x^1024 and the next 128 added, until the region's last 128 stand for all of it.
 *
 * What the processor offers (SSE 4.2, PCLMUL for the product, VPCLMULQDQ) is asked at run time, so that one build serves
 * every processor; without it a table of 256 words is used. Both tables are filled once when a module is loaded. All ways
 * give the same number, which a test keeps true.
 */
#ifndef RAPPORT_CHECKSUM_H
#define RAPPORT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static uint32_t rapport_crc_table[256];

static inline uint32_t rapport_crc32c_table(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++)
        crc = rapport_crc_table[(crc ^ bytes[i]) & 0xFF] ^ (crc >> 8);
    return crc ^ 0xFFFFFFFFu;
}

#if defined(__x86_64__)
/* Words of a lane: at most, which bounds the constants, and from which on the combination costs less than it saves. */
#define RAPPORT_LANE_MOST 128
#define RAPPORT_LANE_LEAST 6
/* A step of the wide way: bytes folded, and words of each lane, which take as long; and steps at most, and at least. */
#define RAPPORT_FOLD_BYTES 128
#define RAPPORT_FOLD_WORDS 5
#define RAPPORT_STEP_BYTES (RAPPORT_FOLD_BYTES + 3 * 8 * RAPPORT_FOLD_WORDS)
#define RAPPORT_STEP_MOST 48
#define RAPPORT_STEP_LEAST 4
#define RAPPORT_POWER_MOST (3 * RAPPORT_FOLD_WORDS * RAPPORT_STEP_MOST)

/* [m] is x^(64 m - 33) modulo the polynomial, for 0 < m <= the words that anything is moved by. */
static uint32_t rapport_crc_powers[RAPPORT_POWER_MOST + 1];
static int rapport_crc_lanes; /* whether the processor can do it */
static int rapport_crc_wide; /* whether it can fold beside the lanes */

__attribute__((target("sse4.2"))) static void rapport_crc_fill_powers(void)
{
    uint64_t power = 1; /* x^31, reflected */
    for (int m = 1; m <= RAPPORT_POWER_MOST; m++) {
        rapport_crc_powers[m] = (uint32_t)power;
        power = _mm_crc32_u64(power, 0);
    }
}

static inline uint64_t rapport_word(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t rapport_crc32c_tail(uint64_t crc, const uint8_t *bytes, size_t size)
{
    size_t i = 0;
    for (; i + 8 <= size; i += 8)
        crc = _mm_crc32_u64(crc, rapport_word(bytes + i));
    uint32_t rest = (uint32_t)crc;
    for (; i < size; i++)
        rest = _mm_crc32_u8(rest, bytes[i]);
    return rest ^ 0xFFFFFFFFu;
}

/* The product that, reduced by the instruction, is a state moved by `words`. */
__attribute__((target("sse4.2,pclmul"))) static inline __m128i rapport_crc_moved(uint64_t state, size_t words)
{
    return _mm_clmulepi64_si128(
        _mm_cvtsi64_si128((int64_t)state), _mm_cvtsi32_si128((int)rapport_crc_powers[words]), 0);
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t rapport_crc32c_lanes(
    uint64_t crc, const uint8_t *bytes, size_t size)
{
    while (size >= 3 * 8 * RAPPORT_LANE_LEAST) {
        size_t words = size / 24;
        if (words > RAPPORT_LANE_MOST)
            words = RAPPORT_LANE_MOST;
        const uint8_t *second = bytes + 8 * words;
        const uint8_t *third = second + 8 * words;
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < 8 * words; i += 8) {
            crc = _mm_crc32_u64(crc, rapport_word(bytes + i));
            b = _mm_crc32_u64(b, rapport_word(second + i));
            c = _mm_crc32_u64(c, rapport_word(third + i));
        }
        __m128i moved = _mm_xor_si128(rapport_crc_moved(crc, 2 * words), rapport_crc_moved(b, words));
        crc = c ^ _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(moved));
        bytes += 24 * words;
        size -= 24 * words;
    }
    return rapport_crc32c_tail(crc, bytes, size);
}

#define RAPPORT_WIDE __attribute__((target("sse4.2,pclmul,avx2,vpclmulqdq")))

/* What moves two pairs of words by `words`: of a pair, the first has one word more to go than the second. */
RAPPORT_WIDE static inline __m256i rapport_crc_pairs(size_t words)
{
    int64_t first = rapport_crc_powers[words + 1], second = rapport_crc_powers[words];
    return _mm256_set_epi64x(second, first, second, first);
}

RAPPORT_WIDE static inline __m256i rapport_crc_fold(__m256i pairs, __m256i powers, __m256i onto)
{
    return _mm256_xor_si256(
        onto, _mm256_xor_si256(_mm256_clmulepi64_epi128(pairs, powers, 0x00), _mm256_clmulepi64_epi128(pairs, powers, 0x11)));
}

RAPPORT_WIDE static inline __m256i rapport_pairs(const uint8_t *bytes)
{
    return _mm256_loadu_si256((const __m256i *)bytes);
}

RAPPORT_WIDE static uint32_t rapport_crc32c_wide(uint64_t crc, const uint8_t *bytes, size_t size)
{
    while (size >= RAPPORT_STEP_LEAST * RAPPORT_STEP_BYTES) {
        size_t steps = size / RAPPORT_STEP_BYTES;
        if (steps > RAPPORT_STEP_MOST)
            steps = RAPPORT_STEP_MOST;
        size_t words = steps * RAPPORT_FOLD_WORDS;
        const uint8_t *first = bytes + steps * RAPPORT_FOLD_BYTES;
        const uint8_t *second = first + 8 * words;
        const uint8_t *third = second + 8 * words;
        uint64_t a = 0, b = 0, c = 0;
        __m256i powers = rapport_crc_pairs(RAPPORT_FOLD_BYTES / 8);
        __m256i w = _mm256_xor_si256(rapport_pairs(bytes), _mm256_set_epi64x(0, 0, 0, (int64_t)crc));
        __m256i x = rapport_pairs(bytes + 32), y = rapport_pairs(bytes + 64), z = rapport_pairs(bytes + 96);
        for (size_t step = 0; step < steps; step++) {
            if (step) {
                const uint8_t *next = bytes + step * RAPPORT_FOLD_BYTES;
                w = rapport_crc_fold(w, powers, rapport_pairs(next));
                x = rapport_crc_fold(x, powers, rapport_pairs(next + 32));
                y = rapport_crc_fold(y, powers, rapport_pairs(next + 64));
                z = rapport_crc_fold(z, powers, rapport_pairs(next + 96));
            }
            for (size_t i = 0; i < 8 * RAPPORT_FOLD_WORDS; i += 8) {
                a = _mm_crc32_u64(a, rapport_word(first + step * (8 * RAPPORT_FOLD_WORDS) + i));
                b = _mm_crc32_u64(b, rapport_word(second + step * (8 * RAPPORT_FOLD_WORDS) + i));
                c = _mm_crc32_u64(c, rapport_word(third + step * (8 * RAPPORT_FOLD_WORDS) + i));
            }
        }
        /* 128 bytes onto their last 16, whose own checksum is then the region's. */
        powers = rapport_crc_pairs(4);
        x = rapport_crc_fold(w, powers, x);
        z = rapport_crc_fold(y, powers, z);
        z = rapport_crc_fold(x, rapport_crc_pairs(8), z);
        __m128i pair = _mm256_castsi256_si128(z), two = _mm256_castsi256_si128(rapport_crc_pairs(2));
        pair = _mm_xor_si128(
            _mm256_extracti128_si256(z, 1),
            _mm_xor_si128(_mm_clmulepi64_si128(pair, two, 0x00), _mm_clmulepi64_si128(pair, two, 0x11)));
        uint64_t folded = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(pair));
        folded = _mm_crc32_u64(folded, (uint64_t)_mm_extract_epi64(pair, 1));
        __m128i moved = _mm_xor_si128(
            rapport_crc_moved(folded, 3 * words), _mm_xor_si128(rapport_crc_moved(a, 2 * words), rapport_crc_moved(b, words)));
        crc = c ^ _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(moved));
        bytes += steps * RAPPORT_STEP_BYTES;
        size -= steps * RAPPORT_STEP_BYTES;
    }
    return rapport_crc32c_lanes(crc, bytes, size);
}
#endif

__attribute__((constructor)) static void rapport_crc_fill(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
        rapport_crc_table[byte] = crc;
    }
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")) {
        rapport_crc_fill_powers();
        rapport_crc_lanes = 1;
        rapport_crc_wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
    }
#endif
}

/* By what processors without the wide way have. */
static inline uint32_t rapport_crc32c_narrow(const uint8_t *bytes, size_t size)
{
#if defined(__x86_64__)
    if (rapport_crc_lanes)
        return rapport_crc32c_lanes(0xFFFFFFFFu, bytes, size);
    if (__builtin_cpu_supports("sse4.2"))
        return rapport_crc32c_tail(0xFFFFFFFFu, bytes, size);
#endif
    return rapport_crc32c_table(bytes, size);
}

static inline uint32_t rapport_crc32c(const uint8_t *bytes, size_t size)
{
#if defined(__x86_64__)
    if (rapport_crc_wide && size >= RAPPORT_STEP_LEAST * RAPPORT_STEP_BYTES)
        return rapport_crc32c_wide(0xFFFFFFFFu, bytes, size);
#endif
    return rapport_crc32c_narrow(bytes, size);
}

#endif
