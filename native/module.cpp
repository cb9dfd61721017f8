// The Python side: pointers in, nothing copied. Checks are made where the pointers come from (kernels/native.py).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings.hpp"
#include "cpu_features.hpp"

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
  bind_steps(m);
}
