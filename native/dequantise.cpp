#include "dequantise.hpp"

#include "cpu_features.hpp"

namespace longlens {

const Expander& best_expander() {
#ifdef LONGLENS_X86
  if (has_avx512_bf16()) {
    static const Expander expander = [] {
      Expander with_bf16 = avx512_expander();
      with_bf16.add_products = add_bf16_products;
      return with_bf16;
    }();
    return expander;
  }
  if (has_avx512()) return avx512_expander();
#endif
  return plain_expander();
}

}  // namespace longlens
