#include "nodes.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#ifdef __linux__
#include <sched.h>
#endif

namespace longlens {
namespace {

bool read_line(const std::string& path, std::string& line) {
  std::ifstream file(path);
  return static_cast<bool>(std::getline(file, line));
}

#ifdef __linux__
// Machines with more processors than a cpu_set_t holds (1,024) are taken as one node.
std::vector<int> usable(const std::vector<int>& processors) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return {};
  std::vector<int> kept;
  for (int processor : processors) {
    if (processor >= 0 && processor < CPU_SETSIZE && CPU_ISSET(processor, &mask)) kept.push_back(processor);
  }
  return kept;
}
#else
std::vector<int> usable(const std::vector<int>&) { return {}; }
#endif

}  // namespace

std::vector<int> read_processor_list(const std::string& text) {
  std::vector<int> processors;
  const char* at = text.c_str();
  for (;;) {
    char* end = nullptr;
    const long first = std::strtol(at, &end, 10);
    if (end == at) return processors;
    long last = first;
    at = end;
    if (*at == '-') {
      last = std::strtol(at + 1, &end, 10);
      if (end == at + 1) return processors;
      at = end;
    }
    if (first < 0 || last < first || last > 1 << 16) return processors;
    for (long processor = first; processor <= last; ++processor) processors.push_back(static_cast<int>(processor));
    if (*at != ',') return processors;
    ++at;
  }
}

Nodes usable_nodes(const std::string& folder) {
  std::string online;
  Nodes nodes;
  if (read_line(folder + "/online", online)) {
    for (int node : read_processor_list(online)) {
      std::string list;
      if (!read_line(folder + "/node" + std::to_string(node) + "/cpulist", list)) continue;
      std::vector<int> processors = usable(read_processor_list(list));
      if (!processors.empty()) nodes.push_back(std::move(processors));
    }
  }
  return nodes.size() > 1 ? nodes : Nodes(1);
}

#ifdef __linux__
void stay_on(const std::vector<int>& processors) {
  if (processors.empty()) return;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (int processor : processors) CPU_SET(processor, &mask);
  // refused where the process may not run there (any more): then the thread runs where it may
  sched_setaffinity(0, sizeof(mask), &mask);
}

int current_processor() { return sched_getcpu(); }
#else
void stay_on(const std::vector<int>&) {}

int current_processor() { return -1; }
#endif

}  // namespace longlens
