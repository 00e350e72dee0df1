//! Step charts as SVG: a value that holds until it changes, over real time.
//!
//! Written by hand and not by a plotting library, so that colours come from the page (light and dark) and the chart is
//! nothing but a few paths. Pixels are the only place where figures become floating point.

use std::fmt::Write as _;

use nexus_engine::ids::Timestamp;
use nexus_engine::units::Money;

use super::amounts::money;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 18.0;
/// Grid lines that are aimed at.
const LINES: f64 = 4.0;
/// Dates along the time axis.
const DATES: i64 = 5;

/// A chart.
pub(super) struct Chart<'a> {
    /// What it is called, for whoever cannot see it.
    pub(super) title: &'a str,
    /// The class that colours it.
    pub(super) class: &'a str,
    /// From when, how much; oldest first.
    pub(super) points: &'a [(Timestamp, Money)],
    /// What held before the first point.
    pub(super) start: Money,
    /// The span of time, shared by charts that stand under each other.
    pub(super) span: (Timestamp, Timestamp),
    pub(super) height: f64,
    /// Whether the area between the line and zero is filled.
    pub(super) filled: bool,
    /// Whether the dates are written beneath.
    pub(super) dated: bool,
}

impl Chart<'_> {
    /// The chart as an element of a page.
    pub(super) fn to_svg(&self) -> String {
        let scale = self.scale();
        let line = self.line(&scale);
        let mut svg = format!(
            "<svg class=\"chart {}\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
            self.class, self.height, self.title
        );
        // Writing to a String cannot fail.
        for steps in scale.ticks() {
            let (y, label) = (scale.y(steps), money(Money::from_steps(steps)));
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5
            );
        }
        if self.dated {
            for at in self.dates() {
                let (x, y) = (scale.x(at), self.height - 4.0);
                let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", at.day());
            }
        }
        if self.filled {
            let zero = scale.y(0);
            let _ = write!(svg, "<path class=\"area\" d=\"M{LEFT} {zero:.1}L{}V{zero:.1}Z\"/>", &line[1..]);
        }
        let _ = write!(svg, "<path class=\"line\" d=\"{line}\"><title>{}</title></path></svg>", self.title);
        svg
    }

    /// One path: along until something changes, then up or down.
    fn line(&self, scale: &Scale) -> String {
        let mut path = format!("M{LEFT:.1} {:.1}", scale.y(self.start.steps()));
        for (at, value) in self.points {
            // Writing to a String cannot fail.
            let _ = write!(path, "H{:.1}V{:.1}", scale.x(*at), scale.y(value.steps()));
        }
        let _ = write!(path, "H{:.1}", WIDTH - RIGHT);
        path
    }

    fn dates(&self) -> impl Iterator<Item = Timestamp> {
        let (from, to) = (self.span.0.micros(), self.span.1.micros());
        (0..DATES).map(move |n| Timestamp::from_micros(from + (to - from) / DATES * n + (to - from) / (DATES * 2)))
    }

    fn scale(&self) -> Scale {
        let values = || self.points.iter().map(|(_, value)| value.steps()).chain([self.start.steps()]);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        let step = nice_step(high - low);
        let (low, high) = (low.div_euclid(step) * step, -((-high).div_euclid(step)) * step);
        Scale { low, high: high.max(low + step), step, span: self.span, height: self.height, dated: self.dated }
    }
}

/// How values and times become places.
struct Scale {
    low: i64,
    high: i64,
    step: i64,
    span: (Timestamp, Timestamp),
    height: f64,
    dated: bool,
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "a pixel needs no more digits")]
    fn y(&self, steps: i64) -> f64 {
        let bottom = self.height - if self.dated { BOTTOM } else { TOP };
        let share = (steps - self.low) as f64 / (self.high - self.low) as f64;
        bottom - share * (bottom - TOP)
    }

    #[expect(clippy::cast_precision_loss, reason = "a pixel needs no more digits")]
    fn x(&self, at: Timestamp) -> f64 {
        let (from, to) = (self.span.0.micros(), self.span.1.micros());
        let share = (at.micros() - from) as f64 / (to - from).max(1) as f64;
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn ticks(&self) -> impl Iterator<Item = i64> {
        let (low, step) = (self.low, self.step);
        (0..=(self.high - self.low) / step).map(move |n| low + n * step)
    }
}

/// One, two or five times a power of ten, so that some four of it span `range`.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a grid line needs no more digits")]
fn nice_step(range: i64) -> i64 {
    let rough = (range as f64 / LINES).max(1_000_000.0);
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
    (factor * power).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_lines_stand_at_round_values() {
        for (range, expected) in [("100", "50.00"), ("9.99", "5.00"), ("0.30", "0.10"), ("4321", "2000.00")] {
            let range: Money = range.parse().expect("an amount");
            let step = Money::from_steps(nice_step(range.steps()));
            assert_eq!(step.to_string(), expected, "{range}");
        }
    }

    #[test]
    fn a_line_holds_until_it_changes() {
        let hour = |n: i64| Timestamp::from_micros(n * 3_600_000_000);
        let chart = Chart {
            title: "t",
            class: "equity",
            points: &[(hour(5), Money::whole(110))],
            start: Money::whole(100),
            span: (hour(0), hour(10)),
            height: 116.0,
            filled: false,
            dated: false,
        };
        // From 100 (at the bottom) to 110 (at the top), in the middle of the time.
        assert_eq!(chart.line(&chart.scale()), "M64.0 108.0H388.0V8.0H712.0");
    }
}
