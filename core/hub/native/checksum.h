/*
 * CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected; RFC 3720 appendix B.4) of a record's bytes.
 *
 * With SSE 4.2 the processor's own instruction is used (8 bytes in 3 cycles), chosen at run time so that one build
 * serves every processor; without it a table of 256 words, filled once when the module is loaded. Both give the
 * same number, which a test keeps true.
 */
#ifndef RAPPORT_CHECKSUM_H
#define RAPPORT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

static uint32_t rapport_crc_table[256];

__attribute__((constructor)) static void rapport_crc_fill(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
        rapport_crc_table[byte] = crc;
    }
}

static inline uint32_t rapport_crc32c_table(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++)
        crc = rapport_crc_table[(crc ^ bytes[i]) & 0xFF] ^ (crc >> 8);
    return crc ^ 0xFFFFFFFFu;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t rapport_crc32c_sse(const uint8_t *bytes, size_t size)
{
    uint64_t crc = 0xFFFFFFFFu;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    uint32_t rest = (uint32_t)crc;
    for (; i < size; i++)
        rest = _mm_crc32_u8(rest, bytes[i]);
    return rest ^ 0xFFFFFFFFu;
}
#endif

static inline uint32_t rapport_crc32c(const uint8_t *bytes, size_t size)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return rapport_crc32c_sse(bytes, size);
#endif
    return rapport_crc32c_table(bytes, size);
}

#endif
