"""What a new repository can begin with: data, schema, pipeline and params of a problem."""
