"""The templates of pages and of the model card, in this folder."""

import jinja2


def load_template(name: str) -> jinja2.Template:
    """Return a template; what it inserts into HTML is text, never markup, and a missing value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fvar.report", ""),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
