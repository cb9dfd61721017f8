// The plain loops: what every other unit must agree with, and what runs where no other unit does.
#include <cmath>

#include "decode_plain.hpp"
#include "unit.hpp"

namespace longlens {
namespace {

// Scale and numbers of one group. A group with a number that is not finite gets the scale NaN, so that the result shows
// it; one that is all but zero becomes zero, since its inverse scale would not be finite.
void quantise(const float* x, int width, int token, const Activations& out) {
  const size_t groups = static_cast<size_t>(out.width) / kGroup;
  int8_t* q = out.q + static_cast<size_t>(token) * out.width;
  for (size_t g = 0; g < groups; ++g) {
    float largest = 0.0f;
    bool is_finite = true;
    const size_t start = g * kGroup;
    const size_t count = start < static_cast<size_t>(width) ? kGroup : 0;
    for (size_t i = 0; i < count; ++i) {
      const float size = std::fabs(x[start + i]);
      is_finite = is_finite && std::isfinite(size);
      largest = size > largest ? size : largest;
    }
    float scale = largest / 127.0f, inverse = 127.0f / largest;
    if (!is_finite) {
      scale = NAN;
      inverse = 0.0f;
    } else if (largest < 1e-35f) {
      scale = inverse = 0.0f;
    }
    int halves[2] = {0, 0};
    for (size_t i = 0; i < kGroup; ++i) {
      const float scaled = i < count && inverse != 0.0f ? x[start + i] * inverse : 0.0f;
      q[start + i] = static_cast<int8_t>(std::lrintf(scaled));
      halves[i / 16] += q[start + i];
    }
    const size_t at = static_cast<size_t>(token) * groups + g;
    out.scale[at] = scale;
    out.sum[at] = scale * static_cast<float>(halves[0] + halves[1]);
    out.half_sum[2 * at] = scale * static_cast<float>(halves[0]);
    out.half_sum[2 * at + 1] = scale * static_cast<float>(halves[1]);
  }
}

void swiglu(float* gate, const float* up, int count) {
  for (int i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

float dot_chunk(const PlainChunk& weights, const Activations& activations, size_t token, size_t chunk) {
  const size_t width = static_cast<size_t>(activations.width);
  const int8_t* q = activations.q + token * width + chunk * kChunk;
  const float* scale = activations.scale + (token * width + chunk * kChunk) / kGroup;
  const float* half_sum = activations.half_sum + (token * width + chunk * kChunk) / 16;
  float sum = 0.0f;
  for (int group = 0; group < 16; ++group) {
    int dot = 0;
    for (int i = 0; i < 16; ++i) dot += weights.q[group * 16 + i] * q[group * 16 + i];
    sum += weights.scale[group] * scale[group / 2] * static_cast<float>(dot);
    sum -= weights.minimum[group] * half_sum[group];
  }
  return sum;
}

template <Type kType>
void rows(const RowsJob& job) {
  const size_t bytes = row_bytes(kType, job.weights.width);
  const int chunks = static_cast<int>(padded(job.weights.width)) / kChunk;
  uint8_t spare[kMostChunkBytes];
  PlainChunk decoded;
  for (int row = job.first_row; row < job.last_row; ++row) {
    for (int t = 0; t < job.tokens.count; ++t) job.out[t * job.out_stride + row] = 0.0f;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const uint8_t* at = chunk_at(kType, job.weights.data + row * bytes, job.weights.width, chunk, spare);
      decode_plain(kType, at, decoded);
      for (int t = 0; t < job.tokens.count; ++t) {
        job.out[t * job.out_stride + row] += dot_chunk(decoded, *job.activations, job.tokens[t], chunk);
      }
    }
  }
}

}  // namespace

const Unit& plain_unit() {
  static const Unit unit = {
      "plain loops",
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
