"""Reading: from a syntax tree to a Program. Nothing here changes a tree."""
