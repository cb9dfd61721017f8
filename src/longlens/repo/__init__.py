"""A repository as one prompt: which files, in which bytes, at which positions, and what the model looked at."""
