// What the Python module is made of. Pointers come in as numbers; nothing is copied.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "cpu_features.hpp"
#include "experts.hpp"
#include "matmul.hpp"
#include "vector_loops.hpp"

namespace longlens {

namespace nb = nanobind;

// Threads and an instruction set.
class Processor {
 public:
  Processor(int num_threads, const std::string& unit_name) : unit_(find_unit(unit_name)) {
    if (unit_ == nullptr) throw nb::value_error(("this processor cannot run " + unit_name).c_str());
    if (num_threads < 1) throw nb::value_error("at least one thread is needed");
    pool_ = std::make_unique<ThreadPool>(num_threads);
  }

  std::string unit_name() const { return unit_->name; }
  const Unit& unit() const { return *unit_; }
  const VectorLoops& loops() const { return loops_for(unit_->name); }
  ThreadPool& pool() const { return *pool_; }
  int num_threads() const { return pool_->num_threads(); }

  void multiply(int type, uintptr_t weights, int rows, int width, uintptr_t x, size_t x_stride, int tokens,
                uintptr_t out, size_t out_stride, bool fine) {
    nb::gil_scoped_release released;
    longlens::multiply(*unit_, *pool_,
                       {{static_cast<Type>(type), reinterpret_cast<const uint8_t*>(weights), rows, width},
                        reinterpret_cast<const float*>(x), x_stride, tokens, reinterpret_cast<float*>(out),
                        out_stride, fine});
  }

  void feed_forward(std::tuple<int, int, int> types, std::tuple<uintptr_t, uintptr_t, uintptr_t> addresses, int hidden,
                    int width, uintptr_t x, int tokens, uintptr_t out) {
    const uint64_t at[3] = {std::get<0>(addresses), std::get<1>(addresses), std::get<2>(addresses)};
    const std::vector<int64_t> ids(static_cast<size_t>(tokens), 0);
    const std::vector<float> weights(static_cast<size_t>(tokens), 1.0f);
    auto place = [](const void* p) { return reinterpret_cast<uintptr_t>(p); };
    experts(types, {place(at), place(at + 1), place(at + 2)}, 1, hidden, width, x, tokens, place(ids.data()),
            place(weights.data()), 1, out);
  }

  // Types, then addresses of the arrays that hold each expert's address; ids and weights are rows without gaps.
  void experts(std::tuple<int, int, int> types, std::tuple<uintptr_t, uintptr_t, uintptr_t> addresses, int experts,
               int hidden, int width, uintptr_t x, int tokens, uintptr_t ids, uintptr_t weights, int choices,
               uintptr_t out) {
    nb::gil_scoped_release released;
    auto matrix = [](int type, uintptr_t at, int rows, int columns) {
      return ExpertMatrix{static_cast<Type>(type), reinterpret_cast<const uint64_t*>(at), rows, columns};
    };
    const size_t stride = static_cast<size_t>(hidden);
    run_experts(*unit_, *pool_,
                {matrix(std::get<0>(types), std::get<0>(addresses), width, hidden),
                 matrix(std::get<1>(types), std::get<1>(addresses), width, hidden),
                 matrix(std::get<2>(types), std::get<2>(addresses), hidden, width), experts,
                 reinterpret_cast<const float*>(x), stride, tokens, choices, reinterpret_cast<const int64_t*>(ids),
                 reinterpret_cast<const float*>(weights), reinterpret_cast<float*>(out), stride});
  }

 private:
  const Unit* unit_;
  std::unique_ptr<ThreadPool> pool_;
};

// Type number, address, rows, width.
using MatrixArgs = std::tuple<int, uintptr_t, int, int>;

inline Weights weights_of(const MatrixArgs& matrix) {
  return {static_cast<Type>(std::get<0>(matrix)), reinterpret_cast<const uint8_t*>(std::get<1>(matrix)),
          std::get<2>(matrix), std::get<3>(matrix)};
}

template <class T>
T* pointer(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// The operations of a step around its matrix products (bind_steps.cpp).
void bind_steps(nb::module_& m);

}  // namespace longlens
