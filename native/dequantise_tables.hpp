// The table of an instruction set's loops, one entry a kind.
#pragma once

#include <utility>

#include "dequantise.hpp"

namespace longlens {
namespace {

// `Loops<kind>` has the functions to_float and to_bf16.
template <template <Kind> class Loops, size_t... kIndices>
Expander expander_of(std::index_sequence<kIndices...>, void (*add_products)(const Products&)) {
  return {{Loops<static_cast<Kind>(kIndices)>::to_float...},
          {Loops<static_cast<Kind>(kIndices)>::to_bf16...},
          add_products};
}

template <template <Kind> class Loops>
Expander expander_of(void (*add_products)(const Products&)) {
  return expander_of<Loops>(std::make_index_sequence<kNumKinds>(), add_products);
}

}  // namespace
}  // namespace longlens
