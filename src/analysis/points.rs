//! Text to sequences, and the points in them.

use crate::forward::sequences::Sequences;
use crate::model::Model;
use crate::protocol::options::CalibrationOptions;
use crate::protocol::text::{PointReport, PointRule};
use crate::{Error, Result};

/// Tokens of text shown for a point.
const POINT_CONTEXT_TOKENS: usize = 12;

/// Fails before the run where the number of points is too small for the estimator.
///
/// # Errors
/// [`Error::Limit`] that says how many are needed.
pub fn check_points(model: &Model, options: &CalibrationOptions, sequences: &Sequences) -> Result<()> {
    options.points.positions(sequences.tokens(), sequences.has_bos())?;
    let n_points = sequences.count() * options.points.per_sequence();
    let needed = 4 * options.neighbours;
    if n_points < needed {
        return Err(Error::Limit(format!(
            "the text gives {n_points} points to compare the layers of {} by, but {needed} are needed; \
             give a longer text, shorter sequences or more points in each",
            model.name
        )));
    }
    Ok(())
}

/// The last token's own characters, a space before a word included: what the text is longer by than without it.
/// Decoded alone it would lose that space.
fn last_token(model: &Model, ids: &[u32]) -> String {
    let Some((last, before)) = ids.split_last() else {
        return String::new();
    };
    let [before, whole] = [before, ids].map(|ids| model.tokenizer.decode(ids));
    // A part of a character is shown otherwise once the rest of it is there.
    whole.strip_prefix(&before).map_or_else(|| model.tokenizer.decode(&[*last]), str::to_owned)
}

/// Where each point comes from.
///
/// # Errors
/// [`Error::Usage`] for more points than a sequence has.
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
