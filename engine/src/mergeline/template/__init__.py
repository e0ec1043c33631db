"""Makes a team's repository from the template."""
