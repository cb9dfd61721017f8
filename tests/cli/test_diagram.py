from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from longlens.cli.diagram import draw_schedule
from tests.golden_models import golden_config


def test_the_drawing_is_xml_and_its_title_cannot_break_it() -> None:
    root = ElementTree.fromstring(draw_schedule(golden_config("glm_topk8"), "<a> & b"))
    assert any(element.text == "<a> & b" for element in root)


def test_a_model_without_an_indexer_is_all_dense() -> None:
    svg = draw_schedule(golden_config("llama_tied"), "llama")
    assert ">full<" not in svg
    assert svg.count(">dense<") == golden_config("llama_tied").num_hidden_layers


def test_layers_wrap_into_rows() -> None:
    config = golden_config("llama_tied")
    tall = draw_schedule(replace(config, num_hidden_layers=40), "tall")
    assert tall.count("<rect x='24'") == 4
