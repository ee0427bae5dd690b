"""RESULTS.md, written from the JSON of the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = """# Benchmark results

Written by `python -m benchmarks` from `results/*.json`; do not edit. Each figure is a ratio of two forms, timed in
turn (A B A B …) in one run, or an amount with a bar; shown are the median and, in brackets, minimum and maximum of the
runs. A bar is reached if the median reaches it, or every run where marked *every*. Methods: README.md and the file of
the same name.

"""


def render(results: Sequence[Mapping[str, Any]], not_measured: Sequence[str] = ()) -> str:
    """Return RESULTS.md for the parsed `results`, one section each, and missing measurements at the end."""
    parts = [HEAD, _machines(results), _summary(results)]
    parts += [_section(result) for result in results]
    missing = [f"- {result['name']}: {line}" for result in results for line in result["not_measured"]]
    missing += [f"- {line}" for line in not_measured]
    if missing:
        parts.append("## Not measured yet\n\n" + "\n".join(missing) + "\n")
    return "\n".join(parts)


def read_results(folder: Path, order: Sequence[str]) -> list[dict[str, Any]]:
    """Return the available results in `folder` of the benchmarks in `order`."""
    paths = [folder / f"{name}.json" for name in order]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _machines(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each machine, with its letter."""
    lines = ["Machines, with the letter of each figure:", ""]
    lines += [f"- {letter}: {name}." for name, letter in _letters(results).items()]
    loads = [result["machine"]["load_before"] for result in results]
    load_note = (
        f"The machine was shared: when the benchmarks began, {min(loads)} to {max(loads)} processes of other jobs were "
        "ready to run on it (load average). Ratios are less affected than times; spreads are wider.\n"
        if loads and max(loads) > 0.5
        else ""
    )
    return "\n".join([*lines, "", load_note])


def _letters(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a letter for each machine description, in the order of the results."""
    names = dict.fromkeys(_description(result["machine"]) for result in results)
    return {name: chr(ord("A") + number) for number, name in enumerate(names)}


def _description(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cores']} cores of {machine['processor'].strip()}, AVX-512 BF16 "
        f"{'yes' if machine['avx512_bf16'] else 'no'}, AMX {'yes' if machine['amx'] else 'no'}, "
        f"Python {machine['python']}"
    )


def _summary(results: Sequence[Mapping[str, Any]]) -> str:
    letters = _letters(results)
    rows = ["| part | on, load | figure | bar | measured | reached |", "|---|---|---|---|---|---|"]
    for result in results:
        machine = result["machine"]
        where = f"{letters[_description(machine)]}, {machine['load_before']}"
        for figure in result["figures"]:
            if figure["bar"] is not None:
                rows.append(
                    f"| {result['name']} | {where} | {figure['what']} / {figure['against']} | {_bar(figure)} "
                    f"| {_measured(figure)} | {'yes' if figure['reached'] else '**no**'} |"
                )
    return "## Bars\n\n" + "\n".join(rows) + "\n"


def _section(result: Mapping[str, Any]) -> str:
    rows = ["| what | against | measured | runs | bar | |", "|---|---|---|---|---|---|"]
    for figure in result["figures"]:
        rows.append(
            f"| {figure['what']} | {figure['against']} | {_measured(figure)} | {figure['spread']['runs']} "
            f"| {_bar(figure)} | {figure['note']} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    where = (
        f"{result['date']}, {result['machine']['processor'].strip()}, load before {result['machine']['load_before']}"
    )
    lines = [f"## {result['name']}: {result['title']}", "", f"{where}; {versions}.", "", *rows, ""]
    lines += [f"- {remark}" for remark in result["remarks"]]
    return "\n".join(lines) + "\n"


def _bar(figure: Mapping[str, Any]) -> str:
    if figure["bar"] is None:
        return "–"
    return (
        f"{'≥' if figure['at_least'] else '≤'} {figure['bar']:g} {figure['unit']}{', every' if figure['every'] else ''}"
    )


def _measured(figure: Mapping[str, Any]) -> str:
    spread = figure["spread"]
    if spread["runs"] == 1:
        return f"{_digits(spread['median'])} {figure['unit']}"
    least, greatest = _digits(spread["minimum"]), _digits(spread["maximum"])
    return f"{_digits(spread['median'])} {figure['unit']} ({least} – {greatest})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
