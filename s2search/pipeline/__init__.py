"""The whole way from a budget to a video, stage after stage, each made anew only where something before it changed."""
