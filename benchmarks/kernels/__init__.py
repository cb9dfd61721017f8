"""Products of the C++ kernels against what this machine can do."""
