from __future__ import annotations

from dataclasses import replace

from evenhand.reporting import Report, UnitShare
from evenhand.reporting.page import render
from evenhand.reporting.sections.units import unit_view


def test_map_has_depth_across_and_kind_down() -> None:
    embed = UnitShare("patch_embed", 0, "embed", 100, tuned=False)
    attn = UnitShare("blocks.0.attn", 1, "attn", 300, tuned=True)
    deep = UnitShare("blocks.1.attn", 2, "attn", 600, tuned=False)
    view = unit_view([embed, deep, attn])
    assert view.depths == (0, 1, 2)
    assert view.kinds == (("embed", ((embed,), (), ())), ("attn", ((), (attn,), (deep,))))
    assert (view.tuned, view.units, view.tuned_parameters, view.parameters) == (1, 3, 300, 1000)
    assert (view.share, view.share_text) == (30.0, "30.0\N{NO-BREAK SPACE}%")


def test_only_a_search_has_a_best_mask(tuned: Report) -> None:
    assert "What the best mask tunes" in render(tuned)
    page = render(replace(tuned, search=None))
    assert "What fine-tuning may change" in page
    assert "best mask" not in page
