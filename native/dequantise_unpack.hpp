// Blocks as small numbers with a scale for every sixteen: weight = scale * q, or scale * q -/+ a minimum.
//
// Loops are written so that a compiler makes SIMD of them; every translation unit compiles them with flags of its own,
// so everything here has internal linkage. The order of the operations is ggml's, since results must be its own bits.
// Source: ggml-common.h and gguf-py's quants.py, for where the bits lie.
#pragma once

#include <cstring>

#include "dequantise.hpp"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace longlens {
namespace {

struct Unpacked {
  alignas(64) int8_t q[256];
  alignas(64) float scale[16];
  alignas(64) float minimum[16];
};

enum class Minimum { none, taken, added };

constexpr Minimum minimum_of(Kind kind) {
  if (kind == Kind::Q2_K || kind == Kind::Q4_K || kind == Kind::Q5_K) return Minimum::taken;
  return kind == Kind::Q4_1 || kind == Kind::Q5_1 ? Minimum::added : Minimum::none;
}

constexpr int8_t kFourBitValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kFourBitFloats[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // twice e2m1

template <class T>
inline T number_at(const uint8_t* p) {
  T number;
  std::memcpy(&number, p, sizeof(T));
  return number;
}

inline float half_from(uint16_t bits) {
#ifdef __F16C__
  return _cvtsh_ss(bits);
#else
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
  if (exponent == 0) {
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // whole numbers of 2^-24
    return sign ? -value : value;
  }
  const uint32_t wide = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
#endif
}

inline float float_half(const uint8_t* p) { return half_from(number_at<uint16_t>(p)); }

inline void fill(float* numbers, int count, float value) {
  for (int i = 0; i < count; ++i) numbers[i] = value;
}

// Blocks of 32 are too short for loops that a compiler makes: they are written out where there are registers for it.
inline void nibbles(const uint8_t* p, int8_t* q) {
#ifdef __AVX512BW__
  // one store for all: a wider load than the store before it would have to wait
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
  _mm256_store_si256(reinterpret_cast<__m256i*>(q), _mm256_and_si256(both, _mm256_set1_epi8(15)));
#else
  for (int i = 0; i < 16; ++i) {
    q[i] = static_cast<int8_t>(p[i] & 15);
    q[i + 16] = static_cast<int8_t>(p[i] >> 4);
  }
#endif
}

inline void subtract(int8_t* q, int offset) {
#ifdef __AVX512BW__
  __m256i* at = reinterpret_cast<__m256i*>(q);
  _mm256_store_si256(at, _mm256_sub_epi8(_mm256_load_si256(at), _mm256_set1_epi8(static_cast<char>(offset))));
#else
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(q[i] - offset);
#endif
}

inline void look_up(const uint8_t* p, const int8_t (&values)[16], int8_t* q) {
#ifdef __AVX512BW__
  nibbles(p, q);
  const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
  __m256i* at = reinterpret_cast<__m256i*>(q);
  _mm256_store_si256(at, _mm256_shuffle_epi8(table, _mm256_load_si256(at)));
#else
  for (int i = 0; i < 16; ++i) {
    q[i] = values[p[i] & 15];
    q[i + 16] = values[p[i] >> 4];
  }
#endif
}

// Two bits a weight: four weights of a byte are 32 places apart.
inline void quarters(const uint8_t* p, int8_t* q, int offset) {
  for (int half = 0; half < 2; ++half) {
    for (int part = 0; part < 4; ++part) {
      for (int i = 0; i < 32; ++i) {
        q[half * 128 + part * 32 + i] = static_cast<int8_t>(((p[half * 32 + i] >> (2 * part)) & 3) - offset);
      }
    }
  }
}

inline void add_fifth_bits(uint32_t bits, int8_t* q) {
#ifdef __AVX512BW__
  __m256i* at = reinterpret_cast<__m256i*>(q);
  const __m256i low = _mm256_load_si256(at);
  _mm256_store_si256(at, _mm256_mask_add_epi8(low, bits, low, _mm256_set1_epi8(16)));
#else
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(q[i] | ((bits >> i) & 1) << 4);
#endif
}

// The twelve bytes of Q4_K and Q5_K: eight scales and eight minimums of six bits.
inline void six_bits(const uint8_t* p, uint8_t* scale, uint8_t* minimum) {
  for (int i = 0; i < 4; ++i) {
    scale[i] = p[i] & 63;
    minimum[i] = p[4 + i] & 63;
    scale[4 + i] = static_cast<uint8_t>((p[8 + i] & 15) | ((p[i] >> 2) & 48));
    minimum[4 + i] = static_cast<uint8_t>((p[8 + i] >> 4) | ((p[4 + i] >> 2) & 48));
  }
}

inline void k_scales(const uint8_t* p, Unpacked& out) {
  const float d = float_half(p), least = float_half(p + 2);
  uint8_t scale[8], minimum[8];
  six_bits(p + 4, scale, minimum);
  for (int i = 0; i < 16; ++i) {
    out.scale[i] = d * static_cast<float>(scale[i / 2]);
    out.minimum[i] = least * static_cast<float>(minimum[i / 2]);
  }
}

template <Kind kKind>
inline void unpack(const uint8_t* p, const Grids& grids, Unpacked& out);

template <>
inline void unpack<Kind::Q4_0>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 2, float_half(p));
  nibbles(p + 2, out.q);
  subtract(out.q, 8);
}

template <>
inline void unpack<Kind::Q4_1>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 2, float_half(p));
  fill(out.minimum, 2, float_half(p + 2));
  nibbles(p + 4, out.q);
}

template <>
inline void unpack<Kind::Q5_0>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 2, float_half(p));
  nibbles(p + 6, out.q);
  add_fifth_bits(number_at<uint32_t>(p + 2), out.q);
  subtract(out.q, 16);
}

template <>
inline void unpack<Kind::Q5_1>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 2, float_half(p));
  fill(out.minimum, 2, float_half(p + 2));
  nibbles(p + 8, out.q);
  add_fifth_bits(number_at<uint32_t>(p + 4), out.q);
}

template <>
inline void unpack<Kind::Q8_0>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 2, float_half(p));
  std::memcpy(out.q, p + 2, 32);
}

template <>
inline void unpack<Kind::Q2_K>(const uint8_t* p, const Grids&, Unpacked& out) {
  const float d = float_half(p + 80), least = float_half(p + 82);
  for (int i = 0; i < 16; ++i) {
    out.scale[i] = d * static_cast<float>(p[i] & 15);
    out.minimum[i] = least * static_cast<float>(p[i] >> 4);
  }
  quarters(p + 16, out.q, 0);
}

template <>
inline void unpack<Kind::Q3_K>(const uint8_t* p, const Grids&, Unpacked& out) {
  const float d = float_half(p + 108);
  for (int i = 0; i < 16; ++i) {
    const int low = (p[96 + i % 8] >> (i / 8 * 4)) & 15, high = (p[104 + i % 4] >> (i / 4 * 2)) & 3;
    out.scale[i] = d * static_cast<float>((low | high << 4) - 32);
  }
  quarters(p + 32, out.q, 4);
  for (int part = 0; part < 8; ++part) {
    for (int i = 0; i < 32; ++i) {
      out.q[part * 32 + i] = static_cast<int8_t>(out.q[part * 32 + i] + ((p[i] >> part) & 1) * 4);
    }
  }
}

template <>
inline void unpack<Kind::Q4_K>(const uint8_t* p, const Grids&, Unpacked& out) {
  k_scales(p, out);
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      out.q[pair * 64 + i] = static_cast<int8_t>(p[16 + pair * 32 + i] & 15);
      out.q[pair * 64 + 32 + i] = static_cast<int8_t>(p[16 + pair * 32 + i] >> 4);
    }
  }
}

template <>
inline void unpack<Kind::Q5_K>(const uint8_t* p, const Grids&, Unpacked& out) {
  k_scales(p, out);
  for (int pair = 0; pair < 4; ++pair) {
    for (int i = 0; i < 32; ++i) {
      const uint8_t low = p[48 + pair * 32 + i], high = p[16 + i];
      out.q[pair * 64 + i] = static_cast<int8_t>((low & 15) | ((high >> (2 * pair)) & 1) << 4);
      out.q[pair * 64 + 32 + i] = static_cast<int8_t>((low >> 4) | ((high >> (2 * pair + 1)) & 1) << 4);
    }
  }
}

template <>
inline void unpack<Kind::Q6_K>(const uint8_t* p, const Grids&, Unpacked& out) {
  const float d = float_half(p + 208);
  for (int i = 0; i < 16; ++i) out.scale[i] = d * static_cast<float>(static_cast<int8_t>(p[192 + i]));
  for (int half = 0; half < 2; ++half) {
    for (int part = 0; part < 4; ++part) {
      for (int i = 0; i < 32; ++i) {
        const int low = (p[half * 64 + part % 2 * 32 + i] >> (part / 2 * 4)) & 15;
        const int high = (p[128 + half * 32 + i] >> (2 * part)) & 3;
        out.q[half * 128 + part * 32 + i] = static_cast<int8_t>((low | high << 4) - 32);
      }
    }
  }
}

// Five numbers of three values in a byte, read by multiplying and taking what overflows.
inline int8_t trit(uint8_t byte, int power) {
  return static_cast<int8_t>((static_cast<uint8_t>(byte * power) * 3 >> 8) - 1);
}

template <>
inline void unpack<Kind::TQ1_0>(const uint8_t* p, const Grids&, Unpacked& out) {
  constexpr int kPowers[5] = {1, 3, 9, 27, 81};
  fill(out.scale, 16, float_half(p + 52));
  for (int part = 0; part < 5; ++part) {
    for (int i = 0; i < 32; ++i) out.q[part * 32 + i] = trit(p[i], kPowers[part]);
    for (int i = 0; i < 16; ++i) out.q[160 + part * 16 + i] = trit(p[32 + i], kPowers[part]);
  }
  for (int part = 0; part < 4; ++part) {
    for (int i = 0; i < 4; ++i) out.q[240 + part * 4 + i] = trit(p[48 + i], kPowers[part]);
  }
}

template <>
inline void unpack<Kind::TQ2_0>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 16, float_half(p + 64));
  quarters(p, out.q, 1);
}

template <>
inline void unpack<Kind::MXFP4>(const uint8_t* p, const Grids&, Unpacked& out) {
  // half of 2^(p - 127), which for 0 and 1 is a denormal number
  const uint32_t bits = p[0] < 2 ? 0x00200000u << p[0] : static_cast<uint32_t>(p[0] - 1) << 23;
  fill(out.scale, 2, number_at<float>(reinterpret_cast<const uint8_t*>(&bits)));
  look_up(p + 1, kFourBitFloats, out.q);
}

// Half of an unsigned e4m3 number.
inline float half_of_e4m3(uint8_t bits) {
  if (bits == 0x7f) return 0.0f;
  // as fp32 with its exponent too low by 119, which a product mends; that is right for denormal numbers, too
  const uint32_t wide = static_cast<uint32_t>(bits & 0x7f) << 20;
  return number_at<float>(reinterpret_cast<const uint8_t*>(&wide)) * 0x1p119f;
}

template <>
inline void unpack<Kind::NVFP4>(const uint8_t* p, const Grids&, Unpacked& out) {
  for (int part = 0; part < 4; ++part) out.scale[part] = half_of_e4m3(p[part]);
#ifdef __AVX512BW__
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 4)), mask = _mm256_set1_epi8(15);
  const __m256i table =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kFourBitFloats)));
  const __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(bytes, mask));
  const __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask));
  const __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
  _mm256_store_si256(reinterpret_cast<__m256i*>(out.q), _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_store_si256(reinterpret_cast<__m256i*>(out.q + 32), _mm256_permute2x128_si256(even, odd, 0x31));
#else
  for (int i = 0; i < 64; ++i) {
    const uint8_t byte = p[4 + i / 16 * 8 + i % 8];
    out.q[i] = kFourBitFloats[i % 16 < 8 ? byte & 15 : byte >> 4];
  }
#endif
}

template <>
inline void unpack<Kind::IQ4_NL>(const uint8_t* p, const Grids&, Unpacked& out) {
  fill(out.scale, 2, float_half(p));
  look_up(p + 2, kFourBitValues, out.q);
}

template <>
inline void unpack<Kind::IQ4_XS>(const uint8_t* p, const Grids&, Unpacked& out) {
  const float d = float_half(p);
  const int high = number_at<uint16_t>(p + 2);
  for (int group = 0; group < 8; ++group) {
    const int scale = ((p[4 + group / 2] >> (group % 2 * 4)) & 15) | ((high >> (2 * group)) & 3) << 4;
    fill(out.scale + 2 * group, 2, d * static_cast<float>(scale - 32));
    look_up(p + 8 + group * 16, kFourBitValues, out.q + group * 32);
  }
}

}  // namespace
}  // namespace longlens
