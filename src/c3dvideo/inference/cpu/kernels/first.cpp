// conv1a with ReLU and pool1 by F(4, 3) along rows: half the products of direct convolution. No tile spans several frames, so
// that overlapping clips can share single frames (see ../overlap.py).

#include "vectors.h"

struct First {
    long height, width, channels;                // output before pooling; channels: a multiple of PANEL
    long x_frame, x_row;                         // input (T, H', W', 3) with its border; origin: the corner
    long y_frame, y_row;                         // output (T, H / 2, W / 2, channels)
    long frame_begin, frame_end;

    long tiles() const { return (width + 3) / 4; }
    long place_step() const { return 3 * tiles(); }
    long row_step() const { return 6 * place_step(); }
    long frame_step() const { return (height + 2) * row_step(); }
};

// The input transform of all rows of `frames` frames: number (tile, channel) of position p goes to moved[p * place_step].
static void transform_rows(const First &s, const float *x, long frames, float *moved) {
    const long step = s.place_step();
    for (long frame = 0; frame < frames; frame++)
        for (long row = 0; row < s.height + 2; row++) {
            const float *d = x + frame * s.x_frame + row * s.x_row;
            float *out = moved + frame * s.frame_step() + row * s.row_step();
            // `input_side` with scalars: a vector would hold pixels of three channels, whose tiles start 12 numbers apart.
            for (long i = 0; i < step; i++, d += i % 3 ? 1 : 10) {
                const float even_near = d[12] - 2.0f * d[6], odd_near = (0.5f * ROOT) * (d[9] - 2.0f * d[3]);
                const float even_far = d[12] - 0.5f * d[6], odd_far = ROOT * (d[9] - 0.5f * d[3]);
                out[i] = d[12] - 2.5f * d[6] + d[0];
                out[i + step] = even_near + odd_near;
                out[i + 2 * step] = even_near - odd_near;
                out[i + 3 * step] = even_far + odd_far;
                out[i + 4 * step] = even_far - odd_far;
                out[i + 5 * step] = d[15] - 2.5f * d[9] + d[3];
            }
        }
}

// products[tile * PANEL][0:PANEL] = one position of `N` neighbouring tiles, summed over 3 frames, 3 rows and 3 channels.
template <long N> INLINE void first_products(const First &s, const float *x, const float *w, float *products) {
    vec sum[N][2] = {};
    for (long line = 0; line < 9; line++) {
        const float *from = x + line / 3 * s.frame_step() + line % 3 * s.row_step();
        for (long k = 0; k < 3; k++, w += PANEL) {
            const vec left = load(w), right = load(w + WIDTH);
#pragma GCC unroll 16
            for (long tile = 0; tile < N; tile++) {
                const float number = from[3 * tile + k];
                sum[tile][0] += number * left;
                sum[tile][1] += number * right;
            }
        }
    }
#pragma GCC unroll 16
    for (long tile = 0; tile < N; tile++) {
        store(products + tile * PANEL, sum[tile][0]);
        store(products + tile * PANEL + WIDTH, sum[tile][1]);
    }
}

// N as a template argument keeps all sums in registers; this finds the template for a number known at run time.
template <long N> static void first_chunk(long tiles, const First &s, const float *x, const float *w, float *products) {
    if (tiles == N) first_products<N>(s, x, w, products);
    else if constexpr (N > 1) first_chunk<N - 1>(tiles, s, x, w, products);
}

// Two rows of a tile to two pooled numbers, or one at the end of a row. products: [2 rows][6 positions][ROWS tiles][PANEL].
// The maximum comes before bias and ReLU, which keep the order of numbers.
INLINE void first_windows(const float *products, const vec bias, long windows, float *y, long y_column) {
    vec out[2][4];
    for (long row = 0; row < 2; row++) {
        vec m[6];
        for (long place = 0; place < 6; place++) m[place] = load(products + (row * 6 + place) * ROWS * PANEL);
        output_side(m, 1, out[row], 1);
    }
    for (long i = 0; i < windows; i++) {
        const vec top = larger(out[0][2 * i], out[0][2 * i + 1]), bottom = larger(out[1][2 * i], out[1][2 * i + 1]);
        store(y + i * y_column, positive(larger(top, bottom) + bias));
    }
}

extern "C" {

// Size of the scratch memory that `first` needs, in numbers.
long first_scratch(const First *s) { return (s->frame_end - s->frame_begin + 2) * s->frame_step(); }

// conv1a + ReLU + pool1 of frames [frame_begin, frame_end). weights: (channels / PANEL, 6 positions, 27 taps as T, H, C_in,
// PANEL). Two rows of a chunk of tiles are computed and pooled at a time, so that conv1a before pooling never leaves the cache.
void first(const First *shape, const float *x, const float *weights, const float *bias, float *y, float *space) {
    const First s = *shape;
    const long chunks = (s.tiles() + ROWS - 1) / ROWS;
    LOCAL products[2 * 6 * ROWS * 2];
    float *const sums = reinterpret_cast<float *>(products);
    transform_rows(s, x + s.frame_begin * s.x_frame, s.frame_end - s.frame_begin + 2, space);
    for (long frame = s.frame_begin; frame < s.frame_end; frame++)
        for (long c = 0; c < s.channels; c += PANEL)
            for (long row = 0; row < s.height / 2; row++)
                for (long chunk = 0; chunk < chunks; chunk++) {
                    const long tile = s.tiles() * chunk / chunks, end = s.tiles() * (chunk + 1) / chunks;
                    const float *from = space + (frame - s.frame_begin) * s.frame_step() + 2 * row * s.row_step() + 3 * tile;
                    for (long i = 0; i < 12; i++)
                        first_chunk<ROWS>(end - tile, s, from + i / 6 * s.row_step() + i % 6 * s.place_step(),
                                          weights + (6 * c + i % 6 * PANEL) * 27, sums + i * ROWS * PANEL);
                    float *to = y + frame * s.y_frame + row * s.y_row + 2 * tile * s.channels + c;
                    for (long i = tile; i < end; i++, to += 2 * s.channels)
                        for (long half = 0; half < PANEL; half += WIDTH)
                            first_windows(sums + (i - tile) * PANEL + half, load(bias + c + half),
                                          least(2, s.width / 2 - 2 * i), to + half, s.channels);
                }
}

}
