#include "experts.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "scratch.hpp"

namespace longlens {
namespace {

constexpr int kPiecesPerThread = 8;

// Which tokens an expert has: places first .. first + count - 1 of `tokens` and `weights`, which are sorted by expert.
struct Share {
  int expert, first, count;
};

struct Routing {
  std::vector<Share> shares;
  std::vector<int> tokens;
  std::vector<float> weights;
};

Routing sort_by_expert(const ExpertsJob& job) {
  std::vector<int> starts(static_cast<size_t>(job.experts) + 1, 0);
  const int total = job.tokens * job.choices;
  for (int i = 0; i < total; ++i) {
    if (job.ids[i] < 0 || job.ids[i] >= job.experts) throw std::out_of_range("a chosen expert does not exist");
  }
  for (int i = 0; i < total; ++i) ++starts[static_cast<size_t>(job.ids[i]) + 1];
  Routing routing;
  for (int e = 0; e < job.experts; ++e) {
    const int count = starts[static_cast<size_t>(e) + 1];
    starts[static_cast<size_t>(e) + 1] += starts[static_cast<size_t>(e)];
    if (count > 0) routing.shares.push_back({e, starts[static_cast<size_t>(e)], count});
  }
  routing.tokens.resize(static_cast<size_t>(total));
  routing.weights.resize(static_cast<size_t>(total));
  for (int i = 0; i < total; ++i) {
    const int place = starts[static_cast<size_t>(job.ids[i])]++;
    routing.tokens[static_cast<size_t>(place)] = i / job.choices;
    routing.weights[static_cast<size_t>(place)] = job.weights[i];
  }
  return routing;
}

// Activations of one of the two products, as each share needs them: as rows, or as panels.
class Operands {
 public:
  Operands(const Unit& unit, const Routing& routing, const Activations& activations, const int* list, Type type)
      : unit_(unit), routing_(routing), activations_(activations), list_(list), type_(type) {
    size_t bytes = 0;
    for (size_t s = 0; s < routing.shares.size(); ++s) {
      starts_.push_back(bytes);
      const int count = routing.shares[s].count;
      if (!has_panels(routing.shares[s])) {
        if (unit.arrange == nullptr) continue;
        todo_.push_back({static_cast<int>(s), 0});
        bytes += (unit.arranged_bytes(count, activations.width) + 63) / 64 * 64;
        continue;
      }
      const int panels = Panels(count, unit.panel_tokens).count;
      for (int panel = 0; panel < panels; ++panel) todo_.push_back({static_cast<int>(s), panel});
      bytes += static_cast<size_t>(panels) * panel_bytes();
    }
    bytes_ = bytes;
  }

  bool has_panels(const Share& share) const { return share.count > unit_.most_row_tokens; }
  size_t panel_bytes() const { return groups() * panel_group_bytes(unit_.panel_tokens); }
  size_t groups() const { return static_cast<size_t>(activations_.width) / kGroup; }

  void fill(ThreadPool& pool, Scratch& memory) {
    panels_ = memory.of(bytes_ + 64);
    pool.run(static_cast<int>(todo_.size()), [&](int i) {
      const auto [s, panel] = todo_[static_cast<size_t>(i)];
      const Share& share = routing_.shares[static_cast<size_t>(s)];
      if (!has_panels(share)) {
        unit_.arrange(activations_, {list_, share.first, share.count}, type_, panel_at(static_cast<size_t>(s), 0));
        return;
      }
      const Panels panels(share.count, unit_.panel_tokens);
      unit_.fill_panel(activations_, {list_, share.first + panels.first(panel), panels.size(panel)}, type_,
                 panel_at(static_cast<size_t>(s), panel));
    });
  }

  // Some rows of a share's matrix times its tokens: out[i * stride + row], rows counted in the whole matrix. With
  // panels, `first_row` is a multiple of sixteen.
  void multiply(size_t s, const Weights& weights, int first_row, int last_row, float* out, size_t stride) const {
    static thread_local Scratch tile_scratch;
    const Share& share = routing_.shares[s];
    const int type = static_cast<int>(weights.type);
    if (!has_panels(share)) {
      const TokenChoice tokens{list_, share.first, share.count};
      unit_.rows[type]({weights, &activations_, tokens, panel_at(s, 0), first_row, last_row, out, stride});
      return;
    }
    const Panels panels(share.count, unit_.panel_tokens);
    uint8_t* tile = tile_scratch.of(groups() * kTileGroupBytes);
    for (int row = first_row; row < last_row; row += kTileRows) {
      unit_.pack[type]({weights, row, 0, activations_.width / kChunk}, tile);
      for (int panel = 0; panel < panels.count; ++panel) {
        float* at = out + static_cast<size_t>(panels.first(panel)) * stride + row;
        unit_.multiply[type](
            {tile, panel_at(s, panel), groups(), panels.size(panel), std::min(kTileRows, last_row - row), at, stride,
             false});
      }
    }
  }

 private:
  uint8_t* panel_at(size_t s, int panel) const {
    return panels_ + starts_[s] + static_cast<size_t>(panel) * panel_bytes();
  }

  const Unit& unit_;
  const Routing& routing_;
  const Activations& activations_;
  const int* list_;
  Type type_;
  std::vector<size_t> starts_;
  std::vector<std::pair<int, int>> todo_;
  size_t bytes_ = 0;
  uint8_t* panels_ = nullptr;
};

// Rows cut into pieces of a multiple of sixteen, so that a tile lies in one piece.
struct Cut {
  int rows, step, pieces;
  Cut(int num_rows, int wanted) : rows(num_rows) {
    const int tiles = (num_rows + kTileRows - 1) / kTileRows;
    step = std::max(1, tiles / std::max(1, wanted)) * kTileRows;
    pieces = (num_rows + step - 1) / step;
  }
  int first(int piece) const { return piece * step; }
  int last(int piece) const { return std::min(rows, (piece + 1) * step); }
};

void quantise_all(const Unit& unit, ThreadPool& pool, const float* x, size_t stride, int width,
                  const Activations& out) {
  constexpr int kFew = 8;
  pool.run((out.tokens + kFew - 1) / kFew, [&](int piece) {
    const int last = std::min(out.tokens, (piece + 1) * kFew);
    for (int t = piece * kFew; t < last; ++t) unit.quantise(x + static_cast<size_t>(t) * stride, width, t, out);
  });
}

}  // namespace

void run_experts(const Unit& unit, ThreadPool& pool, const ExpertsJob& job) {
  static thread_local Scratch x_memory, h_memory, panel_memory, hidden_memory;
  const Routing routing = sort_by_expert(job);
  const int slots = job.tokens * job.choices;
  const int num_shares = static_cast<int>(routing.shares.size());
  const int wanted = pool.num_threads() * kPiecesPerThread;

  const int x_width = static_cast<int>(padded(job.gate.width));
  const Activations x = place_activations(x_memory.of(activation_bytes(job.tokens, x_width)), job.tokens, x_width);
  quantise_all(unit, pool, job.x, job.x_stride, job.gate.width, x);

  // gate and up may be of different types; panels differ with the type
  const size_t width = static_cast<size_t>(job.gate.rows);
  float* gate = reinterpret_cast<float*>(hidden_memory.of(static_cast<size_t>(slots) * width * 2 * sizeof(float)));
  float* up = gate + static_cast<size_t>(slots) * width;
  const Cut cut(job.gate.rows, std::max(1, wanted / std::max(1, num_shares)));
  const bool is_same_type = job.gate.type == job.up.type;
  Operands first(unit, routing, x, routing.tokens.data(), job.gate.type);
  first.fill(pool, panel_memory);
  auto activate = [&](const Share& share, int from, int to) {
    for (int i = share.first; i < share.first + share.count; ++i) {
      const size_t at = static_cast<size_t>(i) * width + static_cast<size_t>(from);
      unit.swiglu(gate + at, up + at, to - from);
    }
  };
  pool.run(num_shares * cut.pieces, [&](int piece) {
    const size_t s = static_cast<size_t>(piece / cut.pieces);
    const Share& share = routing.shares[s];
    const int from = cut.first(piece % cut.pieces), to = cut.last(piece % cut.pieces);
    const size_t at = static_cast<size_t>(share.first) * width;
    first.multiply(s, job.gate.of(share.expert), from, to, gate + at, width);
    if (!is_same_type) return;
    first.multiply(s, job.up.of(share.expert), from, to, up + at, width);
    activate(share, from, to);
  });
  if (!is_same_type) {
    Operands second(unit, routing, x, routing.tokens.data(), job.up.type);
    second.fill(pool, panel_memory);
    pool.run(num_shares * cut.pieces, [&](int piece) {
      const size_t s = static_cast<size_t>(piece / cut.pieces);
      const Share& share = routing.shares[s];
      const int from = cut.first(piece % cut.pieces), to = cut.last(piece % cut.pieces);
      second.multiply(s, job.up.of(share.expert), from, to, up + static_cast<size_t>(share.first) * width, width);
      activate(share, from, to);
    });
  }

  const int h_width = static_cast<int>(padded(job.down.width));
  const Activations h = place_activations(h_memory.of(activation_bytes(slots, h_width)), slots, h_width);
  quantise_all(unit, pool, gate, width, job.down.width, h);
  Operands last(unit, routing, h, nullptr, job.down.type);
  last.fill(pool, panel_memory);
  const Cut out_cut(job.down.rows, wanted);
  int most = 0;
  for (const Share& share : routing.shares) most = std::max(most, share.count);
  pool.run(out_cut.pieces, [&](int piece) {
    static thread_local Scratch part_scratch;
    const int from = out_cut.first(piece), to = out_cut.last(piece);
    const size_t stride = static_cast<size_t>(to - from);
    float* part = reinterpret_cast<float*>(part_scratch.of(static_cast<size_t>(most) * stride * sizeof(float)));
    for (int t = 0; t < job.tokens; ++t) {
      std::fill_n(job.out + static_cast<size_t>(t) * job.out_stride + from, stride, 0.0f);
    }
    for (size_t s = 0; s < routing.shares.size(); ++s) {
      const Share& share = routing.shares[s];
      last.multiply(s, job.down.of(share.expert), from, to, part - from, stride);
      for (int i = 0; i < share.count; ++i) {
        const size_t slot = static_cast<size_t>(share.first + i);
        float* out = job.out + static_cast<size_t>(routing.tokens[slot]) * job.out_stride + from;
        for (size_t r = 0; r < stride; ++r) out[r] += routing.weights[slot] * part[static_cast<size_t>(i) * stride + r];
      }
    }
  });
}

}  // namespace longlens
