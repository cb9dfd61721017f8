// The plain way to read 256 weights of every type: the truth that SIMD is tested against.
#pragma once

#include <cmath>

#include "formats.hpp"

namespace longlens {
namespace {

// weight[i] = scale[i / 16] * q[i] - minimum[i / 16]
struct PlainChunk {
  int8_t q[kChunk];
  float scale[kChunk / 16];
  float minimum[kChunk / 16];
};

constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

inline float half_at(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 31;
  uint32_t fraction = bits & 0x3ff;
  uint32_t wide;
  if (exponent == 31) {
    wide = sign | 0x7f800000 | (fraction << 13);
  } else if (exponent != 0) {
    wide = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else {
    // a denormal half is a whole number of 2^-24
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    std::memcpy(&wide, &value, 4);
    wide |= sign;
  }
  float out;
  std::memcpy(&out, &wide, 4);
  return out;
}

inline void scale_and_minimum(const uint8_t* packed, int group, int* scale, int* minimum) {
  if (group < 4) {
    *scale = packed[group] & 63;
    *minimum = packed[group + 4] & 63;
  } else {
    *scale = (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4);
    *minimum = (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4);
  }
}

inline void set_group32(PlainChunk& out, int group, float scale, float minimum) {
  out.scale[2 * group] = out.scale[2 * group + 1] = scale;
  out.minimum[2 * group] = out.minimum[2 * group + 1] = minimum;
}

inline void decode_q4_or_q5_k(const uint8_t* p, bool is_q5, PlainChunk& out) {
  const float d = half_at(p), dmin = half_at(p + 2);
  const uint8_t* high = p + 16;
  const uint8_t* low = is_q5 ? p + 48 : p + 16;
  for (int group = 0; group < 8; ++group) {
    int scale, minimum;
    scale_and_minimum(p + 4, group, &scale, &minimum);
    set_group32(out, group, d * static_cast<float>(scale), dmin * static_cast<float>(minimum));
    for (int i = 0; i < 32; ++i) {
      const int nibble = (low[group / 2 * 32 + i] >> (group % 2 * 4)) & 15;
      const int fifth = is_q5 ? (high[i] >> group) & 1 : 0;
      out.q[group * 32 + i] = static_cast<int8_t>(nibble | fifth << 4);
    }
  }
}

inline void decode_q6_k(const uint8_t* p, PlainChunk& out) {
  const float d = half_at(p + 208);
  for (int i = 0; i < kChunk; ++i) {
    const int half = i / 128, in_half = i % 128, quarter = in_half / 32, byte = in_half % 32;
    const int low = (p[half * 64 + quarter % 2 * 32 + byte] >> (quarter / 2 * 4)) & 15;
    const int high = (p[128 + half * 32 + byte] >> (quarter * 2)) & 3;
    out.q[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
  for (int group = 0; group < 16; ++group) {
    out.scale[group] = d * static_cast<float>(static_cast<int8_t>(p[192 + group]));
    out.minimum[group] = 0.0f;
  }
}

inline void decode_iq4_xs(const uint8_t* p, PlainChunk& out) {
  const float d = half_at(p);
  const int high = p[2] | p[3] << 8;
  for (int group = 0; group < 8; ++group) {
    const int scale = ((p[4 + group / 2] >> (group % 2 * 4)) & 15) | ((high >> (2 * group)) & 3) << 4;
    set_group32(out, group, d * static_cast<float>(scale - 32), 0.0f);
    for (int i = 0; i < 32; ++i) {
      out.q[group * 32 + i] = kIq4Values[(p[8 + group * 16 + i % 16] >> (i / 16 * 4)) & 15];
    }
  }
}

// Eight blocks of 32.
inline void decode_blocks32(Type type, const uint8_t* p, PlainChunk& out) {
  const Format& format = format_of(type);
  for (int group = 0; group < 8; ++group, p += format.block_bytes) {
    set_group32(out, group, half_at(p), type == Type::Q4_1 ? -half_at(p + 2) : 0.0f);
    const uint8_t* bytes = p + (type == Type::Q5_0 ? 6 : type == Type::Q4_1 ? 4 : 2);
    uint32_t fifth = 0;
    if (type == Type::Q5_0) std::memcpy(&fifth, p + 2, 4);
    for (int i = 0; i < 32; ++i) {
      const int nibble = (bytes[i % 16] >> (i / 16 * 4)) & 15;
      int q = nibble;
      if (type == Type::Q8_0) q = static_cast<int8_t>(bytes[i]);
      if (type == Type::Q4_0) q = nibble - 8;
      if (type == Type::Q5_0) q = (nibble | static_cast<int>((fifth >> i) & 1) << 4) - 16;
      if (type == Type::IQ4_NL) q = kIq4Values[nibble];
      out.q[group * 32 + i] = static_cast<int8_t>(q);
    }
  }
}

inline void decode_plain(Type type, const uint8_t* p, PlainChunk& out) {
  switch (type) {
    case Type::Q4_K: return decode_q4_or_q5_k(p, false, out);
    case Type::Q5_K: return decode_q4_or_q5_k(p, true, out);
    case Type::Q6_K: return decode_q6_k(p, out);
    case Type::IQ4_XS: return decode_iq4_xs(p, out);
    default: return decode_blocks32(type, p, out);
  }
}

// Where a chunk lies: in the matrix, or, for the last blocks of a row that is not a multiple of 256 wide, in `spare`,
// filled up with zeros (a scale of zero).
inline const uint8_t* chunk_at(Type type, const uint8_t* row, int width, int chunk, uint8_t* spare) {
  const size_t bytes = chunk_bytes(type);
  const size_t start = static_cast<size_t>(chunk) * bytes, end = row_bytes(type, width);
  if (start + bytes <= end) return row + start;
  std::memset(spare, 0, bytes);
  std::memcpy(spare, row + start, end - start);
  return spare;
}
constexpr size_t kMostChunkBytes = 8 * 34;

}  // namespace
}  // namespace longlens
