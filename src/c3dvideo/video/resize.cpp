// OpenCV's fixed-point bilinear on interleaved pixels of three bytes, for a window of the resized frame; see resize.py.

#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

// What `resize` is given, so that both loops below can share it.
struct Window {
    const uint8_t* pixels;
    long row_bytes;
    int32_t last;
    long rows, columns;
    const int32_t *left, *right, *left_weight, *right_weight, *above, *below, *above_weight, *below_weight;
    uint8_t* out;
    long plane_bytes;
};

// The three channels of a pixel. The fourth byte is that of the next pixel, which a frame's last pixel does not have.
inline uint32_t pixel(const uint8_t* at, bool last) {
    uint32_t value;
    std::memcpy(&value, last ? at - 1 : at, 4);
    return last ? value >> 8 : value;
}

// One row of the source, 15 bits a number, into `across`: three planes of `columns`.
// left, right: bytes from the start of the row. The weights of a column sum to 2048.
void resize_row(const uint8_t* row, const Window& w, uint32_t* pixels, int32_t* across) {
    uint32_t* before = pixels;
    uint32_t* after = pixels + w.columns;
    for (long x = 0; x < w.columns; ++x) {
        before[x] = pixel(row + w.left[x], w.left[x] == w.last);
        after[x] = pixel(row + w.right[x], w.right[x] == w.last);
    }
    for (int channel = 0; channel < 3; ++channel) {
        const int shift = 8 * channel;
        int32_t* to = across + channel * w.columns;
        for (long x = 0; x < w.columns; ++x) {
            const int32_t one = (before[x] >> shift) & 255, other = (after[x] >> shift) & 255;
            to[x] = (one * w.left_weight[x] + other * w.right_weight[x]) >> 4;
        }
    }
}

void resize_anywhere(const Window& w) {
    const long n = 3 * w.columns;
    std::vector<uint32_t> gathered(2 * w.columns);
    std::vector<int32_t> rows_across(2 * n);
    int32_t held[2] = {-1, -1};  // which source rows lie there; a row and the next never share a place
    for (long y = 0; y < w.rows; ++y) {
        for (const int32_t source : {w.above[y], w.below[y]}) {
            if (held[source & 1] == source) continue;
            resize_row(w.pixels + source * w.row_bytes, w, gathered.data(), rows_across.data() + (source & 1) * n);
            held[source & 1] = source;
        }
        const int32_t* upper = rows_across.data() + (w.above[y] & 1) * n;
        const int32_t* lower = rows_across.data() + (w.below[y] & 1) * n;
        const int32_t upper_weight = w.above_weight[y], lower_weight = w.below_weight[y];
        for (int channel = 0; channel < 3; ++channel) {
            uint8_t* to = w.out + channel * w.plane_bytes + y * w.columns;
            for (long x = 0; x < w.columns; ++x) {
                const long at = channel * w.columns + x;
                to[x] = ((upper[at] * upper_weight >> 16) + (lower[at] * lower_weight >> 16) + 2) >> 2;
            }
        }
    }
}

#ifdef __AVX2__

// The same sums, a column in half a register: one load brings both neighbours of a column, one shuffle puts the two
// values of each channel side by side, and one instruction multiplies and adds them. All sums fit: across a row they
// have 15 bits, so the 16-bit multiply that keeps the upper half is exact down the columns.
constexpr long GROUP = 8;  // columns whose results fill the 32 bytes that are split into planes at once

struct Columns {
    std::vector<int32_t> offset;   // where the 16 bytes that hold both neighbours begin
    std::vector<__m128i> shuffle;  // from those to left, right of each channel, as 16-bit numbers
    std::vector<__m128i> weight;   // their weights
};

Columns prepare(const Window& w, long padded) {
    Columns c{std::vector<int32_t>(padded), std::vector<__m128i>(padded), std::vector<__m128i>(padded)};
    const int32_t furthest = w.last + 3 - 16;  // a load must not leave the row
    for (long x = 0; x < padded; ++x) {
        const bool real = x < w.columns;  // the columns that fill up the last group have no weight
        const int32_t offset = real ? (w.left[x] < furthest ? w.left[x] : furthest) : 0;
        alignas(16) uint8_t shuffle[16];
        alignas(16) int16_t weight[8] = {};
        std::memset(shuffle, 0x80, 16);  // which makes a zero
        for (int channel = 0; real && channel < 3; ++channel) {
            shuffle[4 * channel] = static_cast<uint8_t>(w.left[x] - offset + channel);
            shuffle[4 * channel + 2] = static_cast<uint8_t>(w.right[x] - offset + channel);
            weight[2 * channel] = static_cast<int16_t>(w.left_weight[x]);
            weight[2 * channel + 1] = static_cast<int16_t>(w.right_weight[x]);
        }
        // Packing two registers swaps the middle two of four columns; stored so, they come out in order.
        const long place = (x & ~3L) + ((x & 1) << 1) + ((x & 2) >> 1);
        c.offset[place] = offset;
        c.shuffle[place] = _mm_load_si128(reinterpret_cast<const __m128i*>(shuffle));
        c.weight[place] = _mm_load_si128(reinterpret_cast<const __m128i*>(weight));
    }
    return c;
}

inline __m256i two_columns(const uint8_t* row, const Columns& c, long at) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + c.offset[at]));
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + c.offset[at + 1]));
    const __m256i shuffle = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&c.shuffle[at]));
    const __m256i weight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(&c.weight[at]));
    const __m256i pairs = _mm256_shuffle_epi8(_mm256_set_m128i(second, first), shuffle);
    return _mm256_srai_epi32(_mm256_madd_epi16(pairs, weight), 4);
}

// Into `across`: for every column its three channels and a zero.
void row_of_columns(const uint8_t* row, const Columns& c, long padded, int16_t* across) {
    for (long x = 0; x < padded; x += 4) {
        const __m256i packed = _mm256_packs_epi32(two_columns(row, c, x), two_columns(row, c, x + 2));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(across + 4 * x), packed);
    }
}

inline __m256i down(const int16_t* upper, const int16_t* lower, __m256i upper_weight, __m256i lower_weight) {
    const __m256i up = _mm256_mulhi_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(upper)), upper_weight);
    const __m256i low = _mm256_mulhi_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(lower)), lower_weight);
    return _mm256_srai_epi16(_mm256_add_epi16(_mm256_add_epi16(up, low), _mm256_set1_epi16(2)), 2);
}

void resize_avx2(const Window& w) {
    const long padded = (w.columns + GROUP - 1) / GROUP * GROUP;
    const Columns columns = prepare(w, padded);
    std::vector<int16_t> rows_across(2 * 4 * padded);
    const __m256i by_channel = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i join_lanes = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int32_t held[2] = {-1, -1};
    for (long y = 0; y < w.rows; ++y) {
        for (const int32_t source : {w.above[y], w.below[y]}) {
            if (held[source & 1] == source) continue;
            int16_t* across = rows_across.data() + (source & 1) * 4 * padded;
            row_of_columns(w.pixels + source * w.row_bytes, columns, padded, across);
            held[source & 1] = source;
        }
        const int16_t* upper = rows_across.data() + (w.above[y] & 1) * 4 * padded;
        const int16_t* lower = rows_across.data() + (w.below[y] & 1) * 4 * padded;
        const __m256i upper_weight = _mm256_set1_epi16(static_cast<int16_t>(w.above_weight[y]));
        const __m256i lower_weight = _mm256_set1_epi16(static_cast<int16_t>(w.below_weight[y]));
        for (long x = 0; x < padded; x += GROUP) {
            const __m256i first = down(upper + 4 * x, lower + 4 * x, upper_weight, lower_weight);
            const __m256i second = down(upper + 4 * x + 16, lower + 4 * x + 16, upper_weight, lower_weight);
            const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(first, second), 0xd8);
            const __m256i planes = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(bytes, by_channel), join_lanes);
            alignas(32) uint8_t eight[32];
            _mm256_store_si256(reinterpret_cast<__m256i*>(eight), planes);
            const long n = w.columns - x < GROUP ? w.columns - x : GROUP;
            for (int channel = 0; channel < 3; ++channel) {
                uint8_t* to = w.out + channel * w.plane_bytes + y * w.columns + x;
                if (n == GROUP) std::memcpy(to, eight + 8 * channel, GROUP);
                else std::memcpy(to, eight + 8 * channel, n);
            }
        }
    }
}

#endif

}  // namespace

// pixels: rows of `row_bytes`. left, right: bytes from the start of a row to both neighbours of each column.
// above, below: for each resized row its two source rows, ascending. last: offset in a row of the last pixel.
// out: three planes, `plane_bytes` apart, of rows x columns. The weights of a column, and of a row, sum to 2048.
extern "C" void resize(const uint8_t* pixels, long row_bytes, int32_t last, long rows, long columns,
                       const int32_t* left, const int32_t* right, const int32_t* left_weight,
                       const int32_t* right_weight, const int32_t* above, const int32_t* below,
                       const int32_t* above_weight, const int32_t* below_weight, uint8_t* out, long plane_bytes) {
    const Window window{pixels,       row_bytes, last,  rows,         columns,      left, right,      left_weight,
                        right_weight, above,     below, above_weight, below_weight, out,  plane_bytes};
#ifdef __AVX2__
    if (last + 3 >= 16) return resize_avx2(window);
#endif
    resize_anywhere(window);
}
