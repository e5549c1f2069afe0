"""KubernetesSettings has the fields that the program knows."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from longshore.errors import UsageError
from longshore.kubernetes import KubernetesSettings

SETTINGS = Path(__file__).parents[2] / "crates" / "kubernetes" / "src" / "settings.rs"


def test_the_fields_are_the_programs():
    listed = re.search(r"const FIELDS: \[&str; \d+\] = \[(.*?)\];", SETTINGS.read_text(), re.DOTALL)
    assert listed
    assert re.findall(r'"(\w+)"', listed[1]) == [field.name for field in fields(KubernetesSettings)]


def test_what_is_set_is_in_the_document():
    tolerations = [{"key": "spot", "operator": "Exists"}]
    settings = KubernetesSettings(service_account="trainer", tolerations=tolerations)
    assert settings.document() == {"service_account": "trainer", "tolerations": tolerations}


def test_an_unknown_field_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="no field `node_selektor`; did you mean `node_selector`"):
        KubernetesSettings(node_selektor={"a": "b"})
