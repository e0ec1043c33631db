"""Which columns the model reads, and how."""

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [
    "hour",
    "weekday",
    "distance",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
    "plane_year",
    "seats",
]
