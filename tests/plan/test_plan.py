from __future__ import annotations

import json

from longlens.plan.planner import Wishes, make_plan
from tests.plan.test_planner import MACHINE, tiny


def test_a_plan_survives_json_with_its_fields_in_order() -> None:
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    read = json.loads(json.dumps(plan.as_json()))
    assert list(read)[:2] == ["model", "context"]
    assert read == plan.as_json()
    assert set(read) == set(plan.__dataclass_fields__)


def test_the_contracts_fields_are_there() -> None:
    promised = {"model", "context", "weights_bytes", "kv_bytes_per_token", "kv_bytes", "index_bytes", "scratch_bytes"}
    promised |= {"tiers", "fits", "ttft_s", "decode_tokens_per_s"}
    plan = make_plan(tiny(), "tiny", MACHINE, "cpu", Wishes())
    assert promised <= set(plan.as_json())
    assert set(plan.ttft_s) == {"cold", "memory", "disk"}
