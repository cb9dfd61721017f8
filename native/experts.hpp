// A mixture of experts, the union of a step's experts each read once: gate, up, SwiGLU, down and the weighted sum.
#pragma once

#include "thread_pool.hpp"
#include "unit.hpp"

namespace longlens {

// One of an expert's three matrices; experts may lie anywhere.
struct ExpertMatrix {
  Type type;
  const uint64_t* addresses;  // [experts]
  int rows, width;
  Weights of(int expert) const {
    return {type, reinterpret_cast<const uint8_t*>(addresses[expert]), rows, width};
  }
};

struct ExpertsJob {
  ExpertMatrix gate, up, down;
  int experts;
  const float* x;  // [tokens][x_stride]
  size_t x_stride;
  int tokens;
  int choices;             // experts chosen per token
  const int64_t* ids;      // [tokens][choices], no expert twice in a row
  const float* weights;    // [tokens][choices]
  float* out;              // [tokens][out_stride]; sums go in ascending order of expert
  size_t out_stride;
};

void run_experts(const Unit& unit, ThreadPool& pool, const ExpertsJob& job);

}  // namespace longlens
