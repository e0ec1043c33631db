"""Every statistic: intervals, tests and effect sizes, each with its source."""
