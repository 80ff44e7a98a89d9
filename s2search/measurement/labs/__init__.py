"""Labs of phones: profilers whose samples are jobs on somebody else's devices."""
