/* The kernel's vector loops: dot products of scorecards and the logistic function.

   Each function is compiled for AVX-512, AVX2 and the baseline, and the loader picks one (GCC function multiversioning).
   The result is bit for bit the same on all: the order of every sum is fixed (eight lanes, then a fixed tree), nothing is
   contracted into fused multiply-adds (-ffp-contract=off), and the exponential is our own polynomial. */

#ifndef RAPPORT_VECTOR_H
#define RAPPORT_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define RAPPORT_CLONES __attribute__((target_clones("avx512f", "avx2", "default"), noinline))
#else
#define RAPPORT_CLONES __attribute__((noinline))
#endif

#define RAPPORT_LANES 8

/* totals[i] = intercepts[rows[i]] + dot(weights[rows[i]], features), width a multiple of eight. */
RAPPORT_CLONES static void rapport_linear(const double *weights, const double *intercepts, const uint32_t *rows,
                                          long count, const double *features, long width, double *totals) {
    for (long i = 0; i < count; i++) {
        const double *w = weights + (size_t)rows[i] * (size_t)width;
        double lane[RAPPORT_LANES] = {0.0};
        for (long j = 0; j < width; j += RAPPORT_LANES)
            for (int k = 0; k < RAPPORT_LANES; k++)
                lane[k] += w[j + k] * features[j + k];
        totals[i] = intercepts[rows[i]] + (((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7])));
    }
}

/* values[i] = 1 / (1 + exp(-values[i])).

   exp by Cody-Waite reduction (k = round(x / ln 2), r = x - k ln 2 in two parts) and a Taylor polynomial of degree 13 on
   |r| <= ln(2)/2, whose remainder is below 1e-17; within two units in the last place of the true value. */
RAPPORT_CLONES static void rapport_logistic(double *values, long count) {
    for (long i = 0; i < count; i++) {
        double x = -values[i];
        /* From 709.8 on exp is infinite and the answer 0; at 710 the power of two below still fits its field. */
        x = x > 710.0 ? 710.0 : x;
        x = x < -708.0 ? -708.0 : x;
        /* Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits of the sum. */
        double shifted = x * 1.4426950408889634074 + 6755399441055744.0;
        double k = shifted - 6755399441055744.0;
        int64_t bits;
        memcpy(&bits, &shifted, 8);
        double r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
        double p = 1.0 / 6227020800.0;
        p = p * r + 1.0 / 479001600.0;
        p = p * r + 1.0 / 39916800.0;
        p = p * r + 1.0 / 3628800.0;
        p = p * r + 1.0 / 362880.0;
        p = p * r + 1.0 / 40320.0;
        p = p * r + 1.0 / 5040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        /* The shifted sum's low bits are k; half the power is made and doubled, because 2^1024 has no field of its own. */
        int64_t power = (int64_t)((uint64_t)(bits + 1022) << 52);
        double scale;
        memcpy(&scale, &power, 8);
        double e = p * scale * 2.0;
        /* NaN stays NaN: the comparisons above let it through, and every later step keeps it. */
        values[i] = 1.0 / (1.0 + e);
    }
}

/* For 64 offers: bounds[i] = slope * (intercepts[i] + the sum over j of features[j] * weights[64 * j + i]) + logs[i], in
   single precision. Returns whether any bound is not below the bar; NaN counts as not below. */
RAPPORT_CLONES static int rapport_bounds(const int8_t *weights, const float *intercepts, const float *logs,
                                         const float *features, long count, float slope, float bar, float *bounds) {
    float sums[64];
    int reached = 0;
    for (int i = 0; i < 64; i++)
        sums[i] = intercepts[i];
    for (long j = 0; j < count; j++)
        for (int i = 0; i < 64; i++)
            sums[i] += (float)weights[64 * j + i] * features[j];
    for (int i = 0; i < 64; i++)
        bounds[i] = sums[i] * slope + logs[i];
    for (int i = 0; i < 64; i++)
        reached |= !(bounds[i] < bar);
    return reached;
}

/* alive &= mask, word by word. */
RAPPORT_CLONES static void rapport_and(uint64_t *alive, const uint64_t *mask, long words) {
    for (long i = 0; i < words; i++)
        alive[i] &= mask[i];
}

/* How many bits are set. */
RAPPORT_CLONES static long rapport_population(const uint64_t *bits, long words) {
    long count = 0;
    for (long i = 0; i < words; i++)
        count += __builtin_popcountll(bits[i]);
    return count;
}

/* alive &= ~mask. */
static inline void rapport_clear(uint64_t *alive, const uint64_t *mask, long words) {
    for (long i = 0; i < words; i++)
        alive[i] &= ~mask[i];
}

#endif
