//! Luck that repeats.
//!
//! Every draw is a function of the script's seed and of what is drawn for (model, rule, call
//! number), never of a generator that calls share: with a shared generator two calls that arrive
//! in another order would change each other's luck, and no rehearsal could be repeated. The mixing
//! is written out here because the standard library's hasher may change between releases.

use std::time::Duration;

/// A 64-bit value that stands for one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Luck(u64);

impl Luck {
    /// The start of all luck of a script.
    pub const fn seeded(seed: u64) -> Self {
        Self(mix(seed ^ 0x6d61_696e_7374_6179))
    }

    /// Luck for something named.
    #[must_use]
    pub fn of_text(self, text: &str) -> Self {
        let mut state = self.0 ^ 0xcbf2_9ce4_8422_2325;
        for byte in text.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(mix(state))
    }

    /// Luck for something numbered.
    #[must_use]
    pub const fn of_number(self, number: u64) -> Self {
        Self(mix(self.0 ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A number in `[0, 1)`.
    #[allow(clippy::cast_precision_loss)]
    pub fn share(self) -> f64 {
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `[0, below)`; 0 when `below` is 0.
    pub const fn below(self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.0 % below }
    }

    /// A draw from the standard normal distribution (Box–Muller).
    fn normal(self) -> f64 {
        let radius = (-2.0 * (1.0 - self.of_number(1).share()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.of_number(2).share()).cos()
    }
}

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Longest time that the simulator waits for anything.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// Always the same.
    Fixed(Duration),
    /// Anything between two bounds, equally likely.
    Uniform(Duration, Duration),
    /// A long tail, as real providers have: half of the draws are above the median.
    LogNormal {
        /// The middle.
        median: Duration,
        /// Width; 0.5 is mild, 1.5 is wild.
        sigma: f64,
        /// No draw is above it.
        max: Duration,
    },
}

impl Spread {
    /// The time for this luck, at most [`WAIT_MAX`].
    pub fn draw(&self, luck: Luck) -> Duration {
        let drawn = match self {
            Self::Fixed(time) => *time,
            Self::Uniform(from, to) => *from + to.saturating_sub(*from).mul_f64(luck.share()),
            Self::LogNormal { median, sigma, max } => {
                let factor = (sigma * luck.normal()).exp();
                Duration::try_from_secs_f64(median.as_secs_f64() * factor).unwrap_or(*max).min(*max)
            }
        };
        drawn.min(WAIT_MAX)
    }
}

/// Reads `250ms`, `2s`, `1m30s` or a number of seconds.
///
/// # Errors
/// Says what form was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a duration such as 250ms, 2s or 1m30s");
    let seconds = |number: &str, unit: f64| -> Result<Duration, String> {
        let number: f64 = number.parse().map_err(|_| problem())?;
        Duration::try_from_secs_f64(number * unit).map_err(|_| problem())
    };
    let mut rest = text.trim();
    if rest.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return seconds(rest, 1.0).map(|time| time.min(WAIT_MAX));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(problem()),
        };
        total = total.saturating_add(seconds(number, unit)?);
        rest = tail;
    }
    Ok(total.min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_question_has_the_same_answer_for_ever() {
        let luck = Luck::seeded(7).of_text("sim-primary").of_number(3);
        assert_eq!(luck, Luck::seeded(7).of_text("sim-primary").of_number(3));
        assert_ne!(luck, Luck::seeded(8).of_text("sim-primary").of_number(3));
        assert_ne!(luck, Luck::seeded(7).of_text("sim-primary").of_number(4));
        // Written down so that a change of the mixing is noticed: it would change every script.
        assert_eq!(luck.bits(), 16_978_378_753_617_664_385);
    }

    #[test]
    fn shares_are_even() {
        let hits = (0..10_000).filter(|n| Luck::seeded(1).of_number(*n).share() < 0.2).count();
        assert!((1_850..2_150).contains(&hits), "{hits}");
    }

    #[test]
    fn spreads_stay_inside_their_bounds() {
        let ms = Duration::from_millis;
        let uniform = Spread::Uniform(ms(10), ms(20));
        let tail = Spread::LogNormal { median: ms(100), sigma: 1.0, max: ms(900) };
        let mut above = 0;
        for n in 0..2_000 {
            let luck = Luck::seeded(3).of_number(n);
            assert!((ms(10)..=ms(20)).contains(&uniform.draw(luck)));
            assert!(tail.draw(luck) <= ms(900));
            above += u32::from(tail.draw(luck) > ms(100));
        }
        assert!((900..1_100).contains(&above), "{above}");
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("99999h"), Ok(WAIT_MAX));
        assert!(parse_duration("soon").is_err());
        assert!(parse_duration("").is_err());
        assert!(parse_duration("-1s").is_err());
    }
}
