// Operations around a step's matrix products, each an object that knows its layer's weights.
#include <nanobind/stl/tuple.h>

#include <algorithm>

#include "attend.hpp"
#include "bindings.hpp"
#include "mla_inputs.hpp"
#include "route.hpp"

namespace longlens {
namespace {

using RotationArgs = std::tuple<uintptr_t, uintptr_t, int>;  // cosines, sines, pairs

Rotation rotation_of(const RotationArgs& rotation, bool is_interleaved) {
  return {pointer<const float>(std::get<0>(rotation)), pointer<const float>(std::get<1>(rotation)),
          std::get<2>(rotation), is_interleaved};
}

class MlaInputsCall {
 public:
  MlaInputsCall(const Processor& processor, const MatrixArgs& q_a, const MatrixArgs& q_b, const MatrixArgs& kv_a,
                std::tuple<uintptr_t, uintptr_t, float> norms, std::tuple<int, int, int, int> sizes,
                std::tuple<bool, bool> kind)
      : processor_(processor), is_interleaved_(std::get<1>(kind)) {
    weights_ = {weights_of(q_a), weights_of(q_b), weights_of(kv_a), pointer<const float>(std::get<0>(norms)),
                pointer<const float>(std::get<1>(norms)), std::get<2>(norms), std::get<0>(sizes), std::get<1>(sizes),
                std::get<2>(sizes), std::get<3>(sizes), std::get<0>(kind)};
  }

  void run(uintptr_t hidden, int tokens, const RotationArgs& rotation, uintptr_t latent, uintptr_t query,
           uintptr_t row) const {
    nb::gil_scoped_release released;
    mla_inputs(processor_.unit(), processor_.loops(), processor_.pool(), weights_, pointer<const float>(hidden), tokens,
               rotation_of(rotation, is_interleaved_),
               {pointer<float>(latent), pointer<float>(query), pointer<float>(row)});
  }

 private:
  const Processor& processor_;
  MlaInputWeights weights_;
  bool is_interleaved_;
};

class IndexInputsCall {
 public:
  IndexInputsCall(const Processor& processor, const MatrixArgs& q_b, const MatrixArgs& k,
                  std::tuple<uintptr_t, uintptr_t, float, uintptr_t> others, std::tuple<int, int, int> sizes,
                  bool is_interleaved)
      : processor_(processor), is_interleaved_(is_interleaved) {
    weights_ = {weights_of(q_b), weights_of(k), pointer<const float>(std::get<0>(others)),
                pointer<const float>(std::get<1>(others)), std::get<2>(others),
                pointer<const float>(std::get<3>(others)), std::get<0>(sizes), std::get<1>(sizes), std::get<2>(sizes)};
  }

  void run(uintptr_t hidden, uintptr_t latent, int tokens, const RotationArgs& rotation, uintptr_t query, uintptr_t key,
           uintptr_t head_weights) const {
    nb::gil_scoped_release released;
    index_inputs(processor_.unit(), processor_.loops(), processor_.pool(), weights_, pointer<const float>(hidden),
                 pointer<const float>(latent), tokens, rotation_of(rotation, is_interleaved_),
                 {pointer<float>(query), pointer<float>(key), pointer<float>(head_weights)});
  }

 private:
  const Processor& processor_;
  IndexInputWeights weights_;
  bool is_interleaved_;
};

// Pool, element, bytes a row, slots.
using RowsArgs = std::tuple<uintptr_t, int, size_t, uintptr_t>;
// Positions or 0, choices, position of the first token.
using VisibleArgs = std::tuple<uintptr_t, int, int64_t>;

CachedRows rows_of(const RowsArgs& rows) {
  return {pointer<const uint8_t>(std::get<0>(rows)), static_cast<Element>(std::get<1>(rows)), std::get<2>(rows),
          pointer<const int64_t>(std::get<3>(rows))};
}

Visible visible_of(const VisibleArgs& visible) {
  return {pointer<const int32_t>(std::get<0>(visible)), std::get<1>(visible), std::get<2>(visible)};
}

class MlaAttendCall {
 public:
  MlaAttendCall(const Processor& processor, const MatrixArgs& key, const MatrixArgs& value,
                std::tuple<int, int, int, int> sizes)
      : processor_(processor) {
    attention_ = {weights_of(key), weights_of(value), std::get<0>(sizes), std::get<1>(sizes), 0,
                  std::get<2>(sizes), std::get<3>(sizes), 1.0f};
  }

  void run(std::tuple<uintptr_t, uintptr_t, size_t, size_t> query, int tokens, int rope,
           const RowsArgs& rows, const VisibleArgs& visible, float scale, uintptr_t out) const {
    nb::gil_scoped_release released;
    MlaAttention attention = attention_;
    attention.rope = rope;
    attention.scale = scale;
    mla_attend(processor_.unit(), processor_.loops(), processor_.pool(), attention,
               {pointer<const float>(std::get<0>(query)), pointer<const float>(std::get<1>(query)), std::get<2>(query),
                std::get<3>(query), tokens, rows_of(rows), visible_of(visible), pointer<float>(out)});
  }

 private:
  const Processor& processor_;
  MlaAttention attention_;
};

void attend_in_groups(const Processor& processor, uintptr_t query, std::tuple<int, int, int, int> sizes, float scale,
                      const RowsArgs& keys, const RowsArgs& values, int64_t first_position, uintptr_t out) {
  nb::gil_scoped_release released;
  gqa_attend(processor.loops(), processor.pool(),
             {pointer<const float>(query), std::get<0>(sizes), std::get<1>(sizes), std::get<2>(sizes),
              std::get<3>(sizes), scale, rows_of(keys), rows_of(values), {nullptr, 0, first_position},
              pointer<float>(out)});
}

class RouteCall {
 public:
  RouteCall(const Processor& processor, uintptr_t weight, uintptr_t bias, std::tuple<int, int, int> sizes,
            bool is_normalised, float factor)
      : processor_(processor) {
    router_ = {pointer<const float>(weight), pointer<const float>(bias), std::get<0>(sizes), std::get<1>(sizes),
               std::get<2>(sizes), is_normalised, factor};
  }

  void run(uintptr_t x, int tokens, uintptr_t ids, uintptr_t weights) const {
    nb::gil_scoped_release released;
    route(processor_.loops(), router_, pointer<const float>(x), tokens, pointer<int64_t>(ids), pointer<float>(weights));
  }

 private:
  const Processor& processor_;
  Router router_;
};

constexpr int kNormRowsAPiece = 8;

void norm_rows(const Processor& processor, uintptr_t x, size_t x_stride, uintptr_t weight, float eps, int rows,
               int width, uintptr_t out) {
  nb::gil_scoped_release released;
  const VectorLoops& loops = processor.loops();
  processor.pool().run((rows + kNormRowsAPiece - 1) / kNormRowsAPiece, [&](int piece) {
    for (int row = piece * kNormRowsAPiece; row < std::min(rows, (piece + 1) * kNormRowsAPiece); ++row) {
      const size_t at = static_cast<size_t>(row);
      loops.rms_norm(pointer<const float>(x) + at * x_stride, pointer<const float>(weight), eps, width,
                     pointer<float>(out) + at * static_cast<size_t>(width));
    }
  });
}

}  // namespace

void bind_steps(nb::module_& m) {
  m.attr("FEW_TOKENS") = kFewTokens;
  m.def("rms_norm", &norm_rows, nb::arg("processor"), nb::arg("x"), nb::arg("x_stride"), nb::arg("weight"),
        nb::arg("eps"), nb::arg("rows"), nb::arg("width"), nb::arg("out"));
  m.def("gqa_attend", &attend_in_groups, nb::arg("processor"), nb::arg("query"), nb::arg("sizes"), nb::arg("scale"),
        nb::arg("keys"), nb::arg("values"), nb::arg("first_position"), nb::arg("out"));
  nb::class_<MlaInputsCall>(m, "MlaProjections")
      .def(nb::init<const Processor&, const MatrixArgs&, const MatrixArgs&, const MatrixArgs&,
                    std::tuple<uintptr_t, uintptr_t, float>, std::tuple<int, int, int, int>, std::tuple<bool, bool>>(),
           nb::keep_alive<1, 2>(), nb::arg("processor"), nb::arg("q_a"), nb::arg("q_b"), nb::arg("kv_a"),
           nb::arg("norms"), nb::arg("sizes"), nb::arg("kind"))
      .def("run", &MlaInputsCall::run, nb::arg("hidden"), nb::arg("tokens"), nb::arg("rotation"), nb::arg("latent"),
           nb::arg("query"), nb::arg("row"));
  nb::class_<IndexInputsCall>(m, "IndexProjections")
      .def(nb::init<const Processor&, const MatrixArgs&, const MatrixArgs&,
                    std::tuple<uintptr_t, uintptr_t, float, uintptr_t>, std::tuple<int, int, int>, bool>(),
           nb::keep_alive<1, 2>(), nb::arg("processor"), nb::arg("q_b"), nb::arg("k"), nb::arg("others"),
           nb::arg("sizes"), nb::arg("is_interleaved"))
      .def("run", &IndexInputsCall::run, nb::arg("hidden"), nb::arg("latent"), nb::arg("tokens"), nb::arg("rotation"),
           nb::arg("query"), nb::arg("key"), nb::arg("head_weights"));
  nb::class_<MlaAttendCall>(m, "MlaAttend")
      .def(nb::init<const Processor&, const MatrixArgs&, const MatrixArgs&, std::tuple<int, int, int, int>>(),
           nb::keep_alive<1, 2>(), nb::arg("processor"), nb::arg("key"), nb::arg("value"), nb::arg("sizes"))
      .def("run", &MlaAttendCall::run, nb::arg("query"), nb::arg("tokens"), nb::arg("rope"), nb::arg("rows"),
           nb::arg("visible"),
           nb::arg("scale"), nb::arg("out"));
  nb::class_<RouteCall>(m, "Router")
      .def(nb::init<const Processor&, uintptr_t, uintptr_t, std::tuple<int, int, int>, bool, float>(),
           nb::keep_alive<1, 2>(), nb::arg("processor"), nb::arg("weight"), nb::arg("bias"), nb::arg("sizes"),
           nb::arg("is_normalised"), nb::arg("factor"))
      .def("run", &RouteCall::run, nb::arg("x"), nb::arg("tokens"), nb::arg("ids"), nb::arg("weights"));
}

}  // namespace longlens
