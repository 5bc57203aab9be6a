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
 * What the processor offers (SSE 4.2, and PCLMUL for the product) is asked at run time, so that one build serves every
 * processor; without it a table of 256 words is used. Both tables are filled once when a module is loaded. All ways give
 * the same number, which a test keeps true.
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

/* [m] is x^(64 m - 33) modulo the polynomial, for 0 < m <= 2 lanes. */
static uint32_t rapport_crc_powers[2 * RAPPORT_LANE_MOST + 1];
static int rapport_crc_lanes; /* whether the processor can do it */

__attribute__((target("sse4.2"))) static void rapport_crc_fill_powers(void)
{
    uint64_t power = 1; /* x^31, reflected */
    for (int m = 1; m <= 2 * RAPPORT_LANE_MOST; m++) {
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

__attribute__((target("sse4.2,pclmul"))) static uint32_t rapport_crc32c_lanes(const uint8_t *bytes, size_t size)
{
    uint64_t crc = 0xFFFFFFFFu;
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
        __m128i first_moved = _mm_clmulepi64_si128(
            _mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int)rapport_crc_powers[2 * words]), 0);
        __m128i second_moved = _mm_clmulepi64_si128(
            _mm_cvtsi64_si128((int64_t)b), _mm_cvtsi32_si128((int)rapport_crc_powers[words]), 0);
        crc = c ^ _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(first_moved, second_moved)));
        bytes += 24 * words;
        size -= 24 * words;
    }
    return rapport_crc32c_tail(crc, bytes, size);
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
    }
#endif
}

static inline uint32_t rapport_crc32c(const uint8_t *bytes, size_t size)
{
#if defined(__x86_64__)
    if (rapport_crc_lanes)
        return rapport_crc32c_lanes(bytes, size);
    if (__builtin_cpu_supports("sse4.2"))
        return rapport_crc32c_tail(0xFFFFFFFFu, bytes, size);
#endif
    return rapport_crc32c_table(bytes, size);
}

#endif
