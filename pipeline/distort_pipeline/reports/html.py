"""HTML templates with escaped text; an undefined variable is an error."""

from __future__ import annotations

from functools import cache

import jinja2

from distort_pipeline.reports.numbers import in_bits, parameter_text, settings_text


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
