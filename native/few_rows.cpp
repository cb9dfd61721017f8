#include "few_rows.hpp"

#include <algorithm>

namespace longlens {
namespace {

constexpr int kPiecesPerThread = 6;
// A piece with fewer bytes of weights is not worth handing out.
constexpr size_t kLeastPieceBytes = 16 * 1024;

// Some rows of one product.
struct Piece {
  const FewProduct* product;
  int first_row, last_row;
};

void run_piece(const Unit& unit, const Piece& piece) {
  const FewProduct& product = *piece.product;
  const QuantisedRows& in = *product.in;
  const int type = static_cast<int>(product.weights.type);
  RowsJob job{product.weights, &in.activations, product.tokens, piece.first_row, piece.last_row, product.out,
              product.out_stride};
  if (!in.is_fine) {
    unit.rows[type](job);
    return;
  }
  static thread_local Scratch scratch;
  const size_t stride = static_cast<size_t>(piece.last_row - piece.first_row);
  float* both = reinterpret_cast<float*>(scratch.of(2 * static_cast<size_t>(in.tokens) * stride * sizeof(float)));
  job.tokens = {nullptr, 0, 2 * in.tokens};
  job.out = both - piece.first_row;
  job.out_stride = stride;
  unit.rows[type](job);
  for (size_t t = 0; t < static_cast<size_t>(in.tokens); ++t) {
    const float* rest = both + (t + static_cast<size_t>(in.tokens)) * stride;
    float* out = product.out + t * product.out_stride + piece.first_row;
    for (size_t r = 0; r < stride; ++r) out[r] = both[t * stride + r] + rest[r];
  }
}

}  // namespace

const QuantisedRows& FewRows::quantise(const Unit& unit, const float* x, size_t x_stride, int tokens, int width,
                                       bool is_fine) {
  const size_t whole = padded(width);
  const int rows = is_fine ? 2 * tokens : tokens;
  rows_.activations =
      place_activations(memory_.of(activation_bytes(rows, static_cast<int>(whole))), rows, static_cast<int>(whole));
  rows_.tokens = tokens;
  rows_.is_fine = is_fine;
  const Activations& out = rows_.activations;
  for (int t = 0; t < tokens; ++t) unit.quantise(x + static_cast<size_t>(t) * x_stride, width, t, out);
  if (!is_fine) return rows_;
  float* rest = reinterpret_cast<float*>(rest_.of(whole * sizeof(float)));
  for (int t = 0; t < tokens; ++t) {
    const float* row = x + static_cast<size_t>(t) * x_stride;
    const int8_t* q = out.q + static_cast<size_t>(t) * whole;
    const float* scale = out.scale + static_cast<size_t>(t) * whole / kGroup;
    for (int i = 0; i < width; ++i) rest[i] = row[i] - scale[i / kGroup] * static_cast<float>(q[i]);
    unit.quantise(rest, width, tokens + t, out);
  }
  return rows_;
}

void multiply_few(const Unit& unit, ThreadPool& pool, const std::vector<FewProduct>& products) {
  size_t total = 0;
  for (const FewProduct& product : products) {
    total += row_bytes(product.weights.type, product.weights.width) * static_cast<size_t>(product.weights.rows);
  }
  const size_t wanted = static_cast<size_t>(pool.num_threads() * kPiecesPerThread);
  const size_t piece_bytes = std::max(kLeastPieceBytes, total / wanted + 1);
  static thread_local std::vector<Piece> pieces;
  pieces.clear();
  for (const FewProduct& product : products) {
    const size_t bytes = row_bytes(product.weights.type, product.weights.width);
    // whole cache lines of the result, so that two threads do not write to the same one
    const int step = std::max(1, static_cast<int>(piece_bytes / bytes) / 16) * 16;
    for (int row = 0; row < product.weights.rows; row += step) {
      pieces.push_back({&product, row, std::min(product.weights.rows, row + step)});
    }
  }
  const std::vector<Piece>& list = pieces;
  pool.run(static_cast<int>(list.size()), [&](int i) { run_piece(unit, list[static_cast<size_t>(i)]); });
}

}  // namespace longlens
