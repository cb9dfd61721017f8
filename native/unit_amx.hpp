// AMX: tiles of sixteen rows of weights against panels of up to 32 tokens, in tile registers; written once for the
// processor's tiles and for emulated ones.
//
// One product takes a group of 32 (or 16) numbers that share a scale: sixteen tokens by sixteen rows of int32 sums.
// They go to memory in the first-level cache and from there, scaled, to fp32 sums in vector registers, one register a
// token; see docs/decisions/0015. Rows of weights against a few tokens are those of AVX512.
#pragma once

#include <immintrin.h>

#include <utility>

#include "amx_tiles.hpp"
#include "unit.hpp"

namespace longlens {
namespace {

constexpr int kAmxPanelTokens = 32;
constexpr int kHalfTokens = 16;  // rows of a tile register
constexpr int kRowStep = 2;      // code is made for every second number of rows
// Groups after which the sums of one half of a panel give way to the other's: their weights stay in the first cache.
constexpr size_t kStretch = 16;

// A panel holds one or two halves of `rows` tokens each; the last rows may be without a token and zeros.
//   q[stretch][half][group of the stretch][row][32] int8 | the same order: scale[row] f32 | sum[row] f32
struct AmxPanel {
  size_t groups;
  int halves, rows;
  AmxPanel(size_t num_groups, int tokens)
      : groups(num_groups),
        halves(tokens > kHalfTokens ? 2 : 1),
        rows((tokens + halves * kRowStep - 1) / (halves * kRowStep) * kRowStep) {}

  // Place of a group in the order above, counted in groups of one half.
  size_t place(size_t group, int half) const {
    const size_t stretch = group / kStretch, start = stretch * kStretch;
    const size_t length = groups - start < kStretch ? groups - start : kStretch;
    return start * halves + length * half + (group - start);
  }
  size_t q_at(size_t group, int half) const { return place(group, half) * rows * 32; }
  size_t numbers_at(size_t group, int half) const {
    return groups * halves * rows * 32 + place(group, half) * rows * 2 * sizeof(float);
  }
};

void fill_amx_panel(const Activations& activations, const TokenChoice& tokens, Type, uint8_t* panel) {
  const size_t groups = static_cast<size_t>(activations.width) / kGroup;
  const AmxPanel layout(groups, tokens.count);
  for (int half = 0; half < layout.halves; ++half) {
    for (int r = 0; r < layout.rows; ++r) {
      const int token = half * layout.rows + r;
      const size_t row = token < tokens.count ? tokens[token] : 0;
      const int8_t* q = activations.q + row * activations.width;
      for (size_t g = 0; g < groups; ++g) {
        uint8_t* to = panel + layout.q_at(g, half) + r * 32;
        float* numbers = reinterpret_cast<float*>(panel + layout.numbers_at(g, half));
        if (token < tokens.count) {
          std::memcpy(to, q + g * kGroup, 32);
          numbers[r] = activations.scale[row * groups + g];
          numbers[layout.rows + r] = activations.sum[row * groups + g];
        } else {
          std::memset(to, 0, 32);
          numbers[r] = numbers[layout.rows + r] = 0.0f;
        }
      }
    }
  }
}

// The tile of AVX512 (q[8][16][4] | scale[16] f32 | minimum or second scale [16] f32), whose order of bytes is the one
// that tile registers take; where its numbers carry an offset, that is taken off, so that nothing is left to undo.
template <Type kType>
void pack_amx(const PackJob& job, uint8_t* tile) {
  avx512_unit().pack[static_cast<int>(kType)](job, tile);
  if (format_of(kType).has_minimum) return;
  const __m512i offset = _mm512_set1_epi8(static_cast<char>(format_of(kType).offset));
  for (int g = 8 * job.first_chunk; g < 8 * job.last_chunk; ++g, tile += kTileGroupBytes) {
    for (int k = 0; k < 8; ++k) {
      _mm512_store_si512(tile + 64 * k, _mm512_sub_epi8(_mm512_load_si512(tile + 64 * k), offset));
    }
  }
}

// One half of a panel against a tile, a stretch of groups at a time.
template <class Tiles, int kGroupWeights, bool kHasMinimum, int kRows>
class HalfPanel {
 public:
  HalfPanel(const TileJob& job, const AmxPanel& layout, Tiles& tiles) : job_(job), layout_(layout), tiles_(tiles) {}

  // Adds the groups from `first` on to sums[row], sixteen weights each.
  void add(size_t first, size_t count, int half, float (*sums)[16]) {
    __m512 sum[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sum[r] = _mm512_load_ps(sums[r]);
    const uint8_t* q = job_.panel + layout_.q_at(first, half);
    const float* numbers = reinterpret_cast<const float*>(job_.panel + layout_.numbers_at(first, half));
    const uint8_t* tile = job_.tile + first * kTileGroupBytes;
    // Sums are scaled two groups after their product, so that nobody waits for a tile on its way to memory.
    for (size_t g = 0; g < count; g += 4) {
      step<0>(q, tile, g);
      if (g > 0) scale(dots_[2], tile, numbers, g - 2, sum);
      step<1>(q, tile, g + 1);
      if (g > 0) scale(dots_[3], tile, numbers, g - 1, sum);
      step<2>(q, tile, g + 2);
      scale(dots_[0], tile, numbers, g, sum);
      step<3>(q, tile, g + 3);
      scale(dots_[1], tile, numbers, g + 1, sum);
    }
    scale(dots_[2], tile, numbers, count - 2, sum);
    scale(dots_[3], tile, numbers, count - 1, sum);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) _mm512_store_ps(sums[r], sum[r]);
  }

 private:
  static constexpr int kParts = kGroupWeights == 16 ? 2 : 1;
  using Dots = int32_t[kParts][16][16];

  template <int kSlot>
  void step(const uint8_t* q, const uint8_t* tile, size_t g) {
    const uint8_t *tokens = q + g * kRows * 32, *weights = tile + g * kTileGroupBytes;
    constexpr int kSums = kParts * (kSlot % 2), kOperand = kSlot % 2;
    tiles_.template zero<kSums>();
    tiles_.template load<4 + kOperand>(tokens, 32);
    tiles_.template load<6 + kOperand>(weights, 64);
    tiles_.template add_products<kSums, 4 + kOperand, 6 + kOperand>();
    tiles_.template store<kSums>(dots_[kSlot][0], 64);
    if constexpr (kParts == 2) {
      tiles_.template zero<kSums + 1>();
      tiles_.template load<5 - kOperand>(tokens + 16, 32);
      tiles_.template load<7 - kOperand>(weights + 256, 64);
      tiles_.template add_products<kSums + 1, 5 - kOperand, 7 - kOperand>();
      tiles_.template store<kSums + 1>(dots_[kSlot][1], 64);
    }
  }

  void scale(const Dots& dots, const uint8_t* tile, const float* numbers, size_t g, __m512 (&sum)[kRows]) const {
    const __m512 first = _mm512_load_ps(tile + g * kTileGroupBytes + 512);
    const __m512 second = _mm512_load_ps(tile + g * kTileGroupBytes + 576);
    const float* at = numbers + g * kRows * 2;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(dots[0][r])), first);
      if (kParts == 2) {
        product = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(dots[kParts - 1][r])), second, product);
      }
      sum[r] = _mm512_fmadd_ps(product, _mm512_set1_ps(at[r]), sum[r]);
      if (kHasMinimum) sum[r] = _mm512_fnmadd_ps(second, _mm512_set1_ps(at[kRows + r]), sum[r]);
    }
  }

  const TileJob& job_;
  const AmxPanel& layout_;
  Tiles& tiles_;
  alignas(64) Dots dots_[4];
};

template <class Tiles, int kGroupWeights, bool kHasMinimum, int kRows>
void multiply_rows_of(const TileJob& job, const AmxPanel& layout) {
  Tiles tiles({kRows, kGroupWeights});
  HalfPanel<Tiles, kGroupWeights, kHasMinimum, kRows> panel(job, layout, tiles);
  alignas(64) float sums[2 * kRows][16];
  std::memset(sums, 0, sizeof(sums));
  for (size_t first = 0; first < job.groups; first += kStretch) {
    const size_t count = job.groups - first < kStretch ? job.groups - first : kStretch;
    for (int half = 0; half < layout.halves; ++half) panel.add(first, count, half, sums + half * kRows);
  }
  const __mmask16 mask = static_cast<__mmask16>((1u << job.rows) - 1);
  for (int t = 0; t < job.tokens; ++t) {
    _mm512_mask_storeu_ps(job.out + t * job.out_stride, mask, _mm512_load_ps(sums[t]));
  }
}

template <class Tiles, int kGroupWeights, bool kHasMinimum, size_t... kIndices>
void multiply_amx_by(const TileJob& job, std::index_sequence<kIndices...>) {
  using Multiply = void (*)(const TileJob&, const AmxPanel&);
  static constexpr Multiply kByRows[] = {
      multiply_rows_of<Tiles, kGroupWeights, kHasMinimum, kRowStep * (static_cast<int>(kIndices) + 1)>...};
  const AmxPanel layout(job.groups, job.tokens);
  kByRows[layout.rows / kRowStep - 1](job, layout);
}

template <class Tiles, Type kType>
void multiply_amx(const TileJob& job) {
  constexpr const Format& format = format_of(kType);
  multiply_amx_by<Tiles, format.group, format.has_minimum>(job, std::make_index_sequence<kHalfTokens / kRowStep>());
}

template <class Tiles, size_t... kIndices>
Unit amx_unit_of(const char* name, std::index_sequence<kIndices...>) {
  Unit unit = avx512_unit();
  unit.name = name;
  unit.panel_tokens = kAmxPanelTokens;
  unit.fill_panel = fill_amx_panel;
  unit.has_cut_panels = false;
  ((unit.pack[kIndices] = pack_amx<static_cast<Type>(kIndices)>), ...);
  ((unit.multiply[kIndices] = multiply_amx<Tiles, static_cast<Type>(kIndices)>), ...);
  return unit;
}

template <class Tiles>
Unit amx_unit_of(const char* name) {
  return amx_unit_of<Tiles>(name, std::make_index_sequence<kNumTypes>());
}

}  // namespace
}  // namespace longlens
