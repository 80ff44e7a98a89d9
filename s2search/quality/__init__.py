"""Quality across axes: what is known of designs that differ in more than their layout."""
