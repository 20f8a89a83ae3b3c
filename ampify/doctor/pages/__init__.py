"""PAGES: the findings in an author's own mixed precision, by code."""

from ampify.doctor.base import Page
from ampify.doctor.pages import objects, regions, steps

PAGES: dict[str, Page] = {page.code: page for page in (*steps.PAGES, *objects.PAGES, *regions.PAGES)}
