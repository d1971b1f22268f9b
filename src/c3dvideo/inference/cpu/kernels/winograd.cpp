// Convolutions by 3-D Winograd, with bias, ReLU and 2x2x2 pooling: the compiled form of ../winograd.py.
//
// The same points in space, and F(4, 3) in time too where that saves products. Weights are read as PyTorch stores them and
// transformed on the way: kept transformed, they would take 590 MB and be no faster.

#include "vectors.h"

constexpr long DEPTH = 64;     // channels per partial sum; 512 in one sum would double the rounding errors
constexpr long PLACES = 36;    // positions in space; in time there are 3, 4 or 6, see TIME_WEIGHT
constexpr long LINE = 16;      // a cache line added per place: powers of two apart, places would evict each other
constexpr long WEIGHT_STEP = DEPTH * PANEL + LINE;
constexpr long CEIL = 2;

struct Convolution {
    long frames, height, width;                  // output of the convolution, before pooling
    long channels_in, channels_out;              // of the weights; activations may have further channels of zeros
    long x_clip, x_frame, x_row, x_column;       // strides of the input, whose origin is the corner of its border
    long y_clip, y_frame, y_row, y_column;       // strides of the output, whose origin is its first number
    long pool, relu;                             // pool: 0, 1 or CEIL (windows are cut at the edge)
    long times, block;                           // positions of a tile in time; tiles per block
    long tile_begin, tile_end, channel_begin, channel_end;

    long runs() const { return (channels_in + DEPTH - 1) / DEPTH; }
    long place_step() const { return block * DEPTH + LINE; }
    long product_step() const { return times * PLACES * PANEL + LINE; }
};

template <long TIMES> struct Tile {
    static constexpr long FRAMES = TIMES == 6 ? 4 : 2;
    long clip, frame, row, column;               // its first output, in frames and pixels

    INLINE Tile at(const Convolution &s, long index) {
        const long columns = (s.width + 3) / 4, rows = (s.height + 3) / 4, times = (s.frames + FRAMES - 1) / FRAMES;
        return {index / (columns * rows * times), index / (columns * rows) % times * FRAMES, index / columns % rows * 4,
                index % columns * 4};
    }
};

// One axis of the weight transform: 3 taps to 6 positions.
INLINE void weight_side(const vec *g, long step, vec *out, long out_step) {
    const vec g0 = g[0], g1 = g[step], g2 = g[2 * step];
    const vec even_near = (-2.0f / 3) * g0 - (1.0f / 3) * g2, odd_near = (ROOT / 3) * g1;
    const vec even_far = (1.0f / 6) * g0 + (1.0f / 3) * g2, odd_far = (ROOT / 6) * g1;
    out[0] = g0;
    out[out_step] = even_near - odd_near;
    out[2 * out_step] = even_near + odd_near;
    out[3 * out_step] = even_far + odd_far;
    out[4 * out_step] = even_far - odd_far;
    out[5 * out_step] = g2;
}

// The weight transform along time, one position per row, by the number of positions: F(4, 3), F(2, 3), and 3 for a clip of two
// frames between zeros. There y0 = w1 x0 + w2 x1 and y1 = w0 x0 + w1 x1, which have w1 (x0 + x1) in common: three products
// in place of four.
template <long TIMES> constexpr float TIME_WEIGHT[6][3] = {{1, 0, 0}, {-2.0f / 3, -ROOT / 3, -1.0f / 3},
    {-2.0f / 3, ROOT / 3, -1.0f / 3}, {1.0f / 6, ROOT / 6, 1.0f / 3}, {1.0f / 6, -ROOT / 6, 1.0f / 3}, {0, 0, 1}};
template <> constexpr float TIME_WEIGHT<4>[6][3] = {{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
template <> constexpr float TIME_WEIGHT<3>[6][3] = {{0, -1, 1}, {0, 1, 0}, {1, -1, 0}};

// Position (time, row, column) of `tile` goes to moved[((time * runs + run) * PLACES + place) * place_step], by runs of DEPTH
// channels. Both what is read next and where the result goes are prefetched: they lie outside the second-level cache, and the
// hardware does not foresee strides this large.
template <long TIMES> static void transform_input(const Convolution &s, const float *x, long tile, float *moved) {
    constexpr long READ = Tile<TIMES>::FRAMES + 2;
    const auto t = Tile<TIMES>::at(s, tile);
    const float *corner = x + t.clip * s.x_clip + t.frame * s.x_frame + t.row * s.x_row + t.column * s.x_column;
    const long step = s.place_step(), time_step = s.runs() * PLACES * step;
    for (long c = 0; c < s.channels_in; c += WIDTH) {
        // All three axes of one vector of channels before the next: what lies between, at most 16 KB, stays in the first cache.
        LOCAL by_time[TIMES * PLACES], by_row[PLACES], out[6];
        float *to = moved + c / DEPTH * PLACES * step + c % DEPTH;
        for (long row = 0; row < 6; row++)
            for (long column = 0; column < 6; column++) {
                const float *at = corner + row * s.x_row + column * s.x_column + c;
                vec d[READ], *all = by_time + row * 6 + column;
                for (long i = 0; i < READ; i++) {
                    d[i] = load(at + i * s.x_frame);
                    __builtin_prefetch(at + i * s.x_frame + WIDTH);
                }
                for (long time = 0; time < TIMES; time++)
                    __builtin_prefetch(to + time * time_step + (row * 6 + column) * step, 1);
                if constexpr (TIMES == 6) input_side(d, 1, all, PLACES);
                else if constexpr (TIMES == 3) {
                    all[0] = d[2];
                    all[PLACES] = d[1] + d[2];
                    all[2 * PLACES] = d[1];
                } else {
                    all[0] = d[0] - d[2];
                    all[PLACES] = d[1] + d[2];
                    all[2 * PLACES] = d[2] - d[1];
                    all[3 * PLACES] = d[1] - d[3];
                }
            }
        for (long time = 0; time < TIMES; time++) {
            for (long column = 0; column < 6; column++)
                input_side(by_time + time * PLACES + column, 6, by_row + column, 6);
            for (long row = 0; row < 6; row++) {
                input_side(by_row + 6 * row, 1, out, 1);
                for (long column = 0; column < 6; column++) store(to + time * time_step + (row * 6 + column) * step, out[column]);
            }
        }
    }
}

// The output transform, with pooling, bias and ReLU: from products[(time * PLACES + place) * PANEL] to the tile's outputs in y.
template <long TIMES>
static void transform_output(const Convolution &s, const float *products, const vec bias, long tile, float *y) {
    constexpr long FRAMES = Tile<TIMES>::FRAMES;
    const auto t = Tile<TIMES>::at(s, tile);
    const long frames = least(FRAMES, s.frames - t.frame), rows = least(4, s.height - t.row);
    const long columns = least(4, s.width - t.column), p = s.pool ? 2 : 1, up = s.pool == CEIL;
    // Outputs past the end of the clip or frame, in tiles that reach over it, are computed and not stored.
    const long n_frames = (frames + up) / p, n_rows = (rows + up) / p, n_columns = (columns + up) / p;
    y += t.clip * s.y_clip + t.frame / p * s.y_frame + t.row / p * s.y_row + t.column / p * s.y_column;
    LOCAL by_time[TIMES * 16], by_row[24], out[FRAMES * 16], m[PLACES];
    for (long f = 0; f < n_frames; f++)
        for (long row = 0; row < n_rows; row++)
            for (long column = 0; column < n_columns; column++)
                __builtin_prefetch(y + f * s.y_frame + row * s.y_row + column * s.y_column, 1);
    for (long time = 0; time < TIMES; time++) {
        for (long place = 0; place < PLACES; place++) m[place] = load(products + (time * PLACES + place) * PANEL);
        for (long column = 0; column < 6; column++) output_side(m + column, 6, by_row + column, 6);
        for (long row = 0; row < 4; row++) output_side(by_row + 6 * row, 1, by_time + time * 16 + 4 * row, 1);
    }
    for (long i = 0; i < 16; i++)
        if constexpr (TIMES == 6) output_side(by_time + i, 16, out + i, 16);
        else if constexpr (TIMES == 3) {
            out[i] = by_time[i] + by_time[16 + i];
            out[16 + i] = by_time[16 + i] + by_time[32 + i];
        } else {
            out[i] = by_time[i] + (by_time[16 + i] + by_time[32 + i]);
            out[16 + i] = (by_time[16 + i] - by_time[32 + i]) - by_time[48 + i];
        }
    for (long f = 0; f < n_frames; f++)
        for (long row = 0; row < n_rows; row++)
            for (long column = 0; column < n_columns; column++) {
                vec value = out[16 * p * f + 4 * p * row + p * column];
                // Before bias and ReLU, which keep the order of numbers and then touch an eighth of them. A window that is
                // cut at the edge reads its last frame, row or column twice, which leaves the maximum as it is.
                if (s.pool) {
                    const vec *one = out + 32 * f, *other = out + 16 * least(2 * f + 1, frames - 1);
                    const long top = 8 * row, bottom = 4 * least(2 * row + 1, rows - 1);
                    const long left = 2 * column, right = least(2 * column + 1, columns - 1);
                    value = larger(larger(value, one[top + right]), larger(one[bottom + left], one[bottom + right]));
                    value = larger(value, larger(larger(other[top + left], other[top + right]),
                                                 larger(other[bottom + left], other[bottom + right])));
                }
                value += bias;
                store(y + f * s.y_frame + row * s.y_row + column * s.y_column, s.relu ? positive(value) : value);
            }
}

// The first halves of two vectors interleaved, and the second halves.
#if defined(__AVX512F__)
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#endif
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int lanes __attribute__((vector_size(4 * WIDTH)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, lanes{__VA_ARGS__})
#endif

// Transpose `rows` as a square matrix. Each round interleaves its first half with its second; log2(WIDTH) rounds of shuffles
// replace WIDTH^2 single stores.
INLINE void transpose(vec *rows) {
    for (long round = 1; round < WIDTH; round *= 2) {
        LOCAL next[WIDTH];
        for (long i = 0; i < WIDTH / 2; i++) {
            const vec a = rows[i], b = rows[i + WIDTH / 2];
            next[2 * i] = SHUFFLE(a, b, LOW);
            next[2 * i + 1] = SHUFFLE(a, b, HIGH);
        }
        for (long i = 0; i < WIDTH; i++) rows[i] = next[i];
    }
}

// taps[(k * 27 + tap) * PANEL]: the weights (channels_out, channels_in, 27) of one panel of output channels and `depth` input
// channels from `from` on, output channels innermost. Output channels past the last are zeros.
static void gather_taps(const Convolution &s, const float *weights, long channel, long from, long depth, float *taps) {
    const long step = s.channels_in * 27, length = depth * 27, whole = length / WIDTH * WIDTH;
    for (long half = 0; half < PANEL; half += WIDTH) {
        const float *first = weights + (channel + half) * step + from * 27;
        const long left = s.channels_out - channel - half;
        for (long k = 0; k < whole; k += WIDTH) {
            LOCAL rows[WIDTH];
            for (long i = 0; i < WIDTH; i++) rows[i] = i < left ? load(first + i * step + k) : vec{};
            transpose(rows);
            for (long i = 0; i < WIDTH; i++) store(taps + (k + i) * PANEL + half, rows[i]);
        }
        for (long k = whole; k < length; k++)
            for (long i = 0; i < WIDTH; i++) taps[k * PANEL + half + i] = i < left ? first[i * step + k] : 0.0f;
    }
}

// The weight transform for one position in time: place (row, column) goes to moved[place * WEIGHT_STEP + k * PANEL].
static void transform_weights(const float *taps, const float *by_time, long depth, float *moved) {
    const float factor0 = by_time[0], factor1 = by_time[1], factor2 = by_time[2];
    for (long k = 0; k < depth; k++)
        for (long half = 0; half < PANEL; half += WIDTH) {
            LOCAL g[9], by_row[18], out[6];
            const float *at = taps + k * 27 * PANEL + half;
            for (long place = 0; place < 9; place++, at += PANEL)
                g[place] = factor0 * load(at) + factor1 * load(at + 9 * PANEL) + factor2 * load(at + 18 * PANEL);
            for (long column = 0; column < 3; column++) weight_side(g + column, 3, by_row + column, 3);
            for (long row = 0; row < 6; row++) {
                weight_side(by_row + 3 * row, 1, out, 1);
                for (long column = 0; column < 6; column++)
                    store(moved + (row * 6 + column) * WEIGHT_STEP + k * PANEL + half, out[column]);
            }
        }
}

// The innermost loop: y[row * y_step][0:PANEL] (+)= sum over k of x[row * DEPTH + k] * w[k * PANEL][0:PANEL], for `N` rows.
// Each number of x is broadcast to a vector, each of w is used for N rows, and the N x 2 sums never leave their registers.
template <long N>
INLINE void multiply_rows(const float *x, const float *w, long depth, float *y, long y_step, bool more) {
    vec sum[N][2] = {};
    // Asked for now, written after the sums: y has arrived by then.
#pragma GCC unroll 16
    for (long row = 0; row < N; row++) {
        __builtin_prefetch(y + row * y_step, 1);
        __builtin_prefetch(y + row * y_step + WIDTH, 1);
    }
    for (long k = 0; k < depth; k++) {
        const vec left = load(w + k * PANEL), right = load(w + k * PANEL + WIDTH);
        __builtin_prefetch(x + N * DEPTH + k * LINE);  // the next rows, one line per step, from outside the second-level cache
#pragma GCC unroll 16
        for (long row = 0; row < N; row++) {
            const float number = x[row * DEPTH + k];
            sum[row][0] += number * left;
            sum[row][1] += number * right;
        }
    }
#pragma GCC unroll 16
    for (long row = 0; row < N; row++)
#pragma GCC unroll 2
        for (long half = 0; half < 2; half++) {
            float *to = y + row * y_step + half * WIDTH;
            store(to, more ? load(to) + sum[row][half] : sum[row][half]);
        }
}

// N as a template argument keeps all sums in registers; this finds the template for a number known at run time.
template <long N>
static void multiply(long rows, const float *x, const float *w, long depth, float *y, long y_step, bool more) {
    if (rows == N) multiply_rows<N>(x, w, depth, y, y_step, more);
    else if constexpr (N > 1) multiply<N - 1>(rows, x, w, depth, y, y_step, more);
}

// The layer, one block of tiles at a time. First the whole block is transformed. Then, for each panel of output channels, the
// products of all positions are summed over the runs of input channels; they stay in the second-level cache until the output
// transform. The weights of a run are transformed for one position in time at a time, which keeps them in that cache too.
template <long TIMES>
static void convolve(const Convolution &s, const float *x, const float *weights, const float *bias, float *y, float *space) {
    float *moved = space, *taps = moved + TIMES * s.runs() * PLACES * s.place_step();
    float *moved_weights = taps + DEPTH * 27 * PANEL, *products = moved_weights + PLACES * WEIGHT_STEP;
    for (long begin = s.tile_begin; begin < s.tile_end; begin += s.block) {
        const long tiles = least(s.block, s.tile_end - begin), chunks = (tiles + ROWS - 1) / ROWS;
        for (long tile = 0; tile < tiles; tile++) transform_input<TIMES>(s, x, begin + tile, moved + tile * DEPTH);
        for (long c = s.channel_begin; c < s.channel_end; c += PANEL) {
            for (long run = 0; run < s.runs(); run++) {
                const long from = run * DEPTH, depth = least(DEPTH, s.channels_in - from);
                gather_taps(s, weights, c, from, depth, taps);
                for (long time = 0; time < TIMES; time++) {
                    transform_weights(taps, TIME_WEIGHT<TIMES>[time], depth, moved_weights);
                    for (long place = 0; place < PLACES; place++)
                        for (long chunk = 0; chunk < chunks; chunk++) {  // of equal size, so that none is too short
                            const long row = tiles * chunk / chunks, end = tiles * (chunk + 1) / chunks;
                            multiply<ROWS>(end - row,
                                           moved + ((time * s.runs() + run) * PLACES + place) * s.place_step() + row * DEPTH,
                                           moved_weights + place * WEIGHT_STEP, depth,
                                           products + row * s.product_step() + (time * PLACES + place) * PANEL,
                                           s.product_step(), run > 0);
                        }
                }
            }
            for (long tile = 0; tile < tiles; tile++)
                for (long half = 0; half < PANEL; half += WIDTH)
                    transform_output<TIMES>(s, products + tile * s.product_step() + half, load(bias + c + half), begin + tile,
                                             y + c + half);
        }
    }
}

extern "C" {

long panel(void) { return PANEL; }

// Size of the scratch memory that `winograd` needs, in numbers.
long scratch(const Convolution *s) {
    return s->times * s->runs() * PLACES * s->place_step() + DEPTH * 27 * PANEL + PLACES * WEIGHT_STEP +
           s->block * s->product_step();
}

// weights: (channels_out, channels_in, 27); bias: whole panels.
void winograd(const Convolution *s, const float *x, const float *weights, const float *bias, float *y, float *space) {
    if (s->times == 6) convolve<6>(*s, x, weights, bias, y, space);
    else if (s->times == 4) convolve<4>(*s, x, weights, bias, y, space);
    else convolve<3>(*s, x, weights, bias, y, space);
}

}
