// The plain loops: what SIMD must agree with, and what runs where there is none.
#include "dequantise_tables.hpp"
#include "dequantise_unpack_grids.hpp"

namespace longlens {
namespace {

template <Kind kKind>
inline float weight_of(const Unpacked& block, int i) {
  const float product = block.scale[i / 16] * static_cast<float>(block.q[i]);
  if (minimum_of(kKind) == Minimum::taken) return product - block.minimum[i / 16];
  if (minimum_of(kKind) == Minimum::added) return product + block.minimum[i / 16];
  return product;
}

// To the nearest, of two equally near the even one; a NaN stays one.
inline uint16_t bf16_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <Kind kKind>
struct Loops {
  template <class Number, class Convert>
  static void expand(const Expansion& job, const Grids& grids, Number* out, Convert convert) {
    constexpr BlockSize size = block_size(kKind);
    Unpacked block;
    for (size_t b = 0; b < job.num_blocks; ++b, out += size.weights) {
      unpack<kKind>(job.blocks + b * size.bytes, grids, block);
      for (int i = 0; i < size.weights; ++i) out[i] = convert(weight_of<kKind>(block, i));
    }
  }

  static void to_float(const Expansion& job, const Grids& grids, float* out) {
    expand(job, grids, out, [](float weight) { return weight; });
  }

  static void to_bf16(const Expansion& job, const Grids& grids, uint16_t* out) { expand(job, grids, out, bf16_of); }
};

inline float wide(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Sixteen sums side by side, so that a compiler can make SIMD of them.
void add_products(const Products& job) {
  for (int t = 0; t < job.tokens; ++t) {
    for (int r = 0; r < job.rows; ++r) {
      const uint16_t *weights = job.weights + r * job.weights_stride, *x = job.x + t * job.x_stride;
      float sums[16] = {};
      for (int i = 0; i < job.width; i += 16) {
        for (int lane = 0; lane < 16; ++lane) sums[lane] += wide(weights[i + lane]) * wide(x[i + lane]);
      }
      float sum = 0.0f;
      for (float lane : sums) sum += lane;
      job.out[t * job.out_stride + r] += sum;
    }
  }
}

}  // namespace

const Expander& plain_expander() {
  static const Expander expander = expander_of<Loops>(add_products);
  return expander;
}

}  // namespace longlens
