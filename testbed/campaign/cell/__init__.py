"""One cell: how its guest starts, how it is run and judged, and the outcome that is written down."""
