"""What users hold: `Fits` of many recipes and `Sizes`, with the questions they answer, save and load."""
