"""Mathematics without finance: keys, gates, smooth powers, bounded rounds."""
