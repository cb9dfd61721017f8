"""The page pool: memory for every cached tensor, handed out in pages that sequences may share."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from longlens.cache.layer_state import LayerState, allocate_layer_state
from longlens.errors import CapacityError, UsageError
from longlens.model.state import CacheKind, CacheSpec


class PagePool:
    """Pages of token slots. A page covers the same slots of every tensor of the spec, so none can be forgotten.

    Slot `page * page_tokens + offset` is a row in each tensor. A page is free, or used by one or more sequences.
    """

    def __init__(self, spec: CacheSpec, num_pages: int, device: torch.device | str) -> None:
        """Allocate the memory of all pages.

        Args:
            spec: the tensors that a token's rows are made of.
            num_pages: pages to allocate, at least one.
            device: where they live.

        Raises:
            UsageError: no pages are asked for.
            CapacityError: the device has no room for them.
        """
        if num_pages < 1 or spec.page_tokens < 1:
            raise UsageError(
                f"a cache of {num_pages} pages of {spec.page_tokens} tokens holds nothing",
                "ask for at least one page of at least one token",
            )
        self.spec = spec
        self.num_pages = num_pages
        self.device = torch.device(device)
        num_slots = num_pages * spec.page_tokens
        self._states: dict[tuple[CacheKind, int], LayerState] = {
            (tensor.kind, tensor.layer): allocate_layer_state(tensor, num_slots, self.device) for tensor in spec.tensors
        }
        # The lowest page is handed out first, so that a young cache stays in one run of memory.
        self._free = list(range(num_pages - 1, -1, -1))
        self._references = [0] * num_pages

    @property
    def page_tokens(self) -> int:
        """Token slots of one page."""
        return self.spec.page_tokens

    @property
    def num_tokens(self) -> int:
        """Token slots of all pages."""
        return self.num_pages * self.page_tokens

    @property
    def num_free_pages(self) -> int:
        """Pages that nobody uses."""
        return len(self._free)

    @property
    def num_used_pages(self) -> int:
        """Pages that at least one sequence uses."""
        return sum(count > 0 for count in self._references)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the memory behind all pages, free ones included, as torch allocated it."""
        return sum(state.allocated_bytes for state in self._states.values())

    def layer_state(self, kind: CacheKind, layer: int) -> LayerState:
        """The memory of one cached tensor.

        Raises:
            UsageError: the spec has no such tensor.
        """
        state = self._states.get((kind, layer))
        if state is None:
            layers = sorted(known for name, known in self._states if name == kind)
            raise UsageError(
                f"layer {layer} caches no {kind}",
                f"layers with {kind} rows are {layers}" if layers else f"this model caches no {kind} rows at all",
            )
        return state

    def references(self, page: int) -> int:
        """How many sequences use a page."""
        return self._references[page]

    def allocate(self, num_pages: int) -> list[int]:
        """Take free pages, all or none; each is then used once.

        Raises:
            CapacityError: fewer pages are free.
        """
        if num_pages > len(self._free):
            raise CapacityError(
                f"the cache needs {num_pages} more pages of {self.page_tokens} tokens, {len(self._free)} of "
                f"{self.num_pages} are free",
                "close or rewind a session, or give the cache more tokens (--context)",
            )
        pages = [self._free.pop() for _ in range(num_pages)]
        for page in pages:
            self._references[page] = 1
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """Let one more sequence use each of these pages."""
        for page in pages:
            self._check_used(page)
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """End one sequence's use of each of these pages; a page that nobody uses is free again."""
        for page in pages:
            self._check_used(page)
            self._references[page] -= 1
            if self._references[page] == 0:
                self._free.append(page)

    def copy_page(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first rows of one page to another, in every tensor of the spec."""
        for state in self._states.values():
            state.copy(source * self.page_tokens, target * self.page_tokens, num_tokens)

    def _check_used(self, page: int) -> None:
        if not 0 <= page < self.num_pages or self._references[page] == 0:
            raise UsageError(f"page {page} is not in use", "a page is released once by each sequence that uses it")
