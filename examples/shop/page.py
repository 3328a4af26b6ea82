"""The shop's page: a button for each request that is worth a look, and the way to its trace."""

from __future__ import annotations

import html
from pathlib import Path
from string import Template
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from examples.shop import settings

FOLDER: Final = Path(__file__).with_name("static")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)
files = StaticFiles(directory=FOLDER)


@router.get("/")
def page() -> HTMLResponse:
    template = Template((FOLDER / "index.html").read_text(encoding="utf-8"))
    return HTMLResponse(template.substitute(viewer=html.escape(settings.VIEWER_URL)), headers=HEADERS)
