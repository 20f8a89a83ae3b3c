"""One writer a format: lines for people, unified diffs for git, JSON for programs."""
