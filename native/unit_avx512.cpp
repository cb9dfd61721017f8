// AVX512 with VNNI: one row of weights against a few tokens, and tiles of sixteen rows against panels of twelve.
//
// vpdpbusd multiplies unsigned by signed bytes, so weights are made unsigned: by their minimum (Q4_K, Q5_K, Q4_1) or by
// an offset, which the integer sums of a tile begin with and which rows subtract at their end.
#include <immintrin.h>

#include <cmath>
#include <initializer_list>

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

// scale[8] | minimum[8] of Q4_K and Q5_K, from d | dmin | 12 bytes of 6-bit numbers. All in vector registers: moving
// words over from the integer side costs more than the arithmetic.
inline __m512 k_numbers(const uint8_t* p) {
  const __m128i header = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i low_from = _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m128i high_from = _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11);
  const __m128i low_mask = _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f);
  const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi8(header, low_from), _mm_setr_epi32(0, 0, 0, 4));
  const __m128i high = _mm_srli_epi32(_mm_shuffle_epi8(header, high_from), 2);
  const __m128i packed = _mm_or_si128(_mm_and_si128(low, low_mask), _mm_and_si128(high, _mm_set1_epi8(0x30)));
  const __m128 both = _mm_cvtph_ps(header);
  const __m512i which = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512 factor = _mm512_permutexvar_ps(which, _mm512_castps128_ps512(both));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(packed)), factor);
}

// The halves at the beginning of eight blocks.
inline __m256 block_halves(const uint8_t* p, size_t stride) {
  uint16_t h[8];
  for (size_t i = 0; i < 8; ++i) std::memcpy(&h[i], p + i * stride, 2);
  const __m128i packed = _mm_set_epi16(static_cast<short>(h[7]), static_cast<short>(h[6]), static_cast<short>(h[5]),
                                       static_cast<short>(h[4]), static_cast<short>(h[3]), static_cast<short>(h[2]),
                                       static_cast<short>(h[1]), static_cast<short>(h[0]));
  return _mm256_cvtph_ps(packed);
}

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

// Q4_K and Q5_K keep two groups in the nibbles of the same bytes. In split order a register holds the first (a) or second
// (b) halves of four groups, 0a 2a 4a 6a | 0b 2b 4b 6b | 1a 3a 5a 7a | 1b 3b 5b 7b, so that two products fall into the
// same lanes and one conversion does for both.
template <Type kType>
inline void decode_split(const uint8_t* p, Chunk& out) {
  constexpr bool kIsQ5 = kType == Type::Q5_K;
  const uint8_t* bytes = p + (kIsQ5 ? 48 : 16);
  const __m512i first = _mm512_loadu_si512(bytes), second = _mm512_loadu_si512(bytes + 64);
  const __m512i a = _mm512_shuffle_i64x2(first, second, 0x88), b = _mm512_shuffle_i64x2(first, second, 0xdd);
  const __m512i mask = _mm512_set1_epi8(15);
  out.w[0] = _mm512_and_si512(a, mask);
  out.w[1] = _mm512_and_si512(b, mask);
  out.w[2] = _mm512_and_si512(_mm512_srli_epi16(a, 4), mask);
  out.w[3] = _mm512_and_si512(_mm512_srli_epi16(b, 4), mask);
  if (kIsQ5) {
    const __m512i fifth = _mm512_set1_epi8(16);
    const __m512i bits = _mm512_set_epi32(0x40404040, 0x40404040, 0x40404040, 0x40404040, 0x10101010, 0x10101010,
                                          0x10101010, 0x10101010, 0x04040404, 0x04040404, 0x04040404, 0x04040404,
                                          0x01010101, 0x01010101, 0x01010101, 0x01010101);
    const __m512i odd_bits = _mm512_add_epi8(bits, bits);
    for (int half = 0; half < 2; ++half) {
      const __m128i run = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 + 16 * half));
      const __m512i high = _mm512_broadcast_i32x4(run);
      out.w[half] = _mm512_mask_add_epi8(out.w[half], _mm512_test_epi8_mask(high, bits), out.w[half], fifth);
      out.w[2 + half] =
          _mm512_mask_add_epi8(out.w[2 + half], _mm512_test_epi8_mask(high, odd_bits), out.w[2 + half], fifth);
    }
  }
  out.numbers = k_numbers(p);
}

constexpr bool is_split(Type type) { return type == Type::Q4_K || type == Type::Q5_K; }

void fill_split(const int8_t* q, size_t width, int8_t* out) {
  for (size_t c = 0; c < width; c += kChunk) {
    for (size_t part = 0; part < 4; ++part) {
      for (size_t lane = 0; lane < 4; ++lane) {
        std::memcpy(out + c + part * 64 + lane * 16, q + c + (2 * lane + part / 2) * 32 + part % 2 * 16, 16);
      }
    }
  }
}

void quantise(const float* x, int width, int token, const Activations& out) {
  const size_t groups = static_cast<size_t>(out.width) / kGroup;
  int8_t* q = out.q + static_cast<size_t>(token) * out.width;
  const __m512 magnitude = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
  for (size_t g = 0; g < groups; ++g) {
    const size_t at = static_cast<size_t>(token) * groups + g;
    if (g * kGroup >= static_cast<size_t>(width)) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + g * kGroup), _mm256_setzero_si256());
      out.scale[at] = out.sum[at] = out.half_sum[2 * at] = out.half_sum[2 * at + 1] = 0.0f;
      continue;
    }
    const __m512 first = _mm512_loadu_ps(x + g * kGroup), second = _mm512_loadu_ps(x + g * kGroup + 16);
    const __m512 size1 = _mm512_and_ps(first, magnitude), size2 = _mm512_and_ps(second, magnitude);
    const __m512 infinite = _mm512_set1_ps(INFINITY);
    // not-less-than is true of NaN as well
    const bool is_finite = (_mm512_cmp_ps_mask(size1, infinite, _CMP_NLT_UQ) |
                            _mm512_cmp_ps_mask(size2, infinite, _CMP_NLT_UQ)) == 0;
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(size1, size2));
    float scale = largest / 127.0f, inverse = 127.0f / largest;
    if (!is_finite) {
      scale = NAN;
      inverse = 0.0f;
    } else if (largest < 1e-35f) {
      scale = inverse = 0.0f;
    }
    __m512i q1 = _mm512_setzero_si512(), q2 = q1;
    if (inverse != 0.0f) {
      q1 = _mm512_cvtps_epi32(_mm512_mul_ps(first, _mm512_set1_ps(inverse)));
      q2 = _mm512_cvtps_epi32(_mm512_mul_ps(second, _mm512_set1_ps(inverse)));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + g * kGroup), _mm512_cvtepi32_epi8(q1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + g * kGroup + 16), _mm512_cvtepi32_epi8(q2));
    const int half1 = _mm512_reduce_add_epi32(q1), half2 = _mm512_reduce_add_epi32(q2);
    out.scale[at] = scale;
    out.sum[at] = scale * static_cast<float>(half1 + half2);
    out.half_sum[2 * at] = scale * static_cast<float>(half1);
    out.half_sum[2 * at + 1] = scale * static_cast<float>(half2);
  }
  fill_split(q, static_cast<size_t>(out.width), out.split_q + static_cast<size_t>(token) * out.width);
}

// e^x to about one part in 10^7: 2^n * e^r with |r| <= ln(2) / 2, and a polynomial for e^r.
inline __m512 exponential(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 sum = _mm512_set1_ps(1.0f / 720);
  for (float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(factor));
  }
  return _mm512_scalef_ps(sum, n);
}

void swiglu(float* gate, const float* up, int count) {
  for (int i = 0; i < count; i += 16) {
    const __mmask16 mask = static_cast<__mmask16>(count - i < 16 ? (1u << (count - i)) - 1 : 0xffffu);
    const __m512 x = _mm512_maskz_loadu_ps(mask, gate + i);
    // below, e^-x would not be finite and the quotient still is zero
    const __m512 power = exponential(_mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_sub_ps(_mm512_setzero_ps(), x)));
    const __m512 silu = _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), power));
    _mm512_mask_storeu_ps(gate + i, mask, _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i)));
  }
}

// One token's share of a chunk: sums for the products and, apart, for what minimum or offset take away.
template <Type kType>
inline void add_chunk(const Chunk& chunk, const Activations& activations, size_t at, __m512 (&sums)[2],
                      __m512& taken) {
  constexpr bool kHalves = format_of(kType).group == 16;
  const int8_t* q = activations.q + at;
  __m512 scale;
  if (kHalves) {
    const __m512i twofold = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512 eight = _mm512_castps256_ps512(_mm256_loadu_ps(activations.scale + at / kGroup));
    scale = _mm512_mul_ps(chunk.numbers, _mm512_permutexvar_ps(twofold, eight));
    taken = _mm512_fmadd_ps(chunk.numbers, _mm512_loadu_ps(activations.half_sum + at / 16), taken);
  } else {
    const __m256 scales = _mm512_castps512_ps256(chunk.numbers);
    const __m256 minimum = format_of(kType).has_minimum ? _mm512_extractf32x8_ps(chunk.numbers, 1) : scales;
    scale = _mm512_castps256_ps512(_mm256_mul_ps(scales, _mm256_loadu_ps(activations.scale + at / kGroup)));
    const __m256 sum = _mm256_loadu_ps(activations.sum + at / kGroup);
    taken = _mm512_castps256_ps512(_mm256_fmadd_ps(minimum, sum, _mm512_castps512_ps256(taken)));
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i lanes =
        kHalves ? _mm512_add_epi32(_mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0),
                                   _mm512_set1_epi32(4 * j))
                : _mm512_add_epi32(_mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0),
                                   _mm512_set1_epi32(2 * j));
    const __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), chunk.w[j], _mm512_loadu_si512(q + 64 * j));
    sums[j % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(lanes, scale), sums[j % 2]);
  }
}

// The same for split order: two products a conversion.
inline void add_split_chunk(const Chunk& chunk, const Activations& activations, size_t at, __m512 (&sums)[2],
                            __m512& taken) {
  const int8_t* q = activations.split_q + at;
  const __m256 scales = _mm512_castps512_ps256(chunk.numbers), minimum = _mm512_extractf32x8_ps(chunk.numbers, 1);
  const __m512 scale =
      _mm512_castps256_ps512(_mm256_mul_ps(scales, _mm256_loadu_ps(activations.scale + at / kGroup)));
  const __m256 sum = _mm256_loadu_ps(activations.sum + at / kGroup);
  taken = _mm512_castps256_ps512(_mm256_fmadd_ps(minimum, sum, _mm512_castps512_ps256(taken)));
  const __m512i even = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
  for (int j = 0; j < 2; ++j) {
    __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), chunk.w[2 * j], _mm512_loadu_si512(q + 128 * j));
    dot = _mm512_dpbusd_epi32(dot, chunk.w[2 * j + 1], _mm512_loadu_si512(q + 128 * j + 64));
    const __m512i lanes = _mm512_add_epi32(even, _mm512_set1_epi32(j));
    sums[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_permutexvar_ps(lanes, scale), sums[j]);
  }
}

template <Type kType>
inline float finish(const __m512 (&sums)[2], __m512 taken) {
  constexpr const Format& format = format_of(kType);
  const float lost = format.group == 16 ? _mm512_reduce_add_ps(taken)
                                        : _mm512_reduce_add_ps(_mm512_zextps256_ps512(_mm512_castps512_ps256(taken)));
  const float factor = format.has_minimum ? 1.0f : static_cast<float>(format.offset);
  return _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1])) - factor * lost;
}

template <Type kType, int kTokens>
void rows_of(const RowsJob& job, int token) {
  const size_t bytes = row_bytes(kType, job.weights.width);
  const int chunks = static_cast<int>(padded(job.weights.width)) / kChunk;
  const int whole = job.weights.width / kChunk;
  const size_t width = static_cast<size_t>(job.activations->width);
  size_t first[kTokens];
  for (int t = 0; t < kTokens; ++t) first[t] = job.tokens[token + t] * width;
  uint8_t spare[kMostChunkBytes];
  for (int row = job.first_row; row < job.last_row; ++row) {
    const uint8_t* at = job.weights.data + row * bytes;
    __m512 sums[kTokens][2], taken[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t][0] = sums[t][1] = taken[t] = _mm512_setzero_ps();
    Chunk chunk;
    for (int c = 0; c < chunks; ++c) {
      const uint8_t* from =
          c < whole ? at + c * chunk_bytes(kType) : chunk_at(kType, at, job.weights.width, c, spare);
      if constexpr (is_split(kType)) {
        decode_split<kType>(from, chunk);
      } else {
        decode<kType>(from, chunk);
      }
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        const size_t place = first[t] + static_cast<size_t>(c) * kChunk;
        if constexpr (is_split(kType)) {
          add_split_chunk(chunk, *job.activations, place, sums[t], taken[t]);
        } else {
          add_chunk<kType>(chunk, *job.activations, place, sums[t], taken[t]);
        }
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      job.out[(token + t) * job.out_stride + row] = finish<kType>(sums[t], taken[t]);
    }
  }
}

template <Type kType>
void rows(const RowsJob& job) {
  int token = 0;
  for (; token + 3 <= job.tokens.count; token += 3) rows_of<kType, 3>(job, token);
  if (job.tokens.count - token == 2) rows_of<kType, 2>(job, token);
  if (job.tokens.count - token == 1) rows_of<kType, 1>(job, token);
}

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
void pack(const Weights& weights, int first_row, uint8_t* tile) {
  const size_t bytes = row_bytes(kType, weights.width);
  const int chunks = static_cast<int>(padded(weights.width)) / kChunk;
  const int whole = weights.width / kChunk;
  const int rows = weights.rows - first_row < kTileRows ? weights.rows - first_row : kTileRows;
  uint8_t spare[kMostChunkBytes];
  __m512i w[4][16], numbers[16], turned[16];
  for (int r = rows; r < kTileRows; ++r) {
    for (int j = 0; j < 4; ++j) w[j][r] = _mm512_setzero_si512();
    numbers[r] = _mm512_setzero_si512();
  }
  Chunk chunk;
  for (int c = 0; c < chunks; ++c, tile += 8 * kTileGroupBytes) {
    for (int r = 0; r < rows; ++r) {
      const uint8_t* row = weights.data + (first_row + r) * bytes;
      const uint8_t* at = c < whole ? row + c * chunk_bytes(kType) : chunk_at(kType, row, weights.width, c, spare);
      _mm_prefetch(reinterpret_cast<const char*>(at) + 4 * chunk_bytes(kType), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(at) + 4 * chunk_bytes(kType) + 64, _MM_HINT_T0);
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

inline __m512i four_bytes(const uint8_t* p) {
  int32_t bytes;
  std::memcpy(&bytes, p, 4);
  return _mm512_set1_epi32(bytes);
}

// The offset comes with the panel, so types differ here only in the size of their groups and in having minimums.
template <int kGroupWeights, bool kHasMinimum, int kTokens>
void multiply_by(const TileJob& job) {
  constexpr int kParts = kGroupWeights == 16 ? 2 : 1;
  constexpr int kSteps = 8 / kParts;
  __m512 sums[kTokens];
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_setzero_ps();
  const uint8_t* tile = job.tile;
  const uint8_t* panel = job.panel;
  for (size_t g = 0; g < job.groups; ++g, tile += kTileGroupBytes, panel += panel_group_bytes(kTokens)) {
    const float* numbers = reinterpret_cast<const float*>(panel + 32 * kTokens);
    const int32_t* start = reinterpret_cast<const int32_t*>(numbers + 2 * kTokens);
#pragma GCC unroll 2
    for (int part = 0; part < kParts; ++part) {
      __m512i dots[kTokens];
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        dots[t] = kHasMinimum ? _mm512_setzero_si512() : _mm512_set1_epi32(start[part * kTokens + t]);
      }
#pragma GCC unroll 8
      for (int k = part * kSteps; k < (part + 1) * kSteps; ++k) {
        const __m512i w = _mm512_load_si512(tile + 64 * k);
#pragma GCC unroll 12
        for (int t = 0; t < kTokens; ++t) {
          dots[t] = _mm512_dpbusd_epi32(dots[t], w, four_bytes(panel + (k * kTokens + t) * 4));
        }
      }
      const __m512 scale = _mm512_load_ps(tile + 512 + 64 * part);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(numbers[t]));
        sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[t]), factor, sums[t]);
      }
    }
    if (kHasMinimum) {
      const __m512 minimum = _mm512_load_ps(tile + 512 + 64);
#pragma GCC unroll 12
      for (int t = 0; t < kTokens; ++t) {
        sums[t] = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(numbers[kTokens + t]), sums[t]);
      }
    }
  }
  const __mmask16 mask = static_cast<__mmask16>((1u << job.rows) - 1);
#pragma GCC unroll 12
  for (int t = 0; t < kTokens; ++t) _mm512_mask_storeu_ps(job.out + t * job.out_stride, mask, sums[t]);
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

const Unit& avx512_unit() {
  static const Unit unit = {
      "AVX512-VNNI",
      3,
      quantise,
      swiglu,
      {rows<Type::Q8_0>, rows<Type::Q4_K>, rows<Type::Q6_K>, rows<Type::Q5_K>, rows<Type::Q4_0>, rows<Type::Q4_1>,
       rows<Type::IQ4_NL>, rows<Type::IQ4_XS>},
      {pack<Type::Q8_0>, pack<Type::Q4_K>, pack<Type::Q6_K>, pack<Type::Q5_K>, pack<Type::Q4_0>, pack<Type::Q4_1>,
       pack<Type::IQ4_NL>, pack<Type::IQ4_XS>},
      {multiply<32, false>, multiply<32, true>, multiply<16, false>, multiply<32, true>, multiply<32, false>,
       multiply<32, true>, multiply<32, false>, multiply<32, false>},
  };
  return unit;
}

}  // namespace longlens
