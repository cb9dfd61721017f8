#include "cpu_features.hpp"

#ifdef LONGLENS_X86
#include <cpuid.h>
#endif
#if defined(LONGLENS_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace longlens {

#ifdef LONGLENS_X86
// Every processor with AVX2 converts halves in hardware (F16C).
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

namespace {

// Linux gives the memory that tiles are saved in only to processes that ask: arch_prctl(ARCH_REQ_XCOMP_PERM, TILEDATA).
// Source: the kernel's Documentation/arch/x86/xstate.rst.
bool ask_for_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool has_tile_instructions() {
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25, kSavesState = 1u << 27;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kSavesState) == 0) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTiles) == 0 || (d & kInt8) == 0) return false;
  // the operating system saves both the configuration and the data of tiles
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3) == 3;
}

}  // namespace

bool has_amx() {
#ifdef LONGLENS_AMX
  static const bool is_there = has_avx512() && has_tile_instructions() && ask_for_tiles();
  return is_there;
#else
  return false;
#endif
}
#endif

std::vector<const Unit*> runnable_units() {
  std::vector<const Unit*> units;
#ifdef LONGLENS_AMX
  if (has_amx()) units.push_back(&amx_unit());
#endif
#ifdef LONGLENS_X86
  if (has_avx512()) units.push_back(&avx512_unit());
  if (has_avx2()) units.push_back(&avx2_unit());
#endif
  units.push_back(&plain_unit());
  return units;
}

const Unit* find_unit(const std::string& name) {
  for (const Unit* unit : runnable_units()) {
    if (name.empty() || name == unit->name) return unit;
  }
#ifdef LONGLENS_X86
  if (has_avx512() && name == emulated_amx_unit().name) return &emulated_amx_unit();
#endif
  return nullptr;
}

}  // namespace longlens
