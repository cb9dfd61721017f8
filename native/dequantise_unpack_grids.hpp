// The types with a codebook: an index chooses four or eight numbers at once, signs are stored apart.
//
// Source: ggml-common.h and gguf-py's quants.py, for where the bits lie.
#pragma once

#include "dequantise_unpack.hpp"

namespace longlens {
namespace {

// Eight bits -> eight bytes of 0 or 1: a copy of all in every byte, of which byte i keeps bit i.
inline uint64_t spread(uint8_t bits) {
  const uint64_t copies = bits * 0x0101010101010101ull & 0x8040201008040201ull;
  return (copies + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

// Entries are never zero, so that adding one to the inverse of a byte carries nothing into the next.
inline uint64_t with_signs(uint64_t entry, uint8_t bits) {
  const uint64_t ones = spread(bits);
  return (entry ^ ones * 0xff) + ones;
}

inline void put(uint64_t eight, int8_t* q) { std::memcpy(q, &eight, 8); }

inline uint64_t entry8(const int8_t (&entry)[8]) {
  return number_at<uint64_t>(reinterpret_cast<const uint8_t*>(entry));
}

inline uint64_t entry4(const int8_t (&low)[4], const int8_t (&high)[4]) {
  return number_at<uint32_t>(reinterpret_cast<const uint8_t*>(low)) |
         static_cast<uint64_t>(number_at<uint32_t>(reinterpret_cast<const uint8_t*>(high))) << 32;
}

inline int nibble_at(const uint8_t* p, int place) { return (p[place / 2] >> (place % 2 * 4)) & 15; }

template <>
inline void unpack<Kind::IQ2_XXS>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  const float d = float_half(p);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* at = p + 2 + group * 8;
    const uint32_t signs = number_at<uint32_t>(at + 4);
    fill(out.scale + 2 * group, 2, d * (0.5f + static_cast<float>(signs >> 28)) * 0.25f);
    for (int i = 0; i < 4; ++i) {
      put(with_signs(entry8(grids.iq2_xxs[at[i]]), grids.signs[signs >> (7 * i) & 127]), out.q + group * 32 + i * 8);
    }
  }
}

template <>
inline void unpack<Kind::IQ2_XS>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  const float d = float_half(p);
  for (int part = 0; part < 16; ++part) {
    out.scale[part] = d * (0.5f + static_cast<float>(nibble_at(p + 66, part))) * 0.25f;
  }
  for (int i = 0; i < 32; ++i) {
    const uint16_t bits = number_at<uint16_t>(p + 2 + 2 * i);
    put(with_signs(entry8(grids.iq2_xs[bits & 511]), grids.signs[bits >> 9]), out.q + i * 8);
  }
}

template <>
inline void unpack<Kind::IQ2_S>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  const float d = float_half(p);
  for (int part = 0; part < 16; ++part) {
    out.scale[part] = d * (0.5f + static_cast<float>(nibble_at(p + 74, part))) * 0.25f;
  }
  for (int i = 0; i < 32; ++i) {
    const int index = p[2 + i] | ((p[66 + i / 4] >> (i % 4 * 2)) & 3) << 8;
    put(with_signs(entry8(grids.iq2_s[index]), p[34 + i]), out.q + i * 8);
  }
}

template <>
inline void unpack<Kind::IQ3_XXS>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  const float d = float_half(p);
  for (int group = 0; group < 8; ++group) {
    const uint8_t* at = p + 2 + group * 8;
    const uint32_t signs = number_at<uint32_t>(p + 66 + group * 4);
    fill(out.scale + 2 * group, 2, d * (0.5f + static_cast<float>(signs >> 28)) * 0.5f);
    for (int i = 0; i < 4; ++i) {
      const uint64_t entry = entry4(grids.iq3_xxs[at[2 * i]], grids.iq3_xxs[at[2 * i + 1]]);
      put(with_signs(entry, grids.signs[signs >> (7 * i) & 127]), out.q + group * 32 + i * 8);
    }
  }
}

template <>
inline void unpack<Kind::IQ3_S>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  const float d = float_half(p);
  for (int group = 0; group < 8; ++group) {
    fill(out.scale + 2 * group, 2, d * static_cast<float>(1 + 2 * nibble_at(p + 106, group)));
    const uint8_t* at = p + 2 + group * 8;
    const int high = p[66 + group];
    for (int i = 0; i < 4; ++i) {
      const int first = at[2 * i] | ((high >> (2 * i)) & 1) << 8;
      const int second = at[2 * i + 1] | ((high >> (2 * i + 1)) & 1) << 8;
      const uint64_t entry = entry4(grids.iq3_s[first], grids.iq3_s[second]);
      put(with_signs(entry, p[74 + group * 4 + i]), out.q + group * 32 + i * 8);
    }
  }
}

// scale * (entry + or - 1/8) is scale / 8 * (8 entry + or - 1), and all of that but the last product is exact.
inline uint64_t eightfold(uint64_t entry, bool is_below) {
  // entries are -1, 0 and 1, so eight times the byte stays in its byte when only its low five bits are kept
  const uint64_t eight = (entry & 0x1f1f1f1f1f1f1f1full) << 3;
  if (is_below) {
    // one less in each byte: the top bit is set apart so that nothing is borrowed
    return ((eight | 0x8080808080808080ull) - 0x0101010101010101ull) ^ (~eight & 0x8080808080808080ull);
  }
  return eight + 0x0101010101010101ull;
}

template <>
inline void unpack<Kind::IQ1_S>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  const float d = float_half(p);
  for (int group = 0; group < 8; ++group) {
    const uint16_t high = number_at<uint16_t>(p + 34 + 2 * group);
    fill(out.scale + 2 * group, 2, d * static_cast<float>(2 * ((high >> 12) & 7) + 1) * 0.125f);
    for (int i = 0; i < 4; ++i) {
      const int index = p[2 + group * 4 + i] | ((high >> (3 * i)) & 7) << 8;
      put(eightfold(entry8(grids.iq1[index]), high >> 15), out.q + group * 32 + i * 8);
    }
  }
}

template <>
inline void unpack<Kind::IQ1_M>(const uint8_t* p, const Grids& grids, Unpacked& out) {
  uint16_t scales[4];
  std::memcpy(scales, p + 48, 8);
  const float d = half_from(static_cast<uint16_t>(scales[0] >> 12 | (scales[1] >> 8 & 0xf0) | (scales[2] >> 4 & 0xf00) |
                                                  (scales[3] & 0xf000)));
  for (int part = 0; part < 16; ++part) {
    out.scale[part] = d * static_cast<float>(2 * (scales[part / 4] >> (part % 4 * 3) & 7) + 1) * 0.125f;
  }
  for (int i = 0; i < 32; ++i) {
    const int high = nibble_at(p + 32, i);
    put(eightfold(entry8(grids.iq1[p[i] | (high & 7) << 8]), (high & 8) != 0), out.q + i * 8);
  }
}

}  // namespace
}  // namespace longlens
