"""What a row of the flights data is: one scheduled departure out of New York, and whether it arrived late."""

import pandas as pd
import pandera.pandas as pa


class Flights(pa.DataFrameModel):
    """One scheduled flight. Nothing in it is known only after the departure."""

    flight_id: str = pa.Field(unique=True, str_matches=r"^[A-Z0-9]{2}\d{1,4}-[A-Z]{3}-\d{8}$")
    scheduled_at: pd.Timestamp  # local time in New York
    carrier: str = pa.Field(str_length={"min_value": 2, "max_value": 2})
    origin: str = pa.Field(isin=["EWR", "JFK", "LGA"])
    dest: str = pa.Field(str_length={"min_value": 3, "max_value": 3})
    hour: int = pa.Field(in_range={"min_value": 0, "max_value": 23})
    weekday: int = pa.Field(in_range={"min_value": 0, "max_value": 6})  # Monday is 0
    distance: float = pa.Field(in_range={"min_value": 1, "max_value": 10_000})  # miles
    temp: float = pa.Field(nullable=True, in_range={"min_value": -40, "max_value": 130})  # °F, at the origin
    dewp: float = pa.Field(nullable=True, in_range={"min_value": -60, "max_value": 100})  # °F
    humid: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 100})  # %
    wind_dir: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 360})  # degrees
    wind_speed: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 200})  # mph
    precip: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 10})  # inches
    pressure: float = pa.Field(nullable=True, in_range={"min_value": 850, "max_value": 1100})  # millibars
    visib: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 50})  # miles
    plane_year: float = pa.Field(nullable=True, in_range={"min_value": 1940, "max_value": 2030})
    seats: float = pa.Field(nullable=True, in_range={"min_value": 1, "max_value": 900})
    late: bool  # more than 15 minutes late, or never arrived
