// Common to all kernels: vectors, and the transforms along one axis of F(4, 3).
//
// The kernels compute the float32 layers of C3D on a CPU: winograd.cpp the convolutions, first.cpp conv1a with its pooling,
// linear.cpp the fully connected layers. They use the vector types of GCC and Clang and no library, so that one source serves
// AVX-512, AVX2 and NEON. Every function computes a range of a layer, and threads share a layer by ranges. A number is always
// summed in the same order, whatever the range, the batch and the number of threads.
//
// Activations are (N, T, H, W, C) with C a multiple of panel() and a border of zeros around T, H and W. Strides count numbers.

#pragma once

// WIDTH: numbers per vector. ROWS x 2 sums, or OUTPUTS x 2 sums, fill the registers, less those for operands: 28 of 32 with
// AVX-512, 12 of 16 with AVX2. More would be spilled to memory in the innermost loop.
#if defined(__AVX512F__)
constexpr long WIDTH = 16, ROWS = 14, OUTPUTS = 12;
#elif defined(__AVX__)
constexpr long WIDTH = 8, ROWS = 6, OUTPUTS = 4;
#elif defined(__aarch64__)
constexpr long WIDTH = 4, ROWS = 12, OUTPUTS = 12;
#else
constexpr long WIDTH = 4, ROWS = 6, OUTPUTS = 4;
#endif
constexpr long PANEL = 2 * WIDTH;
constexpr float ROOT = 1.41421356237309505f;

// aligned(4): activations begin at any number. On these processors, loads of aligned data cost the same either way.
typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
// Forced: as calls, these functions would pass arrays of vectors through memory.
#define INLINE static inline __attribute__((always_inline))
#define LOCAL alignas(64) vec  // an array on the stack, where a vec by itself would straddle cache lines

INLINE vec load(const float *from) { return *reinterpret_cast<const vec *>(from); }
INLINE void store(float *to, vec value) { *reinterpret_cast<vec *>(to) = value; }
INLINE vec larger(vec a, vec b) { return a != a ? a : (a > b ? a : b); }  // NaN if either is, as in PyTorch's pooling
INLINE vec positive(vec a) { return a <= 0.0f ? vec{} : a; }              // compared this way round, ReLU keeps NaN
INLINE long least(long a, long b) { return a < b ? a : b; }

// One axis of the input transform: 6 numbers to 6 positions, at the points 0, +-1/sqrt(2), +-sqrt(2), infinity. The two points
// of a pair differ in the sign of the odd part only, which is computed once for both.
INLINE void input_side(const vec *d, long step, vec *out, long out_step) {
    const vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    const vec even_near = d4 - 2.0f * d2, odd_near = (0.5f * ROOT) * (d3 - 2.0f * d1);
    const vec even_far = d4 - 0.5f * d2, odd_far = ROOT * (d3 - 0.5f * d1);
    out[0] = d4 - 2.5f * d2 + d0;
    out[out_step] = even_near + odd_near;
    out[2 * out_step] = even_near - odd_near;
    out[3 * out_step] = even_far + odd_far;
    out[4 * out_step] = even_far - odd_far;
    out[5 * out_step] = d5 - 2.5f * d3 + d1;
}

// One axis of the output transform: 6 positions to 4 numbers.
INLINE void output_side(const vec *m, long step, vec *out, long out_step) {
    const vec sum_near = m[step] + m[2 * step], difference_near = m[step] - m[2 * step];
    const vec sum_far = m[3 * step] + m[4 * step], difference_far = m[3 * step] - m[4 * step];
    out[0] = m[0] + sum_near + sum_far;
    out[out_step] = (0.5f * ROOT) * difference_near + ROOT * difference_far;
    out[2 * out_step] = 0.5f * sum_near + 2.0f * sum_far;
    out[3 * out_step] = (0.25f * ROOT) * difference_near + (2.0f * ROOT) * difference_far + m[5 * step];
}
