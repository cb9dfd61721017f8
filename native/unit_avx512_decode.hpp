// AVX512: 256 weights of every type, unpacked to bytes in their natural order.
//
// vpdpbusd multiplies unsigned by signed bytes, so weights are made unsigned: by their minimum (Q4_K, Q5_K, Q4_1) or by
// an offset, which integer sums begin with.
#pragma once

#include <immintrin.h>

#include "decode_plain.hpp"
#include "unit.hpp"

namespace longlens {
namespace {

// 256 weights: bytes in their natural order, and scales. With groups of 32, `numbers` is scale[8] | minimum[8]; with
// groups of 16 it is scale[16].
struct Chunk {
  __m512i w[4];
  __m512 numbers;
};

inline __m512i pair_of(const void* low, const void* high) {
  const __m256i first = _mm256_loadu_si256(static_cast<const __m256i*>(low));
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm256_loadu_si256(static_cast<const __m256i*>(high)), 1);
}

inline __m512i twice(const void* p) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}

// Low nibbles of 32 bytes in the lower half, their high nibbles in the upper half.
inline __m512i nibbles32(const void* p) {
  const __m512i both = twice(p);
  return _mm512_and_si512(_mm512_mask_srli_epi16(both, 0xffff0000u, both, 4), _mm512_set1_epi8(15));
}

// The same for two runs of 16 bytes, one after the other.
inline __m512i nibbles16(const void* first, const void* second) {
  const __m256i runs = _mm256_set_m128i(_mm_loadu_si128(static_cast<const __m128i*>(second)),
                                        _mm_loadu_si128(static_cast<const __m128i*>(first)));
  const __m512i wide = _mm512_castsi256_si512(runs);
  const __m512i both = _mm512_shuffle_i64x2(wide, wide, 0x50);
  return _mm512_and_si512(_mm512_mask_srli_epi16(both, 0xff00ff00u, both, 4), _mm512_set1_epi8(15));
}

// The 6-bit numbers of Q4_K and Q5_K as bytes, scale[8] | minimum[8], from d | dmin | 12 bytes of them. All in vector
// registers: moving words over from the integer side costs more than the arithmetic.
inline __m128i k_bytes(__m128i header) {
  const __m128i low_from = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m128i high_from = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
  const __m128i low_mask = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f);
  const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi8(header, low_from), _mm_setr_epi32(0, 0, 0, 4));
  const __m128i high = _mm_srli_epi32(_mm_shuffle_epi8(header, high_from), 2);
  return _mm_or_si128(_mm_and_si128(low, low_mask), _mm_and_si128(high, _mm_set1_epi8(0x30)));
}

// The same times d and dmin.
inline __m512 k_numbers(const uint8_t* p) {
  const __m128i header = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i packed = k_bytes(header);
  const __m128 both = _mm_cvtph_ps(header);
  const __m512i which = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512 factor = _mm512_permutexvar_ps(which, _mm512_castps128_ps512(both));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(packed)), factor);
}

// The halves at the beginning of eight blocks.
inline __m128i packed_halves(const uint8_t* p, size_t stride) {
  uint16_t h[8];
  for (size_t i = 0; i < 8; ++i) std::memcpy(&h[i], p + i * stride, 2);
  return _mm_set_epi16(static_cast<short>(h[7]), static_cast<short>(h[6]), static_cast<short>(h[5]),
                       static_cast<short>(h[4]), static_cast<short>(h[3]), static_cast<short>(h[2]),
                       static_cast<short>(h[1]), static_cast<short>(h[0]));
}

inline __m256 block_halves(const uint8_t* p, size_t stride) { return _mm256_cvtph_ps(packed_halves(p, stride)); }

inline __m512i iq4_values(__m512i nibbles) {
  const __m128i table = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, static_cast<char>(129), static_cast<char>(141),
                                      static_cast<char>(153), static_cast<char>(166), static_cast<char>(181),
                                      static_cast<char>(197), static_cast<char>(217), static_cast<char>(241));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles);
}

template <Type kType>
inline void decode(const uint8_t* p, Chunk& out);

template <>
inline void decode<Type::Q4_K>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 4; ++j) out.w[j] = nibbles32(p + 16 + 32 * j);
  out.numbers = k_numbers(p);
}

template <>
inline void decode<Type::Q5_K>(const uint8_t* p, Chunk& out) {
  const __m512i high = twice(p + 16);
  for (int j = 0; j < 4; ++j) {
    const __m512i bit = _mm512_inserti64x4(_mm512_set1_epi8(static_cast<char>(1 << (2 * j))),
                                           _mm256_set1_epi8(static_cast<char>(2 << (2 * j))), 1);
    const __m512i nibbles = nibbles32(p + 48 + 32 * j);
    out.w[j] = _mm512_mask_add_epi8(nibbles, _mm512_test_epi8_mask(high, bit), nibbles, _mm512_set1_epi8(16));
  }
  out.numbers = k_numbers(p);
}

template <>
inline void decode<Type::Q6_K>(const uint8_t* p, Chunk& out) {
  const __m512i low_mask = _mm512_set1_epi8(15), mask = _mm512_set1_epi8(63);
  const __m512i left = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
  const __m512i right = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(2), 1);
  for (int half = 0; half < 2; ++half) {
    const __m512i low = _mm512_loadu_si512(p + 64 * half);
    const __m512i high = twice(p + 128 + 32 * half);
    const __m512i first = _mm512_ternarylogic_epi32(low_mask, low, _mm512_sllv_epi16(high, left), 0xca);
    const __m512i second = _mm512_ternarylogic_epi32(low_mask, _mm512_srli_epi16(low, 4),
                                                     _mm512_srlv_epi16(high, right), 0xca);
    out.w[2 * half] = _mm512_and_si512(first, mask);
    out.w[2 * half + 1] = _mm512_and_si512(second, mask);
  }
  const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 192));
  uint16_t d;
  std::memcpy(&d, p + 208, 2);
  const __m512 factor = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(d)));
  out.numbers = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)), factor);
}

template <>
inline void decode<Type::Q8_0>(const uint8_t* p, Chunk& out) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int j = 0; j < 4; ++j) out.w[j] = _mm512_xor_si512(pair_of(p + 68 * j + 2, p + 68 * j + 36), flip);
  out.numbers = _mm512_castps256_ps512(block_halves(p, 34));
}

template <>
inline void decode<Type::Q4_0>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 4; ++j) out.w[j] = nibbles16(p + 36 * j + 2, p + 36 * j + 20);
  out.numbers = _mm512_castps256_ps512(block_halves(p, 18));
}

template <>
inline void decode<Type::Q5_0>(const uint8_t* p, Chunk& out) {
  out.numbers = _mm512_castps256_ps512(block_halves(p, 22));
  for (int j = 0; j < 4; ++j, p += 44) {
    uint32_t low, high;
    std::memcpy(&low, p + 2, 4);
    std::memcpy(&high, p + 24, 4);
    const __mmask64 fifth = static_cast<uint64_t>(high) << 32 | low;
    const __m512i nibbles = nibbles16(p + 6, p + 28);
    out.w[j] = _mm512_mask_add_epi8(nibbles, fifth, nibbles, _mm512_set1_epi8(16));
  }
}

template <>
inline void decode<Type::Q4_1>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 4; ++j) out.w[j] = nibbles16(p + 40 * j + 4, p + 40 * j + 24);
  const __m256 minimum = _mm256_sub_ps(_mm256_setzero_ps(), block_halves(p + 2, 20));
  out.numbers = _mm512_insertf32x8(_mm512_castps256_ps512(block_halves(p, 20)), minimum, 1);
}

template <>
inline void decode<Type::IQ4_NL>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 4; ++j) out.w[j] = iq4_values(nibbles16(p + 36 * j + 2, p + 36 * j + 20));
  out.numbers = _mm512_castps256_ps512(block_halves(p, 18));
}

template <>
inline void decode<Type::IQ4_XS>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 4; ++j) out.w[j] = iq4_values(nibbles16(p + 8 + 32 * j, p + 24 + 32 * j));
  uint16_t d, high;
  uint32_t low;
  std::memcpy(&d, p, 2);
  std::memcpy(&high, p + 2, 2);
  std::memcpy(&low, p + 4, 4);
  const __m256i low_shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  const __m256i high_shift = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
  const __m256i lows = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(low)), low_shift),
                                        _mm256_set1_epi32(15));
  const __m256i highs = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(high), high_shift), _mm256_set1_epi32(3));
  const __m256i scale = _mm256_sub_epi32(_mm256_or_si256(lows, _mm256_slli_epi32(highs, 4)), _mm256_set1_epi32(32));
  const __m256 factor = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(d)));
  out.numbers = _mm512_castps256_ps512(_mm256_mul_ps(_mm256_cvtepi32_ps(scale), factor));
}

}  // namespace
}  // namespace longlens
