// Attention of a few tokens to cached rows: over all visible positions, or over those that were selected.
#pragma once

#include "few_rows.hpp"
#include "vector_loops.hpp"

namespace longlens {

// Cached rows of one layer, as one sequence sees them.
struct CachedRows {
  const uint8_t* pool;
  Element element;
  size_t row_bytes;
  const int64_t* slots;  // [positions]
};

// Which positions each token sees: those listed, or all up to its own.
struct Visible {
  const int32_t* positions;  // [tokens][choices], -1 where a row has fewer; null for all
  int choices;
  int64_t first_position;
};

// Latent attention in absorbed form. Per-head matrices lie one after the other: key [rank][nope], value [value][rank].
struct MlaAttention {
  Weights key, value;
  int heads, nope, rope, rank, value_width;
  float scale;
};

struct MlaAttendJob {
  const float* nope;  // queries, [tokens][heads][..]
  const float* rope;
  size_t token_stride, head_stride;  // of both
  int tokens;
  CachedRows rows;
  Visible visible;
  float* out;  // [tokens][heads][value]
};

void mla_attend(const Unit& unit, const VectorLoops& loops, ThreadPool& pool, const MlaAttention& attention,
                const MlaAttendJob& job);

// Grouped-query attention: heads [g * group, (g + 1) * group) share key and value g.
struct GqaAttendJob {
  const float* query;  // [tokens][heads][width]
  int tokens, heads, groups, width;
  float scale;
  CachedRows keys, values;
  Visible visible;
  float* out;  // [tokens][heads][width]
};

void gqa_attend(const VectorLoops& loops, ThreadPool& pool, const GqaAttendJob& job);

}  // namespace longlens
