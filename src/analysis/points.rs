//! Points of a text: their number, and where each comes from.

use crate::forward::sequences::Sequences;
use crate::model::Model;
use crate::protocol::options::CalibrationOptions;
use crate::protocol::text::{PointReport, PointRule};
use crate::{Error, Result};

/// Number of tokens of text that are shown for a point.
const POINT_CONTEXT_TOKENS: usize = 12;

/// Checks before a run that there are enough points for the metric and for the mutual-information estimator, which
/// needs `4 * options.neighbours`.
///
/// # Errors
/// [`Error::Limit`], with the number that is needed, if there are fewer points; those of
/// [`PointRule::positions`].
pub fn check_points(model: &Model, options: &CalibrationOptions, sequences: &Sequences) -> Result<()> {
    options.points.positions(sequences.tokens(), sequences.has_bos())?;
    let n_points = sequences.count() * options.points.per_sequence();
    let needed = (4 * options.neighbours).max(options.metric.least_points(options.neighbours));
    if n_points < needed {
        return Err(Error::Limit(format!(
            "the text gives {n_points} points to compare the layers of {} by, but {needed} are needed; \
             give a longer text, shorter sequences or more points in each",
            model.name
        )));
    }
    Ok(())
}

/// Returns the characters of the last token of `ids`, including a space before a word: the text of all tokens
/// without the text of the tokens before. A token decoded alone would lose that space.
fn last_token(model: &Model, ids: &[u32]) -> String {
    let Some((last, before)) = ids.split_last() else {
        return String::new();
    };
    let [before, whole] = [before, ids].map(|ids| model.tokenizer.decode(ids));
    // The text of the tokens before changes if the last token completes a character.
    whole.strip_prefix(&before).map_or_else(|| model.tokenizer.decode(&[*last]), str::to_owned)
}

/// Returns the origin of each point: sequence, position and text.
///
/// # Errors
/// [`Error::Usage`] if `rule` asks for more points than a sequence has.
pub fn point_list(model: &Model, sequences: &Sequences, rule: PointRule) -> Result<Vec<PointReport>> {
    let positions = rule.positions(sequences.tokens(), sequences.has_bos())?;
    let mut points = Vec::new();
    for (sequence, ids) in sequences.iter().enumerate() {
        let after_bos = ids.get(usize::from(sequences.has_bos())..).unwrap_or_default();
        if positions.is_empty() {
            let start = after_bos.get(..POINT_CONTEXT_TOKENS).unwrap_or(after_bos);
            let text = format!("{} …", model.tokenizer.decode(start).trim());
            points.push(PointReport { sequence, position: -1, text, token: String::new() });
        }
        for position in &positions {
            let from =
                (position + 1).saturating_sub(POINT_CONTEXT_TOKENS).max(usize::from(sequences.has_bos()));
            let context = ids.get(from..=*position).unwrap_or_default();
            let text = format!("… {}", model.tokenizer.decode(context).trim());
            let token = last_token(model, context);
            points.push(PointReport { sequence, position: *position as i64, text, token });
        }
    }
    Ok(points)
}
