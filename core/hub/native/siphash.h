/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012), 64 bit, with a fixed key.
 *
 * Idempotency keys are texts of any length; contacts and events keep 64 bits of them. The number is stored, so key
 * and function never change. The key is public: it does not keep an attacker from making two keys meet, who
 * would only lose an event of his own.
 */
#ifndef RAPPORT_SIPHASH_H
#define RAPPORT_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RAPPORT_ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define RAPPORT_SIPROUND                                                                            \
    do {                                                                                            \
        v0 += v1; v1 = RAPPORT_ROTATE(v1, 13); v1 ^= v0; v0 = RAPPORT_ROTATE(v0, 32);               \
        v2 += v3; v3 = RAPPORT_ROTATE(v3, 16); v3 ^= v2;                                            \
        v0 += v3; v3 = RAPPORT_ROTATE(v3, 21); v3 ^= v0;                                            \
        v2 += v1; v1 = RAPPORT_ROTATE(v1, 17); v1 ^= v2; v2 = RAPPORT_ROTATE(v2, 32);               \
    } while (0)

static inline uint64_t rapport_siphash_keyed(const uint8_t *bytes, size_t size, uint64_t k0, uint64_t k1)
{
    uint64_t v0 = 0x736f6d6570736575ULL ^ k0, v1 = 0x646f72616e646f6dULL ^ k1;
    uint64_t v2 = 0x6c7967656e657261ULL ^ k0, v3 = 0x7465646279746573ULL ^ k1;
    uint64_t last = (uint64_t)size << 56, word;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, bytes + i, 8);
        v3 ^= word;
        RAPPORT_SIPROUND;
        RAPPORT_SIPROUND;
        v0 ^= word;
    }
    for (size_t shift = 0; i < size; i++, shift += 8)
        last |= (uint64_t)bytes[i] << shift;
    v3 ^= last;
    RAPPORT_SIPROUND;
    RAPPORT_SIPROUND;
    v0 ^= last;
    v2 ^= 0xff;
    RAPPORT_SIPROUND;
    RAPPORT_SIPROUND;
    RAPPORT_SIPROUND;
    RAPPORT_SIPROUND;
    return v0 ^ v1 ^ v2 ^ v3;
}

static inline uint64_t rapport_siphash(const uint8_t *bytes, size_t size)
{
    return rapport_siphash_keyed(bytes, size, 0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL);
}

#endif
