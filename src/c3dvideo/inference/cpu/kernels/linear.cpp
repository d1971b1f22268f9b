// Fully connected layers. Their time is that of reading the weights from memory (fc6: 134 MB).

#include "vectors.h"

// R outputs of N clips. R rows of weights are read side by side, as a single one does not keep the memory busy.
template <long N, long R>
INLINE void linear_rows(const float *x, const float *w, const float *bias, float *y, long depth, long outputs, long relu) {
    const long whole = depth / PANEL * PANEL;
    vec sum[R][N][2] = {};
    for (long k = 0; k < whole; k += PANEL)
#pragma GCC unroll 16
        for (long row = 0; row < R; row++) {
            const float *at = w + row * depth + k;
            const vec left = load(at), right = load(at + WIDTH);
            __builtin_prefetch(at + 512);  // 2 KB ahead
            __builtin_prefetch(at + 512 + WIDTH);
#pragma GCC unroll 4
            for (long clip = 0; clip < N; clip++) {
                sum[row][clip][0] += left * load(x + clip * depth + k);
                sum[row][clip][1] += right * load(x + clip * depth + k + WIDTH);
            }
        }
    for (long row = 0; row < R; row++)
        for (long clip = 0; clip < N; clip++) {
            const vec both = sum[row][clip][0] + sum[row][clip][1];
            float total = 0.0f;
            for (long lane = 0; lane < WIDTH; lane++) total += both[lane];
            for (long k = whole; k < depth; k++) total += w[row * depth + k] * x[clip * depth + k];
            total += bias[row];
            y[clip * outputs + row] = relu && total <= 0.0f ? 0.0f : total;
        }
}

extern "C" {

// y[n][o] = bias[o] + sum over k of x[n][k] * w[o][k] for outputs [begin, end). Each weight is read once for four clips.
void linear(const float *x, const float *w, const float *bias, float *y, long clips, long depth, long outputs, long relu,
            long begin, long end) {
    for (long o = begin; o < end;) {
        const long rows = end - o < OUTPUTS ? 1 : OUTPUTS;
        for (long n = 0; n < clips;) {
            const float *from = x + n * depth;
            if (rows == 1) linear_rows<1, 1>(from, w + o * depth, bias + o, y + n * outputs + o, depth, outputs, relu), n++;
            else if (clips - n < 4)
                linear_rows<1, OUTPUTS>(from, w + o * depth, bias + o, y + n * outputs + o, depth, outputs, relu), n++;
            else {
                for (long i = o; i < o + OUTPUTS; i += OUTPUTS / 4)
                    linear_rows<4, OUTPUTS / 4>(from, w + i * depth, bias + i, y + n * outputs + i, depth, outputs, relu);
                n += 4;
            }
        }
        o += rows;
    }
}

}
