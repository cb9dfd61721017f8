// AVX512: tiles of sixteen rows against panels of up to twelve tokens.
#pragma once

#include <immintrin.h>

#include "unit_avx512_decode.hpp"

namespace longlens {
namespace {

// Sixteen rows of sixteen 32-bit words, turned.
inline void transpose16(const __m512i (&in)[16], __m512i (&out)[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_epi32(in[2 * i], in[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(in[2 * i], in[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_shuffle_i32x4(b[i], b[4 + i], 0x88);
    a[4 + i] = _mm512_shuffle_i32x4(b[i], b[4 + i], 0xdd);
    a[8 + i] = _mm512_shuffle_i32x4(b[8 + i], b[12 + i], 0x88);
    a[12 + i] = _mm512_shuffle_i32x4(b[8 + i], b[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    out[i] = _mm512_shuffle_i32x4(a[i], a[8 + i], 0x88);
    out[8 + i] = _mm512_shuffle_i32x4(a[i], a[8 + i], 0xdd);
    out[4 + i] = _mm512_shuffle_i32x4(a[4 + i], a[12 + i], 0x88);
    out[12 + i] = _mm512_shuffle_i32x4(a[4 + i], a[12 + i], 0xdd);
  }
}

template <Type kType>
void pack(const PackJob& job, uint8_t* tile) {
  const Weights& weights = job.weights;
  const size_t bytes = row_bytes(kType, weights.width);
  const int whole = weights.width / kChunk;
  const int rows = weights.rows - job.first_row < kTileRows ? weights.rows - job.first_row : kTileRows;
  uint8_t spare[kMostChunkBytes];
  __m512i w[4][16], numbers[16], turned[16];
  for (int r = rows; r < kTileRows; ++r) {
    for (int j = 0; j < 4; ++j) w[j][r] = _mm512_setzero_si512();
    numbers[r] = _mm512_setzero_si512();
  }
  Chunk chunk;
  for (int c = job.first_chunk; c < job.last_chunk; ++c, tile += 8 * kTileGroupBytes) {
    for (int r = 0; r < rows; ++r) {
      const uint8_t* row = weights.data + static_cast<size_t>(job.first_row + r) * bytes;
      const uint8_t* at = c < whole ? row + static_cast<size_t>(c) * chunk_bytes(kType)
                                    : chunk_at(kType, row, weights.width, c, spare);
      for (size_t i = 0; i < chunk_bytes(kType); i += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(at) + 4 * chunk_bytes(kType) + i, _MM_HINT_T0);
      }
      decode<kType>(at, chunk);
      for (int j = 0; j < 4; ++j) w[j][r] = chunk.w[j];
      numbers[r] = _mm512_castps_si512(chunk.numbers);
    }
    for (int j = 0; j < 4; ++j) {
      transpose16(w[j], turned);
      for (int i = 0; i < 16; ++i) {
        _mm512_store_si512(tile + (2 * j + i / 8) * kTileGroupBytes + i % 8 * 64, turned[i]);
      }
    }
    transpose16(numbers, turned);
    for (int g = 0; g < 8; ++g) {
      uint8_t* at = tile + g * kTileGroupBytes + 512;
      const bool has_halves = format_of(kType).group == 16;
      _mm512_store_si512(at, turned[has_halves ? 2 * g : g]);
      _mm512_store_si512(at + 64, turned[has_halves ? 2 * g + 1 : 8 + g]);
    }
  }
}

// sums + w * the four bytes at p. In assembly because gcc (12) loads and spreads the bytes in an instruction of their own;
// with twice the instructions, fewer groups are under way at a time and a tile takes a tenth longer.
inline void add_products(__m512i& sums, __m512i w, const uint8_t* p) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(w), "m"(*reinterpret_cast<const int32_t*>(p)));
}

template <int kTokens>
inline void begin(const TileJob& job, __m512 (&sums)[kTokens]) {
  const __mmask16 mask = static_cast<__mmask16>(job.adds ? (1u << job.rows) - 1 : 0);
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_maskz_loadu_ps(mask, job.out + t * job.out_stride);
}

template <int kTokens>
inline void end(const TileJob& job, const __m512 (&sums)[kTokens]) {
  const __mmask16 mask = static_cast<__mmask16>((1u << job.rows) - 1);
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) _mm512_mask_storeu_ps(job.out + t * job.out_stride, mask, sums[t]);
}

// Groups of 32. The offset comes with the panel, so types differ here only in having minimums.
template <bool kHasMinimum, int kTokens>
void multiply_groups32(const TileJob& job) {
  __m512 sums[kTokens];
  begin(job, sums);
  const uint8_t* tile = job.tile;
  const uint8_t* panel = job.panel;
  for (size_t g = 0; g < job.groups; ++g, tile += kTileGroupBytes, panel += panel_group_bytes(kTokens)) {
    const float* numbers = reinterpret_cast<const float*>(panel + 32 * kTokens);
    const int32_t* start = reinterpret_cast<const int32_t*>(numbers + 2 * kTokens);
    __m512i dots[kTokens];
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) dots[t] = kHasMinimum ? _mm512_setzero_si512() : _mm512_set1_epi32(start[t]);
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      const __m512i w = _mm512_load_si512(tile + 64 * k);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        add_products(dots[t], w, panel + (k * kTokens + t) * 4);
      }
    }
    const __m512 scale = _mm512_load_ps(tile + 512);
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(numbers[t]));
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), factor, sums[t]);
    }
    if (kHasMinimum) {
      const __m512 minimum = _mm512_load_ps(tile + 512 + 64);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(numbers[kTokens + t]), sums[t]);
      }
    }
  }
  end(job, sums);
}

// One group of kTokens tokens from kFirst, of a panel of kPanel: two halves with a scale each, then the activations'.
template <int kPanel, int kFirst, int kTokens>
inline void add_halves(const uint8_t* tile, const uint8_t* panel, __m512* sums) {
  const float* numbers = reinterpret_cast<const float*>(panel + 32 * kPanel);
  const int32_t* start = reinterpret_cast<const int32_t*>(numbers + 2 * kPanel);
  __m512i first[kTokens], second[kTokens];
#pragma GCC unroll 6
  for (int t = 0; t < kTokens; ++t) {
    first[t] = _mm512_set1_epi32(start[kFirst + t]);
    second[t] = _mm512_set1_epi32(start[kPanel + kFirst + t]);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const __m512i w1 = _mm512_load_si512(tile + 64 * k), w2 = _mm512_load_si512(tile + 64 * (k + 4));
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
      add_products(first[t], w1, panel + (k * kPanel + kFirst + t) * 4);
      add_products(second[t], w2, panel + ((k + 4) * kPanel + kFirst + t) * 4);
    }
  }
  const __m512 scale1 = _mm512_load_ps(tile + 512), scale2 = _mm512_load_ps(tile + 512 + 64);
#pragma GCC unroll 6
  for (int t = 0; t < kTokens; ++t) {
    const __m512 half = _mm512_mul_ps(_mm512_cvtepi32_ps(first[t]), scale1);
    const __m512 whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(second[t]), scale2, half);
    sums[kFirst + t] = _mm512_fmadd_ps(whole, _mm512_set1_ps(numbers[kFirst + t]), sums[kFirst + t]);
  }
}

// Groups of 16, half of the tokens at a time: integer sums of both halves of a group must stay in registers.
template <int kTokens>
void multiply_groups16(const TileJob& job) {
  constexpr int kHalf = (kTokens + 1) / 2;
  __m512 sums[kTokens];
  begin(job, sums);
  const uint8_t* tile = job.tile;
  const uint8_t* panel = job.panel;
  for (size_t g = 0; g < job.groups; ++g, tile += kTileGroupBytes, panel += panel_group_bytes(kTokens)) {
    add_halves<kTokens, 0, kHalf>(tile, panel, sums);
    if constexpr (kTokens > kHalf) add_halves<kTokens, kHalf, kTokens - kHalf>(tile, panel, sums);
  }
  end(job, sums);
}

template <int kGroupWeights, bool kHasMinimum, int kTokens>
inline void multiply_by(const TileJob& job) {
  if constexpr (kGroupWeights == 16) {
    multiply_groups16<kTokens>(job);
  } else {
    multiply_groups32<kHasMinimum, kTokens>(job);
  }
}

template <int kGroupWeights, bool kHasMinimum>
void multiply(const TileJob& job) {
  switch (job.tokens) {
    case 1: return multiply_by<kGroupWeights, kHasMinimum, 1>(job);
    case 2: return multiply_by<kGroupWeights, kHasMinimum, 2>(job);
    case 3: return multiply_by<kGroupWeights, kHasMinimum, 3>(job);
    case 4: return multiply_by<kGroupWeights, kHasMinimum, 4>(job);
    case 5: return multiply_by<kGroupWeights, kHasMinimum, 5>(job);
    case 6: return multiply_by<kGroupWeights, kHasMinimum, 6>(job);
    case 7: return multiply_by<kGroupWeights, kHasMinimum, 7>(job);
    case 8: return multiply_by<kGroupWeights, kHasMinimum, 8>(job);
    case 9: return multiply_by<kGroupWeights, kHasMinimum, 9>(job);
    case 10: return multiply_by<kGroupWeights, kHasMinimum, 10>(job);
    case 11: return multiply_by<kGroupWeights, kHasMinimum, 11>(job);
    default: return multiply_by<kGroupWeights, kHasMinimum, 12>(job);
  }
}

}  // namespace
}  // namespace longlens
