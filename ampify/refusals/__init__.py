"""The manual pages of refusals, by code: why the file is left alone, and the change by hand that lets it be converted."""

from ampify.refusals import files, forward, gradients, steps
from ampify.refusals.page import Page

PAGES: dict[str, Page] = {**steps.PAGES, **gradients.PAGES, **forward.PAGES, **files.PAGES}
