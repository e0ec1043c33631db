"""What a team must have set, here and on GitHub: looked at, judged, and how to fix it."""
