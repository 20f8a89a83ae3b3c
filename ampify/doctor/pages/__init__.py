"""PAGES: the findings in an author's own mixed precision, by code; MENDS: what the edits of those that are mended do."""

from ampify.doctor.base import Page
from ampify.doctor.pages import graphs, objects, regions, schedules, steps, switches

PAGES: dict[str, Page] = {
    page.code: page for page in (*steps.PAGES, *objects.PAGES, *schedules.PAGES, *regions.PAGES, *switches.PAGES, *graphs.PAGES)
}

MENDS = {
    "AMP301": "unscales the gradients before they are looked at",
    "AMP303": "updates the scale after the step",
    "AMP305": "steps the optimizer through the scaler",
    "AMP306": "scales the loss before the backward pass",
    "AMP310": "keeps the scaler's state beside the optimizer's",
}
