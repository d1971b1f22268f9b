// OpenCV's fixed-point bilinear on interleaved pixels of three bytes, for a window of the resized frame; see resize.py.

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// The three channels of a pixel. The fourth byte is that of the next pixel, which a frame's last pixel does not have.
inline uint32_t pixel(const uint8_t* at, bool last) {
    uint32_t value;
    std::memcpy(&value, last ? at - 1 : at, 4);
    return last ? value >> 8 : value;
}

}  // namespace

// One row of the source, 15 bits a number, into `across`: three planes of `columns`.
// left, right: bytes from the start of the row. The weights of a column sum to 2048.
static void resize_row(const uint8_t* row, long columns, const int32_t* left, const int32_t* right,
                       const int32_t* left_weight, const int32_t* right_weight, int32_t last, uint32_t* pixels,
                       int32_t* across) {
    uint32_t* before = pixels;
    uint32_t* after = pixels + columns;
    for (long x = 0; x < columns; ++x) {
        before[x] = pixel(row + left[x], left[x] == last);
        after[x] = pixel(row + right[x], right[x] == last);
    }
    for (int channel = 0; channel < 3; ++channel) {
        const int shift = 8 * channel;
        int32_t* to = across + channel * columns;
        for (long x = 0; x < columns; ++x) {
            const int32_t one = (before[x] >> shift) & 255, other = (after[x] >> shift) & 255;
            to[x] = (one * left_weight[x] + other * right_weight[x]) >> 4;
        }
    }
}

// pixels: rows of `row_bytes`. above, below: for each resized row its two source rows, ascending.
// out: three planes, `plane_bytes` apart, of rows x columns. last: offset in a row of the last pixel.
extern "C" void resize(const uint8_t* pixels, long row_bytes, int32_t last, long rows, long columns,
                       const int32_t* left, const int32_t* right, const int32_t* left_weight,
                       const int32_t* right_weight, const int32_t* above, const int32_t* below,
                       const int32_t* above_weight, const int32_t* below_weight, uint8_t* out, long plane_bytes) {
    const long n = 3 * columns;
    std::vector<uint32_t> gathered(2 * columns);
    std::vector<int32_t> rows_across(2 * n);
    int32_t held[2] = {-1, -1};  // which source rows lie there; a row and the next never share a place
    for (long y = 0; y < rows; ++y) {
        for (const int32_t source : {above[y], below[y]}) {
            if (held[source & 1] == source) continue;
            resize_row(pixels + source * row_bytes, columns, left, right, left_weight, right_weight, last,
                       gathered.data(), rows_across.data() + (source & 1) * n);
            held[source & 1] = source;
        }
        const int32_t* upper = rows_across.data() + (above[y] & 1) * n;
        const int32_t* lower = rows_across.data() + (below[y] & 1) * n;
        const int32_t upper_weight = above_weight[y], lower_weight = below_weight[y];
        for (int channel = 0; channel < 3; ++channel) {
            uint8_t* to = out + channel * plane_bytes + y * columns;
            for (long x = 0; x < columns; ++x) {
                const long at = channel * columns + x;
                to[x] = ((upper[at] * upper_weight >> 16) + (lower[at] * lower_weight >> 16) + 2) >> 2;
            }
        }
    }
}
