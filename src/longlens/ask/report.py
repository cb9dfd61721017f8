"""An answer about a repository in words and in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from longlens.ask.answer import Preparation
from longlens.repo.places import Place

MOST_PLACES = 8


def place_lines(places: Sequence[Place], most: int = MOST_PLACES) -> Iterator[str]:
    """List the places that a model looked at most, a line each; nothing where nothing is known."""
    shown = places[:most]
    if not shown:
        return
    yield "looked at:"
    names = [f"{place.path}:{_lines(place)}" for place in shown]
    width = max(map(len, names))
    for place, name in zip(shown, names, strict=True):
        note = "  (removed since)" if place.is_removed else ""
        yield f"  {name:<{width}}  {place.share:6.1%}{note}"
    rest = len(places) - len(shown)
    if rest > 0:
        share = sum(place.share for place in places[most:])
        yield f"  and {rest} more places, {share:.1%} together"


def pack_lines(ready: Preparation, *, is_verbose: bool) -> Iterator[str]:
    """Say what was packed, and what was left out; every path with its reason if verbose."""
    updated = ready.updated
    state = "new" if updated.is_new_base else "kept"
    yield (
        f"pack: {len(updated.pack.base)} files, base {updated.base_tokens} tokens ({state}), "
        f"{len(updated.pack.changes)} changes {updated.changes_tokens} tokens"
    )
    yield from (f"pack: {sentence}" for sentence in updated.said)
    if is_verbose:
        yield from (f"left out: {each.path}: {each.reason}" for each in updated.left_out)
    elif updated.left_out:
        reasons = Counter(each.reason for each in updated.left_out).most_common(3)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons)
        yield f"pack: {len(updated.left_out)} paths left out ({why}); --verbose names them"


def pack_as_json(ready: Preparation) -> dict[str, object]:
    """Plain values about the pack, for `ask --json`."""
    updated = ready.updated
    return {
        "files": len(updated.pack.base),
        "changes": len(updated.pack.changes),
        "base_tokens": updated.base_tokens,
        "changes_tokens": updated.changes_tokens,
        "is_new_base": updated.is_new_base,
        "left_out": [{"path": each.path, "reason": each.reason} for each in updated.left_out],
        "notes": list(updated.said),
    }


def _lines(place: Place) -> str:
    return str(place.start) if place.start == place.end else f"{place.start}-{place.end}"
