//! One plot as SVG: lines over time, with the phases as bands behind them.

use std::fmt::{self, Write as _};

use super::{
    Text,
    scale::{binary_ticks, decades, ticks},
};

/// Size of the drawing; the page scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 24.0;

/// Colours that the style sheet has; more lines than this take them again.
const COLOURS: usize = 8;

/// One line. A point that is not finite is a gap.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<f64>,
}

/// A phase, behind the lines.
pub(super) struct Band {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
}

/// One plot.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// What is small print under the title.
    pub(super) note: &'a str,
    /// Moments of the points, seconds.
    pub(super) times: &'a [f64],
    pub(super) lines: Vec<Line>,
    pub(super) bands: &'a [Band],
    /// How a value is written.
    pub(super) value: fn(f64) -> String,
    pub(super) steps: Steps,
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    /// Evenly, from 0.
    Even,
    /// Evenly, in a binary unit: memory.
    Binary,
    /// By powers of ten: latencies.
    Decades,
}

struct Axes {
    ticks: Vec<f64>,
    logarithmic: bool,
    last_s: f64,
}

impl Axes {
    fn x(&self, s: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (s / self.last_s).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        let share = if self.logarithmic {
            (value.max(low).log10() - low.log10()) / (high.log10() - low.log10())
        } else {
            (value - low) / (high - low)
        };
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }
}

impl Chart<'_> {
    /// Draws it, unless there is nothing to draw.
    pub(super) fn write(&self, out: &mut String) -> fmt::Result {
        let all =
            || self.lines.iter().flat_map(|line| &line.points).copied().filter(|value| value.is_finite());
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        if !least.is_finite() || most <= 0.0 {
            return Ok(());
        }
        let axes = Axes {
            ticks: match self.steps {
                Steps::Even => ticks(most, 5),
                Steps::Binary => binary_ticks(most, 5),
                Steps::Decades => decades(least, most),
            },
            logarithmic: self.steps == Steps::Decades,
            last_s: self.times.last().copied().unwrap_or(0.0).max(1e-3),
        };
        write!(
            out,
            "<figure><figcaption><b>{}</b> <small>{}</small></figcaption>",
            Text(self.title),
            Text(self.note)
        )?;
        self.legend(out)?;
        write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" data-left=\"{LEFT}\" data-right=\"{}\" \
             data-last=\"{:.3}\">",
            Text(self.title),
            WIDTH - RIGHT,
            axes.last_s
        )?;
        self.bands(out, &axes)?;
        self.grid(out, &axes)?;
        for (index, line) in self.lines.iter().enumerate() {
            self.line(out, &axes, index, line)?;
        }
        write!(out, "<line class=\"hair\" x1=\"0\" x2=\"0\" y1=\"{TOP}\" y2=\"{}\"/>", HEIGHT - BOTTOM)?;
        out.push_str("</svg></figure>\n");
        Ok(())
    }

    fn legend(&self, out: &mut String) -> fmt::Result {
        out.push_str("<div class=\"legend\">");
        for (index, line) in self.lines.iter().enumerate() {
            let most = line.points.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
            write!(
                out,
                "<span><i class=\"c{}\"></i>{} <em data-most=\"max {most}\">max {most}</em></span>",
                index % COLOURS,
                Text(&line.name),
                most = Text(&(self.value)(most))
            )?;
        }
        out.push_str("<span class=\"when\"></span></div>");
        Ok(())
    }

    fn bands(&self, out: &mut String, axes: &Axes) -> fmt::Result {
        // A name needs about this much for each of its letters.
        const LETTER: f64 = 5.2;
        let mut free_from = 0.0;
        for (index, band) in self.bands.iter().enumerate() {
            let (from, to) = (axes.x(band.from), axes.x(band.to));
            write!(
                out,
                "<rect class=\"band b{}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{}, {:.1} to {:.1} \
                 s</title></rect>",
                index % 2,
                (to - from).max(0.5),
                HEIGHT - TOP - BOTTOM,
                Text(&band.name),
                band.from,
                band.to
            )?;
            let width = band.name.chars().count() as f64 * LETTER;
            if from >= free_from && from + width <= WIDTH {
                write!(
                    out,
                    "<text class=\"phase\" x=\"{:.1}\" y=\"{}\">{}</text>",
                    from + 2.0,
                    TOP - 6.0,
                    Text(&band.name)
                )?;
                free_from = from + width + 6.0;
            }
        }
        Ok(())
    }

    fn grid(&self, out: &mut String, axes: &Axes) -> fmt::Result {
        for tick in &axes.ticks {
            let y = axes.y(*tick);
            write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5,
                Text(&(self.value)(*tick))
            )?;
        }
        for s in ticks(axes.last_s, 8).into_iter().filter(|s| *s <= axes.last_s * 1.000_1) {
            let (x, name) = (axes.x(s), seconds(s));
            write!(
                out,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>",
                HEIGHT - 8.0
            )?;
        }
        Ok(())
    }

    fn line(&self, out: &mut String, axes: &Axes, index: usize, line: &Line) -> fmt::Result {
        let mut path = String::new();
        let mut values = String::new();
        let mut pen = 'M';
        for (s, value) in self.times.iter().zip(&line.points) {
            if value.is_finite() {
                write!(path, "{pen}{:.1} {:.1}", axes.x(*s), axes.y(*value))?;
                // A point alone is seen as a dot: line caps are round.
                write!(path, "{}", if pen == 'M' { "h0" } else { "" })?;
                pen = 'L';
                write!(values, "{},", (self.value)(*value))?;
            } else {
                pen = 'M';
                values.push(',');
            }
        }
        let values = Text(values.trim_end_matches(',')).to_string();
        write!(out, "<path class=\"line c{}\" d=\"{path}\" data-v=\"{values}\"/>", index % COLOURS)
    }
}

/// A moment of a run on its axis.
fn seconds(s: f64) -> String {
    if s < 120.0 {
        format!("{} s", super::scale::short(s))
    } else {
        format!("{:.0}:{:02.0}", (s / 60.0).floor(), s % 60.0)
    }
}
