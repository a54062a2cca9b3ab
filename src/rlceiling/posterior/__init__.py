"""What a fit returns: draws, checks, verdicts, tables, ArviZ export, save and load."""
