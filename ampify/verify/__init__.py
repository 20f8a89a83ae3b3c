"""`ampify verify`: runs a script and its conversion side by side, and says whether they train the same."""
