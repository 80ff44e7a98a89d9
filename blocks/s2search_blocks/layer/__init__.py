"""What every layer shares: text attention, feed-forward, modulation and residuals around an attention."""
