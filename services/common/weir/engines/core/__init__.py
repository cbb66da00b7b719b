"""The engine core: inference in its own process, reached over a socket pair."""
