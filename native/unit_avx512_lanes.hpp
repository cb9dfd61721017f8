// AVX512: 256 weights unpacked to bytes in lane order, in which every 32-bit lane of four registers belongs to one group.
//
// Four vpdpbusd then leave one register of integer sums, and one conversion and one product with the scales are enough
// for 256 weights. With groups of 32, lanes 2g and 2g + 1 belong to group g, and register j holds its bytes 8j .. 8j + 7.
// With groups of 16 (Q6_K) lane p belongs to group `lane_group(p)`, and register j holds its bytes 4j .. 4j + 3.
#pragma once

#include <immintrin.h>

#include "unit_avx512_decode.hpp"

namespace longlens {
namespace {

// In lane order. `scale` is for each lane.
struct Lanes {
  __m512i w[4];
  __m512 scale;
};

constexpr int lane_group(int lane) { return lane / 4 + lane % 2 * 8 + lane / 2 % 2 * 4; }

// Q4_K leaves the high nibbles of odd groups where they are: their weights count sixteenfold, which the scales of the
// activations undo.
constexpr float lane_factor(Type type, int group) { return type == Type::Q4_K && group % 2 == 1 ? 0.0625f : 1.0f; }

// Of four pairs of groups, 32 bytes each, the bytes 8j .. 8j + 7 of each pair, twice. Shuffles of two registers by a
// third would be fewer, but where this was measured (Zen 4) they keep vpdpbusd from its execution unit.
inline void twice_each(__m512i first, __m512i second, __m512i (&out)[4]) {
  const __m512i begin = _mm512_shuffle_i64x2(first, second, 0x88), end = _mm512_shuffle_i64x2(first, second, 0xdd);
  out[0] = _mm512_unpacklo_epi64(begin, begin);
  out[1] = _mm512_unpackhi_epi64(begin, begin);
  out[2] = _mm512_unpacklo_epi64(end, end);
  out[3] = _mm512_unpackhi_epi64(end, end);
}

// 0x0f0f.. in even groups, `odd` in the others.
inline __m512i nibble_mask(int odd) {
  return _mm512_mask_set1_epi8(_mm512_set1_epi8(15), 0xff00ff00ff00ff00u, static_cast<char>(odd));
}

// Scales (a lane pair a group) and minimums of Q4_K and Q5_K.
inline __m512 k_lanes(const uint8_t* p, float* minimum) {
  const __m128i header = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i packed = k_bytes(header);
  const __m128 both = _mm_cvtph_ps(header);
  const __m256 minimums = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(packed, packed)));
  _mm256_storeu_ps(minimum, _mm256_mul_ps(minimums, _mm256_broadcastss_ps(_mm_movehdup_ps(both))));
  const __m512i scales = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(packed, packed));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(scales), _mm512_broadcastss_ps(both));
}

// The halves at the beginning of eight blocks, each in a lane pair.
inline __m512 paired_halves(const uint8_t* p, size_t stride) {
  const __m128i halves = packed_halves(p, stride);
  const __m256i both = _mm256_set_m128i(_mm_unpackhi_epi16(halves, halves), _mm_unpacklo_epi16(halves, halves));
  return _mm512_cvtph_ps(both);
}

// Runs of 16 bytes, `stride` apart: those of even groups in `even`, of odd ones in `odd`.
inline void gather_runs(const uint8_t* p, size_t stride, __m512i& even, __m512i& odd) {
  auto run = [&](size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
  even = _mm512_castsi128_si512(run(0));
  odd = _mm512_castsi128_si512(run(1));
  even = _mm512_inserti32x4(even, run(2), 1);
  odd = _mm512_inserti32x4(odd, run(3), 1);
  even = _mm512_inserti32x4(even, run(4), 2);
  odd = _mm512_inserti32x4(odd, run(5), 2);
  even = _mm512_inserti32x4(even, run(6), 3);
  odd = _mm512_inserti32x4(odd, run(7), 3);
}

// The first and the second eight bytes of each group's sixteen, both nibbles of each.
inline void set_nibbles(__m512i first, __m512i second, Lanes& out) {
  const __m512i mask = _mm512_set1_epi8(15);
  out.w[0] = _mm512_and_si512(first, mask);
  out.w[1] = _mm512_and_si512(second, mask);
  out.w[2] = _mm512_and_si512(_mm512_srli_epi16(first, 4), mask);
  out.w[3] = _mm512_and_si512(_mm512_srli_epi16(second, 4), mask);
}

inline void gather_nibbles(const uint8_t* p, size_t stride, Lanes& out) {
  __m512i even, odd;
  gather_runs(p, stride, even, odd);
  set_nibbles(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd), out);
}

// Minimums go to `minimum[8]` where the type has them.
template <Type kType>
inline void decode_lanes(const uint8_t* p, Lanes& out, float* minimum);

template <>
inline void decode_lanes<Type::Q4_K>(const uint8_t* p, Lanes& out, float* minimum) {
  const __m512i first = _mm512_loadu_si512(p + 16), second = _mm512_loadu_si512(p + 80);
  const __m512i mask = nibble_mask(0xf0);
  twice_each(first, second, out.w);
  for (__m512i& w : out.w) w = _mm512_and_si512(w, mask);
  out.scale = k_lanes(p, minimum);
}

template <>
inline void decode_lanes<Type::Q5_K>(const uint8_t* p, Lanes& out, float* minimum) {
  const __m512i first = _mm512_loadu_si512(p + 48), second = _mm512_loadu_si512(p + 112);
  const __m512i mask = _mm512_set1_epi8(15), shift = _mm512_setr_epi64(0, 4, 0, 4, 0, 4, 0, 4);
  const __m512i from_bit = _mm512_setr_epi64(0, 1, 2, 3, 0, 1, 2, 3);
  twice_each(first, second, out.w);
  for (int j = 0; j < 4; ++j) {
    int64_t bits;
    std::memcpy(&bits, p + 16 + 8 * j, 8);
    __m512i fifth = _mm512_srlv_epi64(_mm512_set1_epi64(bits), from_bit);
    fifth = _mm512_mask_slli_epi64(fifth, 0x0f, fifth, 4);
    const __m512i joined = _mm512_ternarylogic_epi64(mask, _mm512_srlv_epi64(out.w[j], shift), fifth, 0xca);
    out.w[j] = _mm512_and_si512(joined, _mm512_set1_epi8(31));
  }
  out.scale = k_lanes(p, minimum);
}

template <>
inline void decode_lanes<Type::Q6_K>(const uint8_t* p, Lanes& out, float*) {
  const __m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 64), high = _mm512_loadu_si512(p + 128);
  const __m512i low2 = _mm512_unpacklo_epi32(a, b), high2 = _mm512_unpackhi_epi32(a, b);
  const __m512i twofold[4] = {
      _mm512_shuffle_epi32(low2, static_cast<_MM_PERM_ENUM>(0x44)),
      _mm512_shuffle_epi32(low2, static_cast<_MM_PERM_ENUM>(0xee)),
      _mm512_shuffle_epi32(high2, static_cast<_MM_PERM_ENUM>(0x44)),
      _mm512_shuffle_epi32(high2, static_cast<_MM_PERM_ENUM>(0xee)),
  };
  const __m512i shift = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0, 4, 4)), mask = _mm512_set1_epi8(15);
  const __m512i places = _mm512_setr_epi32(0, 8, 0, 8, 4, 12, 4, 12, 0, 8, 0, 8, 4, 12, 4, 12);
  const __m512i from_bit = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
  for (int j = 0; j < 4; ++j) {
    __m512i bits = _mm512_permutexvar_epi32(_mm512_add_epi32(places, _mm512_set1_epi32(j)), high);
    bits = _mm512_srlv_epi32(bits, from_bit);
    bits = _mm512_mask_slli_epi32(bits, 0x3333, bits, 4);
    const __m512i joined = _mm512_ternarylogic_epi32(mask, _mm512_srlv_epi32(twofold[j], shift), bits, 0xca);
    out.w[j] = _mm512_and_si512(joined, _mm512_set1_epi8(63));
  }
  const __m128i order = _mm_setr_epi8(0, 8, 4, 12, 1, 9, 5, 13, 2, 10, 6, 14, 3, 11, 7, 15);
  const __m128i scales = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 192)), order);
  uint16_t d;
  std::memcpy(&d, p + 208, 2);
  const __m512 factor = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(d)));
  out.scale = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)), factor);
}

template <>
inline void decode_lanes<Type::Q8_0>(const uint8_t* p, Lanes& out, float*) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int half = 0; half < 2; ++half) {
    __m512i even, odd;
    gather_runs(p + 2 + 16 * half, 34, even, odd);
    out.w[2 * half] = _mm512_xor_si512(_mm512_unpacklo_epi64(even, odd), flip);
    out.w[2 * half + 1] = _mm512_xor_si512(_mm512_unpackhi_epi64(even, odd), flip);
  }
  out.scale = paired_halves(p, 34);
}

template <>
inline void decode_lanes<Type::Q4_0>(const uint8_t* p, Lanes& out, float*) {
  gather_nibbles(p + 2, 18, out);
  out.scale = paired_halves(p, 18);
}

// Byte j of each group's four is the mask of the bytes that register j holds of it.
template <>
inline void decode_lanes<Type::Q5_0>(const uint8_t* p, Lanes& out, float*) {
  int32_t words[8];
  for (int g = 0; g < 8; ++g) std::memcpy(&words[g], p + 22 * g + 2, 4);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  const __m256i turn = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6,
                                        10, 14, 3, 7, 11, 15);
  uint64_t fifth[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(fifth),
                      _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(bits, turn),
                                                  _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  gather_nibbles(p + 6, 22, out);
  for (int j = 0; j < 4; ++j) {
    out.w[j] = _mm512_mask_add_epi8(out.w[j], fifth[j], out.w[j], _mm512_set1_epi8(16));
  }
  out.scale = paired_halves(p, 22);
}

template <>
inline void decode_lanes<Type::Q4_1>(const uint8_t* p, Lanes& out, float* minimum) {
  gather_nibbles(p + 4, 20, out);
  out.scale = paired_halves(p, 20);
  _mm256_storeu_ps(minimum, _mm256_sub_ps(_mm256_setzero_ps(), block_halves(p + 2, 20)));
}

template <>
inline void decode_lanes<Type::IQ4_NL>(const uint8_t* p, Lanes& out, float*) {
  gather_nibbles(p + 2, 18, out);
  for (__m512i& w : out.w) w = iq4_values(w);
  out.scale = paired_halves(p, 18);
}

template <>
inline void decode_lanes<Type::IQ4_XS>(const uint8_t* p, Lanes& out, float*) {
  const __m512i first = _mm512_loadu_si512(p + 8), second = _mm512_loadu_si512(p + 72);
  const __m512i even = _mm512_shuffle_i64x2(first, second, 0x88), odd = _mm512_shuffle_i64x2(first, second, 0xdd);
  set_nibbles(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd), out);
  for (__m512i& w : out.w) w = iq4_values(w);
  uint16_t d, high;
  uint32_t low;
  std::memcpy(&d, p, 2);
  std::memcpy(&high, p + 2, 2);
  std::memcpy(&low, p + 4, 4);
  const __m512i low_shift = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
  const __m512i high_shift = _mm512_setr_epi32(0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
  const __m512i lows = _mm512_and_si512(_mm512_srlv_epi32(_mm512_set1_epi32(static_cast<int>(low)), low_shift),
                                        _mm512_set1_epi32(15));
  const __m512i highs = _mm512_and_si512(_mm512_srlv_epi32(_mm512_set1_epi32(high), high_shift), _mm512_set1_epi32(3));
  const __m512i scale = _mm512_sub_epi32(_mm512_or_si512(lows, _mm512_slli_epi32(highs, 4)), _mm512_set1_epi32(32));
  const __m512 factor = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(d)));
  out.scale = _mm512_mul_ps(_mm512_cvtepi32_ps(scale), factor);
}

}  // namespace
}  // namespace longlens
