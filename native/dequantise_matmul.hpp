// out = x W^T for W of a type without an int8 kernel: a few rows at a time are expanded to bf16 in a thread's own memory
// and multiplied there with x in bf16, summed in fp32. W never lies whole in memory a second time.
#pragma once

#include "dequantise.hpp"
#include "thread_pool.hpp"

namespace longlens {

struct ExpandedMatmul {
  Kind kind;
  const uint8_t* weights;
  int rows, width;
  const float* x;
  size_t x_stride;
  int tokens;
  float* out;
  size_t out_stride;
};

void multiply_expanded(const Expander& expander, const Grids& grids, ThreadPool& pool, const ExpandedMatmul& job);

}  // namespace longlens
