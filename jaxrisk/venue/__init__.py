"""What a venue enforces: accounts, rule slots, presets."""
