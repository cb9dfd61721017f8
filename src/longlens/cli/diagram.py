"""Draws which layers choose positions and which reuse them, as an SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

from longlens.model.config import ModelConfig

_PER_ROW = 13
_WIDTH, _HEIGHT, _GAP = 56, 34, 8
_LEFT, _TOP = 24, 64
_FULL, _SHARED, _MTP = "#1f6feb", "#d0d7de", "#8250df"
_STYLE = "font-family='ui-monospace, monospace' font-size='12'"


def draw_schedule(config: ModelConfig, title: str) -> str:
    """Draw the layers of a model, left to right and row by row: full layers filled, shared ones pointing at theirs.

    Returns:
        An SVG document.
    """
    cells = [_cell(config, layer) for layer in range(config.num_hidden_layers)]
    cells += [_mtp_cell(config.num_hidden_layers + number) for number in range(config.num_nextn_predict_layers)]
    num_rows = -(-len(cells) // _PER_ROW)
    width = 2 * _LEFT + min(len(cells), _PER_ROW) * (_WIDTH + _GAP)
    height = _TOP + num_rows * (_HEIGHT + _GAP) + 24
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {max(width, 520)} {height}' {_STYLE}>"
        f"<rect width='100%' height='100%' fill='white'/>"
        f"<text x='{_LEFT}' y='26' font-size='15'>{escape(title)}</text>"
        f"<text x='{_LEFT}' y='46' fill='#57606a'>{escape(_legend(config))}</text>"
    )
    return head + "".join(cells) + "</svg>\n"


def _legend(config: ModelConfig) -> str:
    if config.indexer is None:
        return f"{config.num_hidden_layers} layers, dense attention, no indexer"
    full = len(config.indexer.full_layers)
    shared = config.num_hidden_layers - full
    return f"{full} full layers choose {config.indexer.index_topk} positions; {shared} shared layers reuse them"


def _cell(config: ModelConfig, layer: int) -> str:
    if config.indexer is None:
        return _box(layer, _SHARED, "black", "dense")
    leader = config.indexer.leader_of(layer)
    if leader == layer:
        return _box(layer, _FULL, "white", "full")
    return _box(layer, _SHARED, "black", f"→ {leader}")


def _mtp_cell(layer: int) -> str:
    return _box(layer, _MTP, "white", "MTP")


def _box(layer: int, fill: str, ink: str, word: str) -> str:
    x = _LEFT + layer % _PER_ROW * (_WIDTH + _GAP)
    y = _TOP + layer // _PER_ROW * (_HEIGHT + _GAP)
    middle = x + _WIDTH // 2
    return (
        f"<rect x='{x}' y='{y}' width='{_WIDTH}' height='{_HEIGHT}' rx='4' fill='{fill}'/>"
        f"<text x='{middle}' y='{y + 14}' fill='{ink}' text-anchor='middle'>{layer}</text>"
        f"<text x='{middle}' y='{y + 28}' fill='{ink}' text-anchor='middle' font-size='10'>{word}</text>"
    )
