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
};

void multiply(const Unit& unit, ThreadPool& pool, const Matmul& job);

}  // namespace longlens
