"""Round seconds of each row of `tenet bench`, for tests that do sums by hand."""

ROWS = {
    "train_step": 0.5,
    "train_step_float32": 1.0,
    "train_step_coarse": 0.1,
    "encoder_forward": 0.2,
    "encoder_forward_float32": 0.3,
    "encoder_forward_coarse": 0.04,
    "deconvolve": 0.06,
    "care_step": 0.01,
    "neuroclear_step": 0.02,
}
