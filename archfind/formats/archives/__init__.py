"""Files within zips and tars, read where they lie."""
