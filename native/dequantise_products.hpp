// Rows of bf16 weights against rows of bf16 numbers, four by four, so that eight loads serve sixteen products of vectors.
// `add` says how a processor multiplies 32 pairs and adds them to sixteen sums.
#pragma once

#include <immintrin.h>

#include "dequantise.hpp"

namespace longlens {
namespace {

template <class Add, int kRows, int kTokens>
inline void add_products_of(const Products& job, int row, int token) {
  __m512 sums[kTokens][kRows];
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[t][r] = _mm512_setzero_ps();
  }
  const uint16_t* weights = job.weights + row * job.weights_stride;
  const uint16_t* x = job.x + token * job.x_stride;
  for (int i = 0; i < job.width; i += 32) {
    __m512i w[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) w[r] = _mm512_loadu_si512(weights + r * job.weights_stride + i);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const __m512i numbers = _mm512_loadu_si512(x + t * job.x_stride + i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[t][r] = Add::add(sums[t][r], w[r], numbers);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int r = 0; r < kRows; ++r) {
      job.out[(token + t) * job.out_stride + row + r] += _mm512_reduce_add_ps(sums[t][r]);
    }
  }
}

template <class Add, int kTokens>
inline void add_rows(const Products& job, int token) {
  int row = 0;
  for (; row + 4 <= job.rows; row += 4) add_products_of<Add, 4, kTokens>(job, row, token);
  for (; row < job.rows; ++row) add_products_of<Add, 1, kTokens>(job, row, token);
}

template <class Add>
void add_products(const Products& job) {
  int token = 0;
  for (; token + 4 <= job.tokens; token += 4) add_rows<Add, 4>(job, token);
  for (; token < job.tokens; ++token) add_rows<Add, 1>(job, token);
}

}  // namespace
}  // namespace longlens
