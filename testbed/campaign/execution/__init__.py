"""Who runs the cells of a campaign: this host, or the workers of a cluster."""
