//! Axes and figures that a person can read.

/// Round numbers from 0 to at least `most`, about `wanted` of them.
pub(super) fn ticks(most: f64, wanted: usize) -> Vec<f64> {
    if !(most > 0.0 && most.is_finite()) {
        return vec![0.0, 1.0];
    }
    let rough = most / wanted.max(1) as f64;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|k| k * unit).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * unit);
    let count = (most / step * 0.999_999).ceil() as usize;
    (0..=count).map(|k| k as f64 * step).collect()
}

/// Round numbers of the binary unit that suits, from 0 to at least `most`.
pub(super) fn binary_ticks(most: f64, wanted: usize) -> Vec<f64> {
    let mut unit = 1.0;
    while most / unit >= 1024.0 {
        unit *= 1024.0;
    }
    ticks(most / unit, wanted).into_iter().map(|tick| tick * unit).collect()
}

/// Powers of ten around `least` and `most`.
pub(super) fn decades(least: f64, most: f64) -> Vec<f64> {
    let from = least.max(1e-3).log10().floor() as i32;
    let to = (most.max(1e-3).log10().ceil() as i32).max(from + 1);
    (from..=to).map(|power| 10f64.powi(power)).collect()
}

/// Bytes in binary units.
pub(super) fn bytes(n: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut n, mut unit) = (n, 0);
    while n.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        n /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || n.abs() >= 100.0 { 0 } else { 1 };
    format!("{n:.digits$} {}", UNITS[unit])
}

/// A whole number with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number on an axis: 1.5k, 20M.
pub(super) fn short(n: f64) -> String {
    let (n, unit) = match n.abs() {
        m if m >= 1e9 => (n / 1e9, "G"),
        m if m >= 1e6 => (n / 1e6, "M"),
        m if m >= 1e3 => (n / 1e3, "k"),
        _ => (n, ""),
    };
    let text = format!("{n:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// So many a second.
pub(super) fn rate(n: f64) -> String {
    if n >= 100.0 { format!("{}/s", count(n.round() as u64)) } else { format!("{n:.1}/s") }
}

/// Milliseconds, in the unit that suits.
pub(super) fn ms(n: f64) -> String {
    match n {
        n if n >= 10_000.0 => format!("{:.1} s", n / 1000.0),
        n if n >= 100.0 => format!("{n:.0} ms"),
        n if n >= 1.0 => format!("{} ms", format!("{n:.1}").trim_end_matches(".0")),
        n => format!("{:.0} µs", n * 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_legible() {
        assert_eq!((count(0), count(999), count(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!((short(1500.0), short(0.25), short(2e6)), ("1.5k".into(), "0.25".into(), "2M".into()));
        assert_eq!(
            (bytes(847.0), bytes(1536.0), bytes(25e9)),
            ("847 B".into(), "1.5 KiB".into(), "23.3 GiB".into())
        );
        assert_eq!((ms(0.25), ms(2.0), ms(12_000.0)), ("250 µs".into(), "2 ms".into(), "12.0 s".into()));
        assert_eq!((rate(5.0), rate(12_345.6)), ("5.0/s".into(), "12,346/s".into()));
    }

    #[test]
    fn memory_has_binary_steps() {
        const MIB: f64 = 1_048_576.0;
        assert_eq!(binary_ticks(37.0 * MIB, 4), [0.0, 10.0 * MIB, 20.0 * MIB, 30.0 * MIB, 40.0 * MIB]);
        assert_eq!(binary_ticks(0.0, 4), [0.0, 1.0]);
    }

    proptest! {
        #[test]
        fn ticks_hold_the_most_and_are_few(most in 1e-6f64..1e15) {
            let ticks = ticks(most, 5);
            prop_assert!(ticks.len() >= 2 && ticks.len() <= 8, "{ticks:?}");
            prop_assert!(ticks[ticks.len() - 1] >= most * 0.999_99);
        }

        #[test]
        fn decades_hold_both_ends(least in 1e-3f64..1e6, times in 1.0f64..1e6) {
            let all = decades(least, least * times);
            prop_assert!(all.len() >= 2 && all[0] <= least * 1.000_1 && all[all.len() - 1] >= least * times * 0.999_9);
        }
    }
}
