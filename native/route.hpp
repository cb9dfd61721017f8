// The router: sigmoid scores, the choice of experts with its correction bias, and their weights.
#pragma once

#include <cstdint>

#include "vector_loops.hpp"

namespace longlens {

struct Router {
  const float* weight;  // [experts][hidden]
  const float* bias;    // [experts], moves the choice only
  int experts, hidden, choices;
  bool is_normalised;
  float factor;
};

// ids and weights: [tokens][choices], best first; the lower expert wins a tie.
void route(const VectorLoops& loops, const Router& router, const float* x, int tokens, int64_t* ids, float* weights);

}  // namespace longlens
