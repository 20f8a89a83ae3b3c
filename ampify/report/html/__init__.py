"""The report for a reviewer: one page that needs no network, with the files side by side, and why each edit is there."""

from ampify.report.html.page import render as render
