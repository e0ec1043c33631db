"""The weather of an airport, read from the partitions that the model is trained on."""

from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64

partitions = FileSource(name="partitions", path="../data", timestamp_field="scheduled_at")

airport = Entity(name="airport", join_keys=["origin"], value_type=ValueType.STRING)

weather = FeatureView(
    name="weather",
    entities=[airport],
    ttl=timedelta(hours=6),  # an older report is no weather: the feature is missing then
    schema=[Field(name=name, dtype=Float64) for name in ("temp", "dewp", "humid", "wind_speed", "precip", "visib")],
    source=partitions,
    online=True,
)


@on_demand_feature_view(sources=[weather], schema=[Field(name="dew_point_spread", dtype=Float64)])
def derived(inputs: pd.DataFrame) -> pd.DataFrame:
    """The team's function, on whatever side it is asked for; Feast keeps this source alone, so the import is inside."""
    from team_functions import dew_point_spread

    return dew_point_spread(inputs)
