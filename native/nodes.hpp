// Memory nodes (NUMA): which processors are near to which memory.
#pragma once

#include <string>
#include <vector>

namespace longlens {

// The processors of every node that this process may run on; nodes without any are left out. One empty list where the
// system does not say, or where there is one node: then nothing is pinned.
using Nodes = std::vector<std::vector<int>>;

// Source: Linux, Documentation/ABI/stable/sysfs-devices-node; `folder` is where the node folders lie.
Nodes usable_nodes(const std::string& folder = "/sys/devices/system/node");

// "0-3,8" is 0, 1, 2, 3, 8; what cannot be read ends the list.
std::vector<int> read_processor_list(const std::string& text);

// Keeps the calling thread on these processors; an empty list leaves it where it is.
void stay_on(const std::vector<int>& processors);

// The processor that the calling thread runs on; -1 where the system does not say.
int current_processor();

}  // namespace longlens
