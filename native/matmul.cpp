#include "matmul.hpp"

#include <algorithm>

#include "scratch.hpp"

namespace longlens {
namespace {

// Below this many bytes of weights, waking another thread costs more than it brings.
constexpr size_t kWorthAThread = 64 * 1024;
constexpr int kPiecesPerThread = 8;
// Panels that are multiplied with one tile after the other. More of them spread the cost of packing the tile; fewer
// stay nearer to the core. Measured: 1.6 MiB is as good as 0.8 and better than 0.5 and 8.
constexpr size_t kPanelBytesInCache = 1600 * 1024;

void multiply_rows(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  const Weights& weights = job.weights;
  const size_t bytes = row_bytes(weights.type, weights.width) * static_cast<size_t>(weights.rows);
  const bool is_small = bytes * static_cast<size_t>(job.tokens) < kWorthAThread;
  const int wanted = is_small ? 1 : pool.num_threads() * kPiecesPerThread;
  const int pieces = std::max(1, std::min(wanted, weights.rows / 4));
  pool.run(pieces, [&](int piece) {
    RowsJob rows{weights, &activations, {nullptr, 0, job.tokens}, 0, 0, job.out, job.out_stride};
    rows.first_row = static_cast<int>(static_cast<int64_t>(weights.rows) * piece / pieces);
    rows.last_row = static_cast<int>(static_cast<int64_t>(weights.rows) * (piece + 1) / pieces);
    unit.rows[static_cast<int>(weights.type)](rows);
  });
}

void multiply_tiles(const Unit& unit, ThreadPool& pool, const Matmul& job, const Activations& activations) {
  static thread_local Scratch panel_scratch;
  const Weights& weights = job.weights;
  const int type = static_cast<int>(weights.type);
  const size_t groups = static_cast<size_t>(activations.width) / kGroup;
  const Panels panels(job.tokens);
  const size_t panel_bytes = groups * panel_group_bytes(kPanelTokens);
  uint8_t* panel_memory = panel_scratch.of(panel_bytes * static_cast<size_t>(panels.count));
  pool.run(panels.count, [&](int panel) {
    fill_panel(activations, {nullptr, panels.first(panel), panels.size(panel)}, weights.type,
               panel_memory + panel * panel_bytes);
  });
  const int tiles = (weights.rows + kTileRows - 1) / kTileRows;
  const int most_panels = static_cast<int>(std::max<size_t>(1, kPanelBytesInCache / panel_bytes));
  const int rounds = (panels.count + most_panels - 1) / most_panels;
  const int wanted = tiles * rounds;
  pool.run(wanted, [&](int piece) {
    static thread_local Scratch tile_scratch;
    const int tile = piece % tiles, round = piece / tiles;
    uint8_t* packed = tile_scratch.of(groups * kTileGroupBytes);
    unit.pack[type](weights, tile * kTileRows, packed);
    const int rows = std::min(kTileRows, weights.rows - tile * kTileRows);
    const int last = static_cast<int>(static_cast<int64_t>(panels.count) * (round + 1) / rounds);
    for (int panel = static_cast<int>(static_cast<int64_t>(panels.count) * round / rounds); panel < last; ++panel) {
      float* out = job.out + static_cast<size_t>(panels.first(panel)) * job.out_stride + tile * kTileRows;
      unit.multiply[type](
          {packed, panel_memory + panel * panel_bytes, groups, panels.size(panel), rows, out, job.out_stride});
    }
  });
}

}  // namespace

void multiply(const Unit& unit, ThreadPool& pool, const Matmul& job) {
  static thread_local Scratch scratch;
  const int width = static_cast<int>(padded(job.weights.width));
  const Activations activations = place_activations(scratch.of(activation_bytes(job.tokens, width)), job.tokens, width);
  const int few = 8;
  const int pieces = (job.tokens + few - 1) / few;
  pool.run(pieces, [&](int piece) {
    for (int t = piece * few; t < std::min(job.tokens, (piece + 1) * few); ++t) {
      unit.quantise(job.x + static_cast<size_t>(t) * job.x_stride, job.weights.width, t, activations);
    }
  });
  if (job.tokens <= unit.most_row_tokens) {
    multiply_rows(unit, pool, job, activations);
  } else {
    multiply_tiles(unit, pool, job, activations);
  }
}

}  // namespace longlens
