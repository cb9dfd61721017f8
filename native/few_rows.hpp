// Products of a few tokens, as a decode step has them: activations are quantised once and several matrices share a call.
#pragma once

#include <vector>

#include "scratch.hpp"
#include "thread_pool.hpp"
#include "unit.hpp"

namespace longlens {

// Above, products go through tiles, and calls of their own.
constexpr int kFewTokens = 8;

// Quantised rows. Fine ones keep 15 bits: the rounding error is quantised again and follows as further tokens.
struct QuantisedRows {
  Activations activations;
  int tokens = 0;
  bool is_fine = false;
};

class FewRows {
 public:
  // x: [tokens][x_stride], of which `width` numbers count.
  const QuantisedRows& quantise(const Unit& unit, const float* x, size_t x_stride, int tokens, int width, bool is_fine);

 private:
  Scratch memory_, rest_;
  QuantisedRows rows_;
};

// out[t * out_stride + row] for all tokens of `in`, or for those of `tokens` where the rows are not fine.
struct FewProduct {
  Weights weights;
  const QuantisedRows* in;
  TokenChoice tokens;
  float* out;
  size_t out_stride;
};

// All products in one call of the pool.
void multiply_few(const Unit& unit, ThreadPool& pool, const std::vector<FewProduct>& products);

}  // namespace longlens
