// The Python side: pointers in, nothing copied. Checks are made where the pointers come from (kernels/native.py).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "bindings.hpp"
#include "cpu_features.hpp"
#include "dequantise.hpp"
#include "dequantise_matmul.hpp"

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

// Blocks as plain numbers, with the codebooks that some types need.
class Dequantiser {
 public:
  Dequantiser(nb::bytes grids, bool is_plain) : expander_(is_plain ? &plain_expander() : &best_expander()) {
    if (grids.size() != sizeof(Grids)) throw nb::value_error("the codebooks are not of the size that is known here");
    std::memcpy(&grids_, grids.c_str(), sizeof(Grids));
  }

  void expand(int kind, uintptr_t blocks, size_t num_blocks, uintptr_t out, bool is_bf16) const {
    nb::gil_scoped_release released;
    const Expansion job = {static_cast<Kind>(kind), reinterpret_cast<const uint8_t*>(blocks), num_blocks};
    if (is_bf16) {
      expander_->to_bf16[kind](job, grids_, reinterpret_cast<uint16_t*>(out));
    } else {
      expander_->to_float[kind](job, grids_, reinterpret_cast<float*>(out));
    }
  }

  void multiply(Processor& processor, int kind, uintptr_t weights, int rows, int width, uintptr_t x, size_t x_stride,
                int tokens, uintptr_t out, size_t out_stride) const {
    nb::gil_scoped_release released;
    multiply_expanded(*expander_, grids_, processor.pool(),
                      {static_cast<Kind>(kind), reinterpret_cast<const uint8_t*>(weights), rows, width,
                       reinterpret_cast<const float*>(x), x_stride, tokens, reinterpret_cast<float*>(out), out_stride});
  }

 private:
  const Expander* expander_;
  Grids grids_;
};

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const BlockSize& size : kBlockSizes) names.emplace_back(size.name);
  return names;
}

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
  m.def("kind_names", &kind_names);
  nb::class_<Dequantiser>(m, "Dequantiser")
      .def(nb::init<nb::bytes, bool>(), nb::arg("grids"), nb::arg("is_plain") = false)
      .def("expand", &Dequantiser::expand, nb::arg("kind"), nb::arg("blocks"), nb::arg("num_blocks"), nb::arg("out"),
           nb::arg("is_bf16"))
      .def("multiply", &Dequantiser::multiply, nb::arg("processor"), nb::arg("kind"), nb::arg("weights"),
           nb::arg("rows"), nb::arg("width"), nb::arg("x"), nb::arg("x_stride"), nb::arg("tokens"), nb::arg("out"),
           nb::arg("out_stride"));
  bind_steps(m);
}
