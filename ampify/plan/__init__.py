"""Planning: from a Program to a Plan of typed edits, or the reasons why there is none."""
