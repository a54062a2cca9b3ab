"""Questions asked of posteriors: chances, ranks, forecasts."""
