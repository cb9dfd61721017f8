"""llama.cpp and transformers on the same files, tokens and machine as longlens. README.md beside this file says how."""
