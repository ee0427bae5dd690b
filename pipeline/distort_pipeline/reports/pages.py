"""Templates of the HTML pages, and numbers as their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

PAGE_NAME = "index.html"
SMALL_BITS = 0.001
LEAST_BITS = 0.00001  # smaller values are shown as '< 0.00001'
DIGITS = 4  # of a parameter


def in_bits(bits: float) -> str:
    """Return a divergence with four decimals, or five below SMALL_BITS; 0 is exact.

    >>> in_bits(0.1279), in_bits(0.00004), in_bits(0.000002), in_bits(0.0)
    ('0.1279', '0.00004', '< 0.00001', '0')
    """
    if bits == 0:
        return "0"
    if 0 < bits < LEAST_BITS / 2:
        return f"< {LEAST_BITS:.5f}"
    return f"{bits:.5f}" if bits < SMALL_BITS else f"{bits:.4f}"


def parameter_text(value: Any) -> str:
    """Return a value, or a range of values, to four digits.

    >>> parameter_text(24), parameter_text([27.261965, 600]), parameter_text(4.08515)
    ('24', '27.26 to 600', '4.085')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return " to ".join(map(parameter_text, value))
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings by name, without unset values.

    >>> settings_text({"tile_px": 256, "splits": ["train", "val"], "composite": [], "target": {"ssim": [0.8]}})
    'splits = train, val; target = ssim 0.8; tile_px = 256'
    """
    shown = {name: _setting(value) for name, value in sorted(values.items()) if value not in (None, [], (), {})}
    return "; ".join(f"{name} = {value}" for name, value in shown.items())


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_setting, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def template(name: str) -> jinja2.Template:
    """Return the template `name` of the folder `templates`, with the common filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distort_pipeline.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = lambda value, digits=4: "–" if value is None else f"{value:.{digits}f}"
    environment.filters["bits"] = lambda value: "–" if value is None else in_bits(value)
    environment.filters["parameter"] = parameter_text
    environment.filters["settings"] = settings_text
    environment.filters["grouped"] = lambda value: f"{value:,}" if isinstance(value, int) else str(value)
    return environment.get_template(name)
