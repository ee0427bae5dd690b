from benchmarks.reliability import SECTIONS, render


def test_each_campaign_stands_under_its_heading_and_what_did_not_run_is_said():
    page = render({"kills-pairs": {"date": "2026-11-24", "load": 2.0, "kills": 20, "kinds": {"bit": 1234}}})
    assert "| kills-pairs | kills 20; kinds (bit 1234) | 2026-11-24 | 2.0 |" in page
    assert page.count("Not run.") == len(SECTIONS) - 1
    assert page.index("## Kills") < page.index("kills-pairs") < page.index("## Ctrl-C")
