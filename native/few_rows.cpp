#include "few_rows.hpp"

#include <algorithm>

namespace longlens {
namespace {

constexpr int kPiecesPerThread = 6;
// A piece with fewer bytes of weights is not worth handing out.
constexpr size_t kLeastPieceBytes = 16 * 1024;

// Some rows of one product; `arranged` is memory for all its tokens in the unit's order.
struct Piece {
  const FewProduct* product;
  const uint8_t* arranged;
  int first_row, last_row;
};

// Tokens are taken eight at a time.
int blocks_of(const FewProduct& product) {
  const int tokens = product.in->is_fine ? product.in->tokens : product.tokens.count;
  return (tokens + kFewTokens - 1) / kFewTokens * (product.in->is_fine ? 2 : 1);
}

// Of fine rows first the blocks of rounded numbers, then those of what rounding left.
TokenChoice block_of(const FewProduct& product, int block) {
  const QuantisedRows& in = *product.in;
  if (!in.is_fine) {
    const int start = block * kFewTokens;
    return {product.tokens.list, product.tokens.first + start, std::min(kFewTokens, product.tokens.count - start)};
  }
  const int blocks = (in.tokens + kFewTokens - 1) / kFewTokens;
  const int start = block % blocks * kFewTokens;
  return {nullptr, block / blocks * in.tokens + start, std::min(kFewTokens, in.tokens - start)};
}

size_t block_bytes(const Unit& unit, const FewProduct& product) {
  if (unit.arrange == nullptr) return 0;
  return (unit.arranged_bytes(kFewTokens, product.weights.width) + 63) / 64 * 64;
}

void run_piece(const Unit& unit, const Piece& piece) {
  static thread_local Scratch scratch;
  const FewProduct& product = *piece.product;
  const size_t stride = static_cast<size_t>(piece.last_row - piece.first_row);
  float* rest = reinterpret_cast<float*>(scratch.of(kFewTokens * stride * sizeof(float)));
  const int blocks = blocks_of(product);
  for (int block = 0; block < blocks; ++block) {
    const TokenChoice tokens = block_of(product, block);
    const bool is_rest = product.in->is_fine && block >= blocks / 2;
    const size_t first = static_cast<size_t>(block % (product.in->is_fine ? blocks / 2 : blocks)) * kFewTokens;
    float* out = product.out + first * product.out_stride;
    RowsJob job{product.weights,
                &product.in->activations,
                tokens,
                piece.arranged + static_cast<size_t>(block) * block_bytes(unit, product),
                piece.first_row,
                piece.last_row,
                is_rest ? rest - piece.first_row : out,
                is_rest ? stride : product.out_stride};
    unit.rows[static_cast<int>(product.weights.type)](job);
    if (!is_rest) continue;
    for (size_t t = 0; t < static_cast<size_t>(tokens.count); ++t) {
      float* sum = out + t * product.out_stride + piece.first_row;
      for (size_t r = 0; r < stride; ++r) sum[r] += rest[t * stride + r];
    }
  }
}

// Every product's tokens in the unit's order; where each product's begin.
std::vector<const uint8_t*> arrange_all(const Unit& unit, const std::vector<FewProduct>& products, Scratch& memory) {
  std::vector<size_t> starts;
  size_t bytes = 64;
  for (const FewProduct& product : products) {
    starts.push_back(bytes);
    bytes += block_bytes(unit, product) * static_cast<size_t>(blocks_of(product));
  }
  uint8_t* at = memory.of(bytes);
  std::vector<const uint8_t*> arranged;
  for (size_t i = 0; i < products.size(); ++i) {
    const FewProduct& product = products[i];
    arranged.push_back(at + starts[i]);
    if (unit.arrange == nullptr) continue;
    for (int block = 0; block < blocks_of(product); ++block) {
      unit.arrange(product.in->activations, block_of(product, block), product.weights.type,
                   at + starts[i] + static_cast<size_t>(block) * block_bytes(unit, product));
    }
  }
  return arranged;
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
    subtract_rounded(x + static_cast<size_t>(t) * x_stride, width, t, out, rest);
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
  static thread_local Scratch arranged_memory;
  static thread_local std::vector<Piece> pieces;
  const std::vector<const uint8_t*> arranged = arrange_all(unit, products, arranged_memory);
  pieces.clear();
  for (size_t i = 0; i < products.size(); ++i) {
    const FewProduct& product = products[i];
    const size_t bytes = row_bytes(product.weights.type, product.weights.width);
    // whole cache lines of the result, so that two threads do not write to the same one
    const int step = std::max(1, static_cast<int>(piece_bytes / bytes) / 16) * 16;
    for (int row = 0; row < product.weights.rows; row += step) {
      pieces.push_back({&product, arranged[i], row, std::min(product.weights.rows, row + step)});
    }
  }
  const std::vector<Piece>& list = pieces;
  pool.run(static_cast<int>(list.size()), [&](int i) { run_piece(unit, list[static_cast<size_t>(i)]); });
}

}  // namespace longlens
