"""Public results: `Fits` of many recipes and `Sizes` of a law across sizes, with decisions, save and load."""
