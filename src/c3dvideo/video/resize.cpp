// OpenCV's fixed-point bilinear on interleaved pixels of three bytes, for a window of the resized frame; see resize.py.

#include <cstdint>
#include <cstring>
#include <utility>
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

// pixel_bytes: 3 for the pixels of `w`, 4 for rows that were converted to pixels of four bytes.
Columns prepare(const Window& w, long padded, int32_t pixel_bytes) {
    Columns c{std::vector<int32_t>(padded), std::vector<__m128i>(padded), std::vector<__m128i>(padded)};
    const int32_t furthest = (w.last / 3 + 1) * pixel_bytes - 16;  // a load must not leave the row
    for (long x = 0; x < padded; ++x) {
        const bool real = x < w.columns;  // the columns that fill up the last group have no weight
        const int32_t left = real ? w.left[x] / 3 * pixel_bytes : 0, right = real ? w.right[x] / 3 * pixel_bytes : 0;
        const int32_t offset = real ? (left < furthest ? left : furthest) : 0;
        alignas(16) uint8_t shuffle[16];
        alignas(16) int16_t weight[8] = {};
        std::memset(shuffle, 0x80, 16);  // which makes a zero
        for (int channel = 0; real && channel < 3; ++channel) {
            shuffle[4 * channel] = static_cast<uint8_t>(left - offset + channel);
            shuffle[4 * channel + 2] = static_cast<uint8_t>(right - offset + channel);
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

// source_row: called with the number of a source row, returns where its pixels are.
template <typename SourceRow>
void resize_avx2(const Window& w, int32_t pixel_bytes, SourceRow source_row) {
    const long padded = (w.columns + GROUP - 1) / GROUP * GROUP;
    const Columns columns = prepare(w, padded, pixel_bytes);
    std::vector<int16_t> rows_across(2 * 4 * padded);
    const __m256i by_channel = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m256i join_lanes = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int32_t held[2] = {-1, -1};
    for (long y = 0; y < w.rows; ++y) {
        for (const int32_t source : {w.above[y], w.below[y]}) {
            if (held[source & 1] == source) continue;
            row_of_columns(source_row(source), columns, padded, rows_across.data() + (source & 1) * 4 * padded);
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

// A frame as most decoders deliver it: a plane of luma, two of chroma at half the width and height.
struct Yuv420 {
    const uint8_t* planes[3];
    long row_bytes[3];
    int16_t luma_offset, luma, v_to_red, u_to_blue, u_to_green, v_to_green;
    bool red_first;
};

// The arithmetic of FFmpeg's swscale on x86, to the last bit: 16-bit products of which the upper half is kept.
inline __m256i product(__m256i value, int16_t coefficient) {
    return _mm256_mulhi_epi16(value, _mm256_set1_epi16(coefficient));
}

// Sixteen pixels of four bytes (blue, green, red, 0; or red first) to `to`.
inline void convert_16(const uint8_t* luma, const uint8_t* u, const uint8_t* v, const Yuv420& f, uint8_t* to) {
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(luma)));
    const __m256i y = product(_mm256_sub_epi16(_mm256_slli_epi16(wide, 3), _mm256_set1_epi16(f.luma_offset)), f.luma);
    const auto chroma = [](const uint8_t* at) {  // every value twice, for two pixels that share it
        const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
        const __m256i twice = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(eight, eight));
        return _mm256_slli_epi16(_mm256_sub_epi16(twice, _mm256_set1_epi16(128)), 3);
    };
    const __m256i cu = chroma(u), cv = chroma(v);
    __m256i blue = _mm256_add_epi16(y, product(cu, f.u_to_blue));
    __m256i red = _mm256_add_epi16(y, product(cv, f.v_to_red));
    const __m256i green = _mm256_add_epi16(_mm256_add_epi16(y, product(cu, f.u_to_green)), product(cv, f.v_to_green));
    if (f.red_first) std::swap(blue, red);
    const __m256i zero = _mm256_setzero_si256();
    // Packing and unpacking work within the halves of a register: pixels 0-7 in the lower, 8-15 in the upper.
    const __m256i blue_green = _mm256_unpacklo_epi8(_mm256_packus_epi16(blue, zero), _mm256_packus_epi16(green, zero));
    const __m256i red_zero = _mm256_unpacklo_epi8(_mm256_packus_epi16(red, zero), zero);
    const __m256i low = _mm256_unpacklo_epi16(blue_green, red_zero), high = _mm256_unpackhi_epi16(blue_green, red_zero);
    __m256i* out = reinterpret_cast<__m256i*>(to);
    _mm256_storeu_si256(out, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

// Pixels `first` (a multiple of 16) to `end` of a row, into `to`, which has room for whole sixteens.
void convert_row(const Yuv420& f, int32_t row, long first, long end, uint8_t* to) {
    const uint8_t* y = f.planes[0] + row * f.row_bytes[0];
    const uint8_t* u = f.planes[1] + row / 2 * f.row_bytes[1];
    const uint8_t* v = f.planes[2] + row / 2 * f.row_bytes[2];
    long x = first;
    for (; x + 16 <= end; x += 16) convert_16(y + x, u + x / 2, v + x / 2, f, to + 4 * x);
    if (x == end) return;
    uint8_t rest[3][16] = {};  // no load may pass the end of a plane
    std::memcpy(rest[0], y + x, end - x);
    std::memcpy(rest[1], u + x / 2, (end - x + 1) / 2);
    std::memcpy(rest[2], v + x / 2, (end - x + 1) / 2);
    convert_16(rest[0], rest[1], rest[2], f, to + 4 * x);
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
    if (last + 3 >= 16)
        return resize_avx2(window, 3, [&](int32_t row) { return pixels + row * row_bytes; });
#endif
    resize_anywhere(window);
}

// The same from a frame in yuv420p, of which only the pixels that the window needs are converted.
// coefficients: of luma (offset, factor), V to red, U to blue, U to green, V to green. Returns 0 where that is not
// possible: on processors without AVX2, and for frames narrower than a load.
extern "C" int resize_yuv420(const uint8_t* y, const uint8_t* u, const uint8_t* v, long y_bytes, long u_bytes,
                             long v_bytes, const int16_t* coefficients, int red_first, int32_t last, long rows,
                             long columns, const int32_t* left, const int32_t* right, const int32_t* left_weight,
                             const int32_t* right_weight, const int32_t* above, const int32_t* below,
                             const int32_t* above_weight, const int32_t* below_weight, uint8_t* out,
                             long plane_bytes) {
#ifdef __AVX2__
    const long width = last / 3 + 1;
    if (width < 4) return 0;
    const Window window{nullptr,      0,     last,  rows,         columns,      left, right,      left_weight,
                        right_weight, above, below, above_weight, below_weight, out,  plane_bytes};
    const int16_t* c = coefficients;
    const Yuv420 frame{{y, u, v}, {y_bytes, u_bytes, v_bytes}, c[0], c[1], c[2], c[3], c[4], c[5], red_first != 0};
    std::vector<uint8_t> row_of_pixels((width + 31) / 16 * 64);
    // A column's load may begin up to 16 bytes, four pixels, before its neighbours, at the end of a row.
    const long first = (left[0] / 3 < 4 ? 0 : left[0] / 3 - 4) / 16 * 16;
    const long needed = right[columns - 1] / 3 + 4;
    const long end = needed < width ? needed : width;
    resize_avx2(window, 4, [&](int32_t row) -> const uint8_t* {
        convert_row(frame, row, first, end, row_of_pixels.data());
        return row_of_pixels.data();
    });
    return 1;
#else
    return 0;
#endif
}
