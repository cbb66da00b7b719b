"""Blocks of KV cache: a pool of fixed size, and the token sequences that hold blocks of it."""

from __future__ import annotations

from weir.engines.core.backend import RequestFailed


class KvPool:
    """Numbers of free blocks. The last one freed is the first one taken: memory once touched stays in use."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self.blocks = blocks
        self._free = list(range(blocks - 1, -1, -1))

    @property
    def used(self) -> float:
        """Share of the blocks that are held, 0 to 1."""
        return 1 - len(self._free) / self.blocks

    def take(self, count: int) -> list[int]:
        """Return ``count`` free blocks. Raises RequestFailed QUEUE_FULL where there are fewer."""
        if count > len(self._free):
            hint = "The engine's KV cache is full; try again later, or raise kv_cache_gb."
            raise RequestFailed("QUEUE_FULL", hint)
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: list[int]) -> None:
        """Take blocks back."""
        self._free.extend(reversed(blocks))


class Sequence:
    """Tokens fed so far, and the blocks that hold their keys and values. Rewinding is free."""

    def __init__(self, pool: KvPool) -> None:
        self._pool = pool
        self.blocks: list[int] = []
        self.length = 0

    def reserve(self, tokens: int) -> None:
        """Hold blocks for ``tokens`` tokens behind the present length. Raises RequestFailed QUEUE_FULL."""
        wanted = -(-(self.length + tokens) // self._pool.block_tokens)
        if wanted > len(self.blocks):
            self.blocks += self._pool.take(wanted - len(self.blocks))

    def rewind(self, length: int) -> None:
        """Forget everything past the first ``length`` tokens."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind {self.length} tokens to {length}")
        self.length = length
        kept = -(-length // self._pool.block_tokens)
        self._pool.give_back(self.blocks[kept:])
        del self.blocks[kept:]

    def close(self) -> None:
        """Give all blocks back. May be called twice."""
        self.rewind(0)
