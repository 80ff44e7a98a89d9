"""Reports: what people see of a plan. Text for the terminal, figures, and later one-file HTML."""
