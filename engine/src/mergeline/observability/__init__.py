"""What operators look at: the dashboard for the metrics of the server and of watch."""
