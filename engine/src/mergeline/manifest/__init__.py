"""What production serves: one file in git, its types, its edits and its signatures."""
