"""One writer a format: lines and diffs for people, pages for reviewers, JSON and its kin for programs."""
