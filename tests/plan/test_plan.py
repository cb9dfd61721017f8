from __future__ import annotations

import json

from longlens.plan.plan import Plan
from longlens.plan.planner import Wishes, make_plan
from tests.plan.test_planner import MACHINE, tiny


def test_a_plan_survives_json_with_its_fields_in_order() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    read = json.loads(json.dumps(plan.as_json()))
    assert list(read)[:2] == ["model", "context"]
    assert Plan(**read) == plan
