// The Python side: pointers in, nothing copied. Checks are made where the pointers come from (kernels/native.py).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "cpu_features.hpp"
#include "experts.hpp"
#include "matmul.hpp"

namespace nb = nanobind;

namespace longlens {
namespace {

Type type_named(const std::string& name) {
  for (int i = 0; i < kNumTypes; ++i) {
    if (name == kFormats[i].name) return static_cast<Type>(i);
  }
  throw nb::value_error(("no kernels for element type " + name).c_str());
}

std::vector<std::string> type_names() {
  std::vector<std::string> names;
  for (const Format& format : kFormats) names.emplace_back(format.name);
  return names;
}

std::vector<std::string> unit_names() {
  std::vector<std::string> names;
  for (const Unit* unit : runnable_units()) names.emplace_back(unit->name);
  return names;
}

// Threads and an instruction set.
class Processor {
 public:
  Processor(int num_threads, const std::string& unit_name) : unit_(find_unit(unit_name)) {
    if (unit_ == nullptr) throw nb::value_error(("this processor cannot run " + unit_name).c_str());
    if (num_threads < 1) throw nb::value_error("at least one thread is needed");
    pool_ = std::make_unique<ThreadPool>(num_threads);
  }

  std::string unit_name() const { return unit_->name; }
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

}  // namespace
}  // namespace longlens

NB_MODULE(_native, m) {
  using namespace longlens;
  m.doc() = "CPU kernels for quantised weights.";
  m.def("type_names", &type_names);
  m.def("unit_names", &unit_names);
  m.def("type_number", [](const std::string& name) { return static_cast<int>(type_named(name)); }, nb::arg("name"));
  nb::class_<Processor>(m, "Processor")
      .def(nb::init<int, const std::string&>(), nb::arg("num_threads"), nb::arg("unit_name") = "")
      .def_prop_ro("unit_name", &Processor::unit_name)
      .def_prop_ro("num_threads", &Processor::num_threads)
      .def("multiply", &Processor::multiply, nb::arg("type"), nb::arg("weights"), nb::arg("rows"), nb::arg("width"),
           nb::arg("x"), nb::arg("x_stride"), nb::arg("tokens"), nb::arg("out"), nb::arg("out_stride"),
           nb::kw_only(), nb::arg("fine"))
      .def("feed_forward", &Processor::feed_forward, nb::arg("types"), nb::arg("addresses"), nb::arg("hidden"),
           nb::arg("width"), nb::arg("x"), nb::arg("tokens"), nb::arg("out"))
      .def("experts", &Processor::experts, nb::arg("types"), nb::arg("addresses"), nb::arg("experts"),
           nb::arg("hidden"), nb::arg("width"), nb::arg("x"), nb::arg("tokens"), nb::arg("ids"), nb::arg("weights"),
           nb::arg("choices"), nb::arg("out"));
}
