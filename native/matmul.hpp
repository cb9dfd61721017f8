// out = x W^T for quantised W: activations become int8, rows or tiles of W are shared out to the threads.
#pragma once

#include "thread_pool.hpp"
#include "unit.hpp"

namespace longlens {

struct Matmul {
  Weights weights;
  const float* x;
  size_t x_stride;
  int tokens;
  float* out;
  size_t out_stride;
  // Activations keep 15 bits: what rounding to int8 leaves over is rounded to int8 too and multiplied beside it. For
  // products that decide which rows are chosen; twice the arithmetic, weights are read once.
  bool fine = false;
};

void multiply(const Unit& unit, ThreadPool& pool, const Matmul& job);

}  // namespace longlens
