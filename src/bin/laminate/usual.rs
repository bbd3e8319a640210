//! What a command takes where its arguments say nothing of a text.

use laminate::{CalibrationOptions, Model, TextOptions, demo, prose};

/// Minutes that comparing layers, and compressing a model, may take together.
pub const MINUTES: f64 = 5.0;

/// Minutes that comparing layers and comparing methods may take together.
pub const COMPARING_MINUTES: f64 = 20.0;

/// Texts and their sequences for a model: stories for the demo, general prose for any other.
pub struct Usual {
    /// Whether the model is the demo.
    pub is_demo: bool,
    /// Text to calibrate on.
    pub calibration: CalibrationOptions,
    /// Text to judge on.
    pub evaluation: TextOptions,
}

impl Usual {
    /// Returns what is usual for `model`, which the user named by `argument`.
    pub fn of(argument: &str, model: &Model) -> Self {
        let is_demo = argument == demo::NAME;
        let (calibration, evaluation) = match is_demo {
            true => Default::default(),
            false => (prose::calibration(&model.config), prose::evaluation(&model.config)),
        };
        Self { is_demo, calibration, evaluation }
    }

    /// Returns the text to judge on, in sequences as long as those that `calibration` has.
    pub fn judging(&self, calibration: &CalibrationOptions) -> TextOptions {
        TextOptions { tokens: calibration.tokens, ..self.evaluation.clone() }
    }
}
