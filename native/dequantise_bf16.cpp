// Products of bf16 for processors that have them (AVX512-BF16).
#include "dequantise_products.hpp"

namespace longlens {
namespace {

struct Pairs {
  static __m512 add(__m512 sum, __m512i weights, __m512i numbers) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(weights), reinterpret_cast<__m512bh>(numbers));
  }
};

}  // namespace

void add_bf16_products(const Products& job) { add_products<Pairs>(job); }

}  // namespace longlens
