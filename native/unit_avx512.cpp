// AVX512 with VNNI: activations to int8, SwiGLU, and the table of what this unit offers.
#include <immintrin.h>

#include <cmath>
#include <initializer_list>

#include "unit_avx512_rows.hpp"
#include "unit_avx512_tiles.hpp"

namespace longlens {
namespace {

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

}  // namespace

const Unit& avx512_unit() {
  static const Unit unit = {
      "AVX512-VNNI",
      8,
      quantise,
      swiglu,
      arranged_bytes,
      arrange,
      {rows<Type::Q8_0>, rows<Type::Q4_K>, rows<Type::Q6_K>, rows<Type::Q5_K>, rows<Type::Q4_0>, rows<Type::Q4_1>,
       rows<Type::IQ4_NL>, rows<Type::IQ4_XS>, rows<Type::Q5_0>},
      {pack<Type::Q8_0>, pack<Type::Q4_K>, pack<Type::Q6_K>, pack<Type::Q5_K>, pack<Type::Q4_0>, pack<Type::Q4_1>,
       pack<Type::IQ4_NL>, pack<Type::IQ4_XS>, pack<Type::Q5_0>},
      {multiply<32, false>, multiply<32, true>, multiply<16, false>, multiply<32, true>, multiply<32, false>,
       multiply<32, true>, multiply<32, false>, multiply<32, false>, multiply<32, false>},
  };
  return unit;
}

}  // namespace longlens
