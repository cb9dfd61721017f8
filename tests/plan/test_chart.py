from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

from longlens.plan.chart import Chart, Curve, draw_chart

CHART = Chart(
    "a < b & c",
    "context in tokens",
    "bytes",
    (Curve("one", ((8192, 10.0), (16_384, 1000.0))), Curve("two", ((8192, 100.0), (16_384, 100.0)))),
)


def test_a_chart_is_well_formed_and_names_everything() -> None:
    root = ET.fromstring(draw_chart(CHART))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"a < b & c", "context in tokens", "bytes", "one", "two", "8K", "16K"} <= set(words)


def pixels(svg: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r"<polyline points='([^']*)'", svg)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line.split())] for line in lines]


def test_both_axes_are_logarithmic_and_y_grows_upwards() -> None:
    one, two = pixels(draw_chart(CHART))
    assert one[0][0] == two[0][0] < one[1][0] == two[1][0]
    assert one[0][1] > two[0][1] == two[1][1] > one[1][1]
    # 100 lies half-way between 10 and 1,000.
    assert abs((one[0][1] + one[1][1]) / 2 - two[0][1]) < 0.2


def test_a_single_point_still_has_axes() -> None:
    (line,) = pixels(draw_chart(Chart("t", "x", "y", (Curve("c", ((8192, 10.0),)),))))
    assert len(line) == 1


def test_a_chart_survives_json() -> None:
    document = json.loads(json.dumps(CHART.as_json()))
    assert document["curves"][0] == {"name": "one", "points": [[8192, 10.0], [16_384, 1000.0]]}
    assert (document["title"], document["x_name"], document["y_name"]) == ("a < b & c", "context in tokens", "bytes")


def test_no_two_of_many_curves_are_drawn_alike() -> None:
    curves = tuple(Curve(f"curve {n}", ((8192, 10.0 + n), (16_384, 20.0 + n))) for n in range(12))
    strokes = re.findall(
        r"<polyline [^>]*fill='none' (stroke=[^/]*) stroke-width", draw_chart(Chart("t", "x", "y", curves))
    )
    assert len(strokes) == len(set(strokes)) == 12


def test_the_names_of_many_curves_stay_inside_the_picture() -> None:
    curves = tuple(Curve(f"curve {n}", ((8192, 10.0 + n),)) for n in range(40))
    root = ET.fromstring(draw_chart(Chart("t", "x", "y", curves)))
    height = float(root.attrib["viewBox"].split()[3])
    last = next(element for element in root.iter() if element.text == "curve 39")
    assert float(last.attrib["y"]) < height
