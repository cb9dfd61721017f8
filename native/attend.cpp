#include "attend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longlens {
namespace {

// Positions of a piece of work; pieces do not depend on the number of threads, so neither does the result.
constexpr int kPiecePositions = 256;
constexpr int kBlockPositions = 64;  // at most vector_loops' kBlockRows

// One token's positions.
struct Positions {
  const int32_t* list;  // null: 0 .. count - 1
  int count;
  int64_t at(int i) const { return list ? list[i] : i; }
};

Positions positions_of(const Visible& visible, int token) {
  if (visible.positions == nullptr) return {nullptr, static_cast<int>(visible.first_position) + token + 1};
  const int32_t* list = visible.positions + static_cast<size_t>(token) * static_cast<size_t>(visible.choices);
  // padding stands behind the positions
  const int32_t* end = std::find(list, list + visible.choices, -1);
  return {list, static_cast<int>(end - list)};
}

// Heads that share their rows: `queries` [heads][key_width], already scaled; columns of a cached row from which keys
// and values are taken.
struct Group {
  const float* queries;
  int heads, key_width, value_width;
  int key_column, value_column;
};

struct Sums {
  static size_t floats(int heads, int value_width) { return static_cast<size_t>(heads) * (2 + value_width); }
  static HeadSums at(float* memory, int heads) { return {memory, memory + heads, memory + 2 * heads}; }
};

size_t element_bytes(Element element) { return element == Element::F32 ? 4 : 2; }

void attend_piece(const VectorLoops& loops, const Group& group, const CachedRows& keys, const CachedRows* values,
                  const Positions& positions, int first, int last, const HeadSums& sums) {
  static thread_local Scratch scratch;
  std::fill_n(sums.largest, group.heads, -std::numeric_limits<float>::infinity());
  std::fill_n(sums.total, group.heads, 0.0f);
  std::fill_n(sums.values, static_cast<size_t>(group.heads) * static_cast<size_t>(group.value_width), 0.0f);
  const size_t key_width = static_cast<size_t>(group.key_width);
  const size_t value_width = values ? static_cast<size_t>(group.value_width) : 0;
  float* key_block =
      reinterpret_cast<float*>(scratch.of((key_width + value_width) * kBlockPositions * sizeof(float)));
  float* value_block = key_block + key_width * kBlockPositions;
  for (int start = first; start < last; start += kBlockPositions) {
    const int count = std::min(kBlockPositions, last - start);
    for (int i = 0; i < count; ++i) {
      const size_t slot = static_cast<size_t>(keys.slots[positions.at(start + i)]);
      const size_t key_at = static_cast<size_t>(group.key_column) * element_bytes(keys.element);
      loops.widen(keys.pool + slot * keys.row_bytes + key_at, keys.element, group.key_width,
                  key_block + static_cast<size_t>(i) * key_width);
      if (values == nullptr) continue;
      const size_t value_slot = static_cast<size_t>(values->slots[positions.at(start + i)]);
      const size_t value_at = static_cast<size_t>(group.value_column) * element_bytes(values->element);
      loops.widen(values->pool + value_slot * values->row_bytes + value_at, values->element, group.value_width,
                  value_block + static_cast<size_t>(i) * value_width);
    }
    const RowBlock block{key_block, key_width, values ? value_block : key_block, values ? value_width : key_width,
                         count};
    loops.attend(group.queries, group.heads, group.key_width, group.value_width, block, sums);
  }
}

// The pieces' sums of one head, put together: out = weighted mean of the values.
void combine(const float* pieces, size_t piece_floats, int num_pieces, int heads, int head, int width, float* out) {
  float largest = -std::numeric_limits<float>::infinity();
  for (int p = 0; p < num_pieces; ++p) {
    const float own = pieces[static_cast<size_t>(p) * piece_floats + static_cast<size_t>(head)];
    if (!(own <= largest)) largest = own;
  }
  std::fill_n(out, width, 0.0f);
  float total = 0.0f;
  for (int p = 0; p < num_pieces; ++p) {
    const float* piece = pieces + static_cast<size_t>(p) * piece_floats;
    const float share = std::exp(piece[head] - largest);
    total += share * piece[heads + head];
    const float* values = piece + 2 * heads + static_cast<size_t>(head) * static_cast<size_t>(width);
    for (int i = 0; i < width; ++i) out[i] += share * values[i];
  }
  const float inverse = 1.0f / total;
  for (int i = 0; i < width; ++i) out[i] *= inverse;
}

// All tokens and groups: `group_of(token, g)` says what to attend with, `out` is [tokens][groups][heads][value].
template <class GroupOf>
void attend_all(const VectorLoops& loops, ThreadPool& pool, int tokens, int groups, const GroupOf& group_of,
                const CachedRows& keys, const CachedRows* values, const Visible& visible, float* out) {
  static thread_local Scratch scratch;
  const Group shape = group_of(0, 0);
  const size_t floats = Sums::floats(shape.heads, shape.value_width);
  int most = 1;
  for (int t = 0; t < tokens; ++t) {
    most = std::max(most, (positions_of(visible, t).count + kPiecePositions - 1) / kPiecePositions);
  }
  float* memory = reinterpret_cast<float*>(
      scratch.of(static_cast<size_t>(tokens * groups) * static_cast<size_t>(most) * floats * sizeof(float)));
  pool.run(tokens * groups * most, [&](int i) {
    const int token = i / (groups * most), group = i / most % groups, piece = i % most;
    const Positions positions = positions_of(visible, token);
    const int first = piece * kPiecePositions, last = std::min(positions.count, first + kPiecePositions);
    attend_piece(loops, group_of(token, group), keys, values, positions, first, last,
                 Sums::at(memory + static_cast<size_t>(i) * floats, shape.heads));
  });
  pool.run(tokens * groups, [&](int i) {
    const float* pieces = memory + static_cast<size_t>(i) * static_cast<size_t>(most) * floats;
    const size_t width = static_cast<size_t>(shape.value_width);
    for (int head = 0; head < shape.heads; ++head) {
      float* at = out + (static_cast<size_t>(i) * static_cast<size_t>(shape.heads) + static_cast<size_t>(head)) * width;
      combine(pieces, floats, most, shape.heads, head, shape.value_width, at);
    }
  });
}

// One matrix a head, each for that head's rows.
std::vector<FewProduct> per_head(const Weights& stack, int heads, const QuantisedRows& in, std::vector<int>& lists,
                                 int tokens, float* out, size_t head_stride) {
  lists.resize(static_cast<size_t>(heads * tokens));
  for (int i = 0; i < heads * tokens; ++i) lists[static_cast<size_t>(i)] = i % tokens * heads + i / tokens;
  const int rows = stack.rows / heads;
  const size_t bytes = row_bytes(stack.type, stack.width) * static_cast<size_t>(rows);
  std::vector<FewProduct> products;
  for (int head = 0; head < heads; ++head) {
    const size_t h = static_cast<size_t>(head);
    products.push_back({{stack.type, stack.data + h * bytes, rows, stack.width}, &in,
                        {lists.data(), head * tokens, tokens}, out + h * head_stride,
                        static_cast<size_t>(heads) * head_stride});
  }
  return products;
}

}  // namespace

void mla_attend(const Unit& unit, const VectorLoops& loops, ThreadPool& pool, const MlaAttention& attention,
                const MlaAttendJob& job) {
  static thread_local FewRows nope_rows, latent_rows;
  static thread_local Scratch query_memory, latent_memory, nope_memory;
  static thread_local std::vector<int> lists;
  const int heads = attention.heads, tokens = job.tokens;
  const size_t width = static_cast<size_t>(attention.rank + attention.rope), rank = static_cast<size_t>(attention.rank);
  const size_t nope = static_cast<size_t>(attention.nope), rope = static_cast<size_t>(attention.rope);
  const size_t vectors = static_cast<size_t>(tokens * heads);

  float* packed = reinterpret_cast<float*>(nope_memory.of(vectors * nope * sizeof(float)));
  float* queries = reinterpret_cast<float*>(query_memory.of(vectors * width * sizeof(float)));
  for (size_t v = 0; v < vectors; ++v) {
    const size_t at = v / static_cast<size_t>(heads) * job.token_stride + v % static_cast<size_t>(heads) * job.head_stride;
    std::copy_n(job.nope + at, nope, packed + v * nope);
    for (size_t i = 0; i < rope; ++i) queries[v * width + rank + i] = attention.scale * job.rope[at + i];
  }
  for (size_t i = 0; i < vectors * nope; ++i) packed[i] *= attention.scale;
  const QuantisedRows& in = nope_rows.quantise(unit, packed, nope, tokens * heads, attention.nope, false);
  multiply_few(unit, pool, per_head(attention.key, heads, in, lists, tokens, queries, width));

  float* latents = reinterpret_cast<float*>(latent_memory.of(vectors * rank * sizeof(float)));
  auto group_of = [&](int token, int) {
    return Group{queries + static_cast<size_t>(token * heads) * width, heads, static_cast<int>(width),
                 attention.rank, 0, 0};
  };
  attend_all(loops, pool, tokens, 1, group_of, job.rows, nullptr, job.visible, latents);
  const QuantisedRows& seen = latent_rows.quantise(unit, latents, rank, tokens * heads, attention.rank, false);
  multiply_few(unit, pool,
               per_head(attention.value, heads, seen, lists, tokens, job.out, static_cast<size_t>(attention.value_width)));
}

void gqa_attend(const VectorLoops& loops, ThreadPool& pool, const GqaAttendJob& job) {
  static thread_local Scratch query_memory;
  const size_t count = static_cast<size_t>(job.tokens * job.heads * job.width);
  float* queries = reinterpret_cast<float*>(query_memory.of(count * sizeof(float)));
  for (size_t i = 0; i < count; ++i) queries[i] = job.scale * job.query[i];
  const int group = job.heads / job.groups;
  auto group_of = [&](int token, int g) {
    const float* own = queries + static_cast<size_t>((token * job.heads + g * group) * job.width);
    return Group{own, group, job.width, job.width, g * job.width, g * job.width};
  };
  attend_all(loops, pool, job.tokens, job.groups, group_of, job.keys, &job.values, job.visible, job.out);
}

}  // namespace longlens
