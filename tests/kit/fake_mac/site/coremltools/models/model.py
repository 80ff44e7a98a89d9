from pathlib import Path

import world


class MLModel:
    def __init__(
        self,
        model,
        is_temp_package=False,
        compute_units=None,
        weights_dir=None,
        function_name=None,
        optimization_hints=None,
        skip_model_load=False,
    ):
        assert skip_model_load, "a Mac would load it"
        written = Path(model, "model")  # of the tests' own kits; a real package is a folder of other names
        self.row_text = written.read_text() if written.exists() else Path(model).stem
        self.name = Path(model).stem
        self.compute_unit = compute_units
        self.function_name = function_name
        world.note("functions", self.name, function_name)
