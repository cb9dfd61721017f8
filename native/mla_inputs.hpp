// What latent attention begins with, for a few tokens: queries, the row that is cached, and the indexer's parts.
#pragma once

#include "few_rows.hpp"
#include "vector_loops.hpp"

namespace longlens {

// Cosines and sines, [tokens][half]; pairs are neighbours, or half a width apart.
struct Rotation {
  const float* cos;
  const float* sin;
  int half;
  bool is_interleaved;
};

struct MlaInputWeights {
  Weights q_a, q_b, kv_a;
  const float* q_a_norm;
  const float* kv_a_norm;
  float eps;
  int heads, nope, rope, rank;
  bool is_fine;  // the latent decides what is selected
};

struct MlaInputsOut {
  float* latent;  // [tokens][q_a.rows], after its norm
  float* query;   // [tokens][heads][nope + rope], rotated
  float* row;     // [tokens][rank + rope]: latent after its norm, key part rotated
};

void mla_inputs(const Unit& unit, const VectorLoops& loops, ThreadPool& pool, const MlaInputWeights& weights,
                const float* hidden, int tokens, const Rotation& rotation, const MlaInputsOut& out);

struct IndexInputWeights {
  Weights q_b, k;
  const float* k_norm;
  const float* k_bias;
  float eps;
  const float* head_weights;  // [heads][hidden]
  int heads, width, rope;
};

struct IndexInputsOut {
  float* query;         // [tokens][heads][width], rotated
  float* key;           // [tokens][width], rotated
  float* head_weights;  // [tokens][heads], times (heads * width) ^ -1/2
};

void index_inputs(const Unit& unit, const VectorLoops& loops, ThreadPool& pool, const IndexInputWeights& weights,
                  const float* hidden, const float* latent, int tokens, const Rotation& rotation,
                  const IndexInputsOut& out);

// Turns the pairs of one vector of 2 * half numbers in place.
void rotate(float* x, const float* cos, const float* sin, int half, bool is_interleaved);

}  // namespace longlens
