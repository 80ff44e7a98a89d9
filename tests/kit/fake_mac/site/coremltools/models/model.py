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
        self.row_text = Path(model, "model").read_text()
        self.name = Path(model).stem
        self.compute_unit = compute_units
        self.function_name = function_name
        world.note("functions", self.name, function_name)
