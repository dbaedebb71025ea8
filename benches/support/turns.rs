//! Two things measured in turns, and the median of their ratios.

/// The middle of some figures; the upper one of two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What `rounds` turns gave: medians of the yardstick, of what is measured, and of their ratios.
pub(crate) struct Compared {
    pub(crate) yardstick: f64,
    pub(crate) measured: f64,
    pub(crate) ratio: f64,
}

/// Yardstick, measured, yardstick, … yardstick: each measurement is held against the mean of its two neighbours.
pub(crate) fn compare(
    rounds: usize,
    mut yardstick: impl FnMut() -> anyhow::Result<f64>,
    mut measured: impl FnMut(usize) -> anyhow::Result<f64>,
) -> anyhow::Result<Compared> {
    let mut yardsticks = vec![yardstick()?];
    let (mut figures, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let before = yardsticks[round];
        let figure = measured(round)?;
        let after = yardstick()?;
        yardsticks.push(after);
        figures.push(figure);
        ratios.push(figure / ((before + after) / 2.0));
    }
    Ok(Compared { yardstick: median(yardsticks), measured: median(figures), ratio: median(ratios) })
}
