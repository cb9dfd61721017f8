// What one instruction set offers. Every unit is a translation unit with compiler flags of its own, so nothing in its
// headers may be an inline function with external linkage: the linker could hand its code to a smaller processor.
#pragma once

#include "activations.hpp"
#include "formats.hpp"

namespace longlens {

// Rows `first_row` .. `last_row - 1` of a matrix times the chosen tokens: out[i * out_stride + row] for choice i.
// `arranged` holds the same tokens in the unit's own order, where it has one.
struct RowsJob {
  Weights weights;
  const Activations* activations;
  TokenChoice tokens;
  const uint8_t* arranged;
  int first_row;
  int last_row;
  float* out;
  size_t out_stride;
};

constexpr int kTileRows = 16;
// One group of 32 columns of a tile: q[8][16][4] uint8 | scale[16] f32 | minimum or second scale [16] f32.
constexpr size_t kTileGroupBytes = 8 * kTileRows * 4 + 2 * kTileRows * 4;

// Some chunks of sixteen rows (fewer at a matrix's end), which become a tile.
struct PackJob {
  Weights weights;
  int first_row;
  int first_chunk;
  int last_chunk;
};

// A tile times a panel: out[token * out_stride + row] for `rows` rows, added to what is there if `adds`.
struct TileJob {
  const uint8_t* tile;
  const uint8_t* panel;
  size_t groups;
  int tokens;
  int rows;
  float* out;
  size_t out_stride;
  bool adds;
};

struct Unit {
  const char* name;
  // The tokens that `rows` takes best at once; above, tiles are used where the unit has them.
  int most_row_tokens;
  void (*quantise)(const float* x, int width, int token, const Activations& out);
  // gate[i] = silu(gate[i]) * up[i]
  void (*swiglu)(float* gate, const float* up, int count);
  // The order in which `rows` reads tokens, and its size (memory aligned to 64); null where it reads `Activations`.
  size_t (*arranged_bytes)(int tokens, int width);
  void (*arrange)(const Activations& activations, const TokenChoice& tokens, Type type, uint8_t* out);
  void (*rows[kNumTypes])(const RowsJob& job);
  // Null where the unit has no tiles.
  void (*pack[kNumTypes])(const PackJob& job, uint8_t* tile);
  void (*multiply[kNumTypes])(const TileJob& job);
  // Panels for `multiply`: their most tokens, and how they are laid out, in at most panel_group_bytes(panel_tokens) a
  // group.
  int panel_tokens = kPanelTokens;
  void (*fill_panel)(const Activations& activations, const TokenChoice& tokens, Type type, uint8_t* panel) =
      longlens::fill_panel;
  // Whether a panel's groups lie one after the other, so that `multiply` may be given a stretch of them.
  bool has_cut_panels = true;
};

const Unit& plain_unit();
#ifdef LONGLENS_X86
const Unit& avx2_unit();
const Unit& avx512_unit();
const Unit& emulated_amx_unit();
#endif
#ifdef LONGLENS_AMX
const Unit& amx_unit();
#endif

}  // namespace longlens
