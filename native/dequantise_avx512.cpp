// AVX512: sixteen weights at a time from small numbers to fp32, thirty-two to bf16. A group of Q4_K or Q5_K has so few
// values that bf16 looks them up: each is computed once a group.
#include <immintrin.h>

#include "dequantise_products.hpp"
#include "dequantise_tables.hpp"
#include "dequantise_unpack_grids.hpp"

namespace longlens {
namespace {

template <Kind kKind>
inline __m512 with_minimum(__m512 product, float minimum) {
  if (minimum_of(kKind) == Minimum::taken) return _mm512_sub_ps(product, _mm512_set1_ps(minimum));
  if (minimum_of(kKind) == Minimum::added) return _mm512_add_ps(product, _mm512_set1_ps(minimum));
  return product;
}

template <Kind kKind>
inline __m512 sixteen(const Unpacked& block, int part) {
  const __m128i q = _mm_load_si128(reinterpret_cast<const __m128i*>(block.q + 16 * part));
  const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
  return with_minimum<kKind>(_mm512_mul_ps(_mm512_set1_ps(block.scale[part]), numbers), block.minimum[part]);
}

// Not the processor's own conversion to bf16, which takes denormal numbers for zero. The result is in the upper halves.
template <bool kMayBeNan>
inline __m512i rounded(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __mmask16 is_odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __m512i up = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
  const __m512i sum = _mm512_mask_add_epi32(up, is_odd, up, _mm512_set1_epi32(1));
  if (!kMayBeNan) return sum;
  const __mmask16 is_nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(sum, is_nan, bits, _mm512_set1_epi32(0x400000));
}

template <bool kMayBeNan>
inline __m512i bf16_of(__m512 first, __m512 second) {
  const __m512i even = _mm512_set_epi32(0x001e001c, 0x001a0018, 0x00160014, 0x00120010, 0x000e000c, 0x000a0008,
                                        0x00060004, 0x00020000, 0x001e001c, 0x001a0018, 0x00160014, 0x00120010,
                                        0x000e000c, 0x000a0008, 0x00060004, 0x00020000);
  const __m512i second_half = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(32), 1);
  const __m512i odd = _mm512_or_si512(_mm512_add_epi16(even, _mm512_set1_epi16(1)), second_half);
  return _mm512_permutex2var_epi16(rounded<kMayBeNan>(first), odd, rounded<kMayBeNan>(second));
}

// Whether every scale and minimum is finite: then so is every weight.
template <Kind kKind>
inline bool is_tame(const Unpacked& block) {
  constexpr int kParts = block_size(kKind).weights / 16;
  // a short block's scales were stored just now, and a wide load of them would have to wait
  if (kParts <= 4) return false;
  constexpr __mmask16 kUsed = static_cast<__mmask16>((1u << kParts) - 1);
  constexpr int kNanOrInfinite = 0x99;
  const __mmask16 scales = _mm512_fpclass_ps_mask(_mm512_load_ps(block.scale), kNanOrInfinite);
  if (minimum_of(kKind) == Minimum::none) return (scales & kUsed) == 0;
  const __mmask16 minimums = _mm512_fpclass_ps_mask(_mm512_load_ps(block.minimum), kNanOrInfinite);
  return ((scales | minimums) & kUsed) == 0;
}

template <Kind kKind, bool kMayBeNan>
inline void store_bf16(const Unpacked& block, uint16_t* out) {
#pragma GCC unroll 8
  for (int part = 0; part < block_size(kKind).weights / 16; part += 2) {
    const __m512i both = bf16_of<kMayBeNan>(sixteen<kKind>(block, part), sixteen<kKind>(block, part + 1));
    _mm512_storeu_si512(out + 16 * part, both);
  }
}

template <Kind kKind>
struct Loops {
  static void to_float(const Expansion& job, const Grids& grids, float* out) {
    constexpr BlockSize size = block_size(kKind);
    Unpacked block;
    for (size_t b = 0; b < job.num_blocks; ++b, out += size.weights) {
      unpack<kKind>(job.blocks + b * size.bytes, grids, block);
#pragma GCC unroll 16
      for (int part = 0; part < size.weights / 16; ++part) {
        _mm512_storeu_ps(out + 16 * part, sixteen<kKind>(block, part));
      }
    }
  }

  static void to_bf16(const Expansion& job, const Grids& grids, uint16_t* out) {
    constexpr BlockSize size = block_size(kKind);
    Unpacked block;
    for (size_t b = 0; b < job.num_blocks; ++b, out += size.weights) {
      unpack<kKind>(job.blocks + b * size.bytes, grids, block);
      if (is_tame<kKind>(block)) {
        store_bf16<kKind, false>(block, out);
      } else {
        store_bf16<kKind, true>(block, out);
      }
    }
  }
};

// The values that a group's numbers from `first` on stand for.
inline __m512 values_from(float first, const Unpacked& block, int group) {
  const __m512 count = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512 product =
      _mm512_mul_ps(_mm512_set1_ps(block.scale[2 * group]), _mm512_add_ps(count, _mm512_set1_ps(first)));
  return _mm512_sub_ps(product, _mm512_set1_ps(block.minimum[2 * group]));
}

inline __m512i words_of(const uint8_t* p) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// Two groups share 32 bytes, and their values a register.
void q4_k_to_bf16(const Expansion& job, const Grids&, uint16_t* out) {
  Unpacked block;
  for (size_t b = 0; b < job.num_blocks; ++b, out += 256) {
    const uint8_t* p = job.blocks + b * 144;
    k_scales(p, block);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      const __m512i values = bf16_of<true>(values_from(0, block, 2 * pair), values_from(0, block, 2 * pair + 1));
      const __m512i words = words_of(p + 16 + 32 * pair);
      const __m512i low = _mm512_and_si512(words, _mm512_set1_epi16(15));
      const __m512i high = _mm512_or_si512(_mm512_srli_epi16(words, 4), _mm512_set1_epi16(16));
      _mm512_storeu_si512(out + 64 * pair, _mm512_permutexvar_epi16(low, values));
      _mm512_storeu_si512(out + 64 * pair + 32, _mm512_permutexvar_epi16(high, values));
    }
  }
}

void q5_k_to_bf16(const Expansion& job, const Grids&, uint16_t* out) {
  Unpacked block;
  for (size_t b = 0; b < job.num_blocks; ++b, out += 256) {
    const uint8_t* p = job.blocks + b * 176;
    k_scales(p, block);
    const __m512i fifth = words_of(p + 16);
#pragma GCC unroll 8
    for (int group = 0; group < 8; ++group) {
      const __m512i values = bf16_of<true>(values_from(0, block, group), values_from(16, block, group));
      const __m512i words = words_of(p + 48 + group / 2 * 32);
      const __m512i low = group % 2 ? _mm512_srli_epi16(words, 4) : _mm512_and_si512(words, _mm512_set1_epi16(15));
      const __mmask32 has_fifth = _mm512_test_epi16_mask(fifth, _mm512_set1_epi16(static_cast<short>(1 << group)));
      const __m512i place = _mm512_mask_add_epi16(low, has_fifth, low, _mm512_set1_epi16(16));
      _mm512_storeu_si512(out + 32 * group, _mm512_permutexvar_epi16(place, values));
    }
  }
}

// The numbers of even and of odd places, as fp32.
struct Halves {
  static __m512 add(__m512 sum, __m512i weights, __m512i numbers) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
    sum = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(weights, 16)),
                          _mm512_castsi512_ps(_mm512_slli_epi32(numbers, 16)), sum);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(weights, upper)),
                           _mm512_castsi512_ps(_mm512_and_si512(numbers, upper)), sum);
  }
};

}  // namespace

const Expander& avx512_expander() {
  static const Expander expander = [] {
    Expander all = expander_of<Loops>(add_products<Halves>);
    all.to_bf16[static_cast<int>(Kind::Q4_K)] = q4_k_to_bf16;
    all.to_bf16[static_cast<int>(Kind::Q5_K)] = q5_k_to_bf16;
    return all;
  }();
  return expander;
}

}  // namespace longlens
