#include "dequantise_matmul.hpp"

#include <algorithm>
#include <cstring>

#include "scratch.hpp"

namespace longlens {
namespace {

constexpr int kTileRows = 16;
// Numbers of a row that are expanded at a time: sixteen rows of them, 64 KiB, stay near the core.
constexpr int kStretch = 2048;

uint16_t bf16_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
}

void multiply_tile(const Expander& expander, const Grids& grids, const ExpandedMatmul& job, const uint16_t* x,
                   int first_row) {
  static thread_local Scratch scratch;
  const BlockSize& size = block_size(job.kind);
  const size_t bytes = static_cast<size_t>(job.width / size.weights) * size.bytes;
  uint16_t* tile = reinterpret_cast<uint16_t*>(scratch.of(kTileRows * kStretch * sizeof(uint16_t)));
  const int rows = std::min(kTileRows, job.rows - first_row);
  float* out = job.out + first_row;
  for (int t = 0; t < job.tokens; ++t) std::fill_n(out + t * job.out_stride, rows, 0.0f);
  for (int first = 0; first < job.width; first += kStretch) {
    const int count = std::min(kStretch, job.width - first);
    const size_t num_blocks = static_cast<size_t>(count / size.weights);
    for (int r = 0; r < rows; ++r) {
      const uint8_t* at = job.weights + (first_row + r) * bytes + static_cast<size_t>(first / size.weights) * size.bytes;
      expander.to_bf16[static_cast<int>(job.kind)]({job.kind, at, num_blocks}, grids, tile + r * kStretch);
    }
    expander.add_products({tile, kStretch, rows, x + first, static_cast<size_t>(job.width), job.tokens, count, out,
                           job.out_stride});
  }
}

}  // namespace

void multiply_expanded(const Expander& expander, const Grids& grids, ThreadPool& pool, const ExpandedMatmul& job) {
  static thread_local Scratch scratch;
  const size_t width = static_cast<size_t>(job.width);
  uint16_t* x = reinterpret_cast<uint16_t*>(scratch.of(static_cast<size_t>(job.tokens) * width * sizeof(uint16_t)));
  constexpr int kFew = 8;
  pool.run((job.tokens + kFew - 1) / kFew, [&](int piece) {
    for (int t = piece * kFew; t < std::min(job.tokens, (piece + 1) * kFew); ++t) {
      for (size_t i = 0; i < width; ++i) x[t * width + i] = bf16_of(job.x[t * job.x_stride + i]);
    }
  });
  pool.run((job.rows + kTileRows - 1) / kTileRows,
           [&](int tile) { multiply_tile(expander, grids, job, x, tile * kTileRows); });
}

}  // namespace longlens
