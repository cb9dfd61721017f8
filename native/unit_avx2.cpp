// AVX2: rows of weights against a few tokens at a time. Signed weights use |w| and the activations with w's sign, since
// the instruction multiplies unsigned by signed bytes; no pair of products can leave 16 bits (128 * 127 * 2 < 32768).
#include <immintrin.h>

#include <cmath>

#include "decode_plain.hpp"
#include "unit.hpp"

namespace longlens {
namespace {

// 256 weights, a register a group of 32, and scale[16], minimum[16] of each half group.
struct Chunk {
  __m256i w[8];
  alignas(32) float scale[16];
  alignas(32) float minimum[8];
};

inline __m256i load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m256i low_nibbles(__m256i x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
inline __m256i high_nibbles(__m256i x) { return low_nibbles(_mm256_srli_epi16(x, 4)); }

// Low nibbles of 16 bytes, then their high nibbles.
inline __m256i nibbles16(const void* p) {
  const __m128i x = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return low_nibbles(_mm256_set_m128i(_mm_srli_epi16(x, 4), x));
}

inline __m256i iq4_values(__m256i nibbles) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4Values));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), nibbles);
}

inline float half_of(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

inline void set_k_numbers(const uint8_t* p, Chunk& out) {
  uint32_t a, b, c;
  std::memcpy(&a, p + 4, 4);
  std::memcpy(&b, p + 8, 4);
  std::memcpy(&c, p + 12, 4);
  const uint64_t scale_high = (c & 0x0f0f0f0fu) | ((a >> 6) & 0x03030303u) << 4;
  const uint64_t minimum_high = ((c >> 4) & 0x0f0f0f0fu) | ((b >> 6) & 0x03030303u) << 4;
  const __m128i scales = _mm_cvtsi64_si128(static_cast<long long>(scale_high << 32 | (a & 0x3f3f3f3fu)));
  const __m128i minimums = _mm_cvtsi64_si128(static_cast<long long>(minimum_high << 32 | (b & 0x3f3f3f3fu)));
  const __m256 d = _mm256_set1_ps(half_of(p)), dmin = _mm256_set1_ps(half_of(p + 2));
  _mm256_store_ps(out.scale, _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(scales))));
  _mm256_store_ps(out.minimum, _mm256_mul_ps(dmin, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(minimums))));
}

template <Type kType>
inline void decode(const uint8_t* p, Chunk& out);

template <>
inline void decode<Type::Q4_K>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 4; ++j) {
    const __m256i x = load32(p + 16 + 32 * j);
    out.w[2 * j] = low_nibbles(x);
    out.w[2 * j + 1] = high_nibbles(x);
  }
  set_k_numbers(p, out);
}

template <>
inline void decode<Type::Q5_K>(const uint8_t* p, Chunk& out) {
  const __m256i high = load32(p + 16);
  for (int j = 0; j < 8; ++j) {
    const __m256i x = load32(p + 48 + j / 2 * 32);
    const __m256i bit = _mm256_set1_epi8(static_cast<char>(1 << j));
    const __m256i is_set = _mm256_cmpeq_epi8(_mm256_and_si256(high, bit), bit);
    const __m256i nibbles = j % 2 ? high_nibbles(x) : low_nibbles(x);
    out.w[j] = _mm256_or_si256(nibbles, _mm256_and_si256(is_set, _mm256_set1_epi8(16)));
  }
  set_k_numbers(p, out);
}

template <>
inline void decode<Type::Q6_K>(const uint8_t* p, Chunk& out) {
  const __m256i two = _mm256_set1_epi8(0x30), offset = _mm256_set1_epi8(32);
  for (int half = 0; half < 2; ++half) {
    const __m256i high = load32(p + 128 + 32 * half);
    const __m256i highs[4] = {_mm256_slli_epi16(high, 4), _mm256_slli_epi16(high, 2), high,
                              _mm256_srli_epi16(high, 2)};
    for (int quarter = 0; quarter < 4; ++quarter) {
      const __m256i low = load32(p + 64 * half + quarter % 2 * 32);
      const __m256i nibbles = quarter < 2 ? low_nibbles(low) : high_nibbles(low);
      out.w[4 * half + quarter] =
          _mm256_sub_epi8(_mm256_or_si256(nibbles, _mm256_and_si256(highs[quarter], two)), offset);
    }
  }
  const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 192));
  const __m256 d = _mm256_set1_ps(half_of(p + 208));
  _mm256_store_ps(out.scale, _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(scales))));
  _mm256_store_ps(out.scale + 8,
                  _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(scales, 8)))));
}

template <>
inline void decode<Type::Q8_0>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 8; ++j) {
    out.w[j] = load32(p + 34 * j + 2);
    out.scale[j] = half_of(p + 34 * j);
  }
}

template <>
inline void decode<Type::Q4_0>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 8; ++j) {
    out.w[j] = _mm256_sub_epi8(nibbles16(p + 18 * j + 2), _mm256_set1_epi8(8));
    out.scale[j] = half_of(p + 18 * j);
  }
}

// 16 where the bit of a byte's number is set in `bits`.
inline __m256i sixteens(const void* bits) {
  int32_t word;
  std::memcpy(&word, bits, 4);
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3,
                                          3, 3, 3, 3);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  const __m256i own = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), spread), bit);
  return _mm256_and_si256(_mm256_cmpeq_epi8(own, bit), _mm256_set1_epi8(16));
}

template <>
inline void decode<Type::Q5_0>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 8; ++j, p += 22) {
    out.w[j] = _mm256_sub_epi8(_mm256_or_si256(nibbles16(p + 6), sixteens(p + 2)), _mm256_set1_epi8(16));
    out.scale[j] = half_of(p);
  }
}

template <>
inline void decode<Type::Q4_1>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 8; ++j) {
    out.w[j] = nibbles16(p + 20 * j + 4);
    out.scale[j] = half_of(p + 20 * j);
    out.minimum[j] = -half_of(p + 20 * j + 2);
  }
}

template <>
inline void decode<Type::IQ4_NL>(const uint8_t* p, Chunk& out) {
  for (int j = 0; j < 8; ++j) {
    out.w[j] = iq4_values(nibbles16(p + 18 * j + 2));
    out.scale[j] = half_of(p + 18 * j);
  }
}

template <>
inline void decode<Type::IQ4_XS>(const uint8_t* p, Chunk& out) {
  const float d = half_of(p);
  const int high = p[2] | p[3] << 8;
  for (int j = 0; j < 8; ++j) {
    const int scale = ((p[4 + j / 2] >> (j % 2 * 4)) & 15) | ((high >> (2 * j)) & 3) << 4;
    out.w[j] = iq4_values(nibbles16(p + 8 + 16 * j));
    out.scale[j] = d * static_cast<float>(scale - 32);
  }
}

inline float sum_of(__m256 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

inline int sum_of(__m256i x) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

void quantise(const float* x, int width, int token, const Activations& out) {
  const size_t groups = static_cast<size_t>(out.width) / kGroup;
  int8_t* q = out.q + static_cast<size_t>(token) * out.width;
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), infinite = _mm256_set1_ps(INFINITY);
  for (size_t g = 0; g < groups; ++g) {
    const size_t at = static_cast<size_t>(token) * groups + g;
    float scale = 0.0f, inverse = 0.0f;
    __m256 x4[4];
    if (g * kGroup < static_cast<size_t>(width)) {
      __m256 largest = _mm256_setzero_ps(), broken = largest;
      for (int i = 0; i < 4; ++i) {
        x4[i] = _mm256_loadu_ps(x + g * kGroup + 8 * i);
        const __m256 size = _mm256_and_ps(x4[i], magnitude);
        broken = _mm256_or_ps(broken, _mm256_cmp_ps(size, infinite, _CMP_NLT_UQ));
        largest = _mm256_max_ps(largest, size);
      }
      alignas(32) float sizes[8];
      _mm256_store_ps(sizes, largest);
      float most = 0.0f;
      for (float size : sizes) most = size > most ? size : most;
      if (_mm256_movemask_ps(broken)) {
        scale = NAN;
      } else if (most >= 1e-35f) {
        scale = most / 127.0f;
        inverse = 127.0f / most;
      }
    }
    __m256i q4[4];
    for (int i = 0; i < 4; ++i) {
      q4[i] = inverse != 0.0f ? _mm256_cvtps_epi32(_mm256_mul_ps(x4[i], _mm256_set1_ps(inverse)))
                              : _mm256_setzero_si256();
    }
    const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(q4[0], q4[1]), _mm256_packs_epi32(q4[2], q4[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + g * kGroup), _mm256_permutevar8x32_epi32(words, order));
    const int half1 = sum_of(_mm256_add_epi32(q4[0], q4[1])), half2 = sum_of(_mm256_add_epi32(q4[2], q4[3]));
    out.scale[at] = scale;
    out.sum[at] = scale * static_cast<float>(half1 + half2);
    out.half_sum[2 * at] = scale * static_cast<float>(half1);
    out.half_sum[2 * at + 1] = scale * static_cast<float>(half2);
  }
}

void swiglu(float* gate, const float* up, int count) {
  for (int i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

template <Type kType>
inline __m256 dot(__m256i w, __m256i q) {
  const __m256i pairs = format_of(kType).has_minimum
                            ? _mm256_maddubs_epi16(w, q)
                            : _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
  return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

template <Type kType>
inline void add_chunk(const Chunk& chunk, const Activations& activations, size_t at, __m256& sums) {
  const int8_t* q = activations.q + at;
  const float* scale = activations.scale + at / kGroup;
  for (int j = 0; j < 8; ++j) {
    const __m256 one = _mm256_set1_ps(scale[j]);
    const __m256 factor = format_of(kType).group == 16
                              ? _mm256_set_m128(_mm_set1_ps(chunk.scale[2 * j + 1]), _mm_set1_ps(chunk.scale[2 * j]))
                              : _mm256_set1_ps(chunk.scale[j]);
    sums = _mm256_fmadd_ps(dot<kType>(chunk.w[j], load32(q + 32 * j)), _mm256_mul_ps(factor, one), sums);
  }
  if (format_of(kType).has_minimum) {
    const __m256 sum = _mm256_loadu_ps(activations.sum + at / kGroup);
    sums = _mm256_fnmadd_ps(_mm256_load_ps(chunk.minimum), sum, sums);
  }
}

template <Type kType, int kTokens>
void rows_of(const RowsJob& job, int token) {
  const size_t bytes = row_bytes(kType, job.weights.width);
  const int chunks = static_cast<int>(padded(job.weights.width)) / kChunk;
  const size_t width = static_cast<size_t>(job.activations->width);
  uint8_t spare[kMostChunkBytes];
  Chunk chunk;
  for (int row = job.first_row; row < job.last_row; ++row) {
    __m256 sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = _mm256_setzero_ps();
    for (int c = 0; c < chunks; ++c) {
      decode<kType>(chunk_at(kType, job.weights.data + row * bytes, job.weights.width, c, spare), chunk);
      for (int t = 0; t < kTokens; ++t) {
        add_chunk<kType>(chunk, *job.activations, job.tokens[token + t] * width + static_cast<size_t>(c) * kChunk, sums[t]);
      }
    }
    for (int t = 0; t < kTokens; ++t) job.out[(token + t) * job.out_stride + row] = sum_of(sums[t]);
  }
}

template <Type kType>
void rows(const RowsJob& job) {
  int token = 0;
  for (; token + 4 <= job.tokens.count; token += 4) rows_of<kType, 4>(job, token);
  for (; token < job.tokens.count; ++token) rows_of<kType, 1>(job, token);
}

}  // namespace

const Unit& avx2_unit() {
  static const Unit unit = {
      "AVX2",
      1 << 30,
      quantise,
      swiglu,
      nullptr,
      nullptr,
      {rows<Type::Q8_0>, rows<Type::Q4_K>, rows<Type::Q6_K>, rows<Type::Q5_K>, rows<Type::Q4_0>, rows<Type::Q4_1>,
       rows<Type::IQ4_NL>, rows<Type::IQ4_XS>, rows<Type::Q5_0>},
      {},
      {},
  };
  return unit;
}

}  // namespace longlens
