"""What is served as OpenAPI 3.1, held against made-up requests: no fault, and no answer that breaks the schema."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.openapi import document
from gateway.operations import OPERATIONS, Operation
from tests.gateway.fronts import Front

EXAMPLES = 5
"""Of each operation, of what the schema allows and of what it does not."""
NEVER_END = ("stream", "stream_asked")
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
LATE = 504
"""A deadline of a millisecond is one that the schema allows."""


@pytest.mark.parametrize("one", [one for one in OPERATIONS if one.name not in NEVER_END], ids=lambda one: one.name)
def test_no_answer_breaks_what_is_served_as_openapi(door: Front, one: Operation) -> None:
    schema: Any = schemathesis.openapi.from_dict(document())
    operation = schema.find_operation_by_id(one.name)
    takes_nothing = one.takes is None and not one.query and "{" not in one.path
    url = f"http://127.0.0.1:{door.settings.gateway.port}"
    once = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with requests.Session() as session:
        for mode in [GenerationMode.POSITIVE] if takes_nothing else list(GenerationMode):

            @once
            @given(case=operation.as_strategy(generation_mode=mode))
            def hold(case: Any) -> None:
                answer = case.call_and_validate(base_url=url, session=session, checks=CHECKS, timeout=30)
                assert answer.status_code < 500 or answer.status_code == LATE, answer.text

            hold()
